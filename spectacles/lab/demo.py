"""`spectacles demo [Q...]`: every question at work, with real servers and real clients, then the accounts.

For each question a server (for x1_sessions: three) runs in a temporary directory. Several clients, each a process of
its own for each command, consult and reserve at the same time (one at a time in question 1, which serves one). All want
the smallest show, so that some are refused. Then the seats are counted, in the server's answer and where the table is.
"""

from __future__ import annotations

import contextlib
import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import cli, invocation
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, EXIT_REFUSED
from spectacles.common.lifecycle import program
from spectacles.common.spectacle import unpack_table
from spectacles.lab.display import terminal
from spectacles.lab.judge.accounts import add_up, kept_table, seats_in_file
from spectacles.lab.kernel.processes import thread_count
from spectacles.lab.programs.process import FURTHER, QUESTIONS, TCP, UTF8, ServerError, ServerProcess
from spectacles.x3_cluster.node import etcd_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from spectacles.common.spectacle import Spectacle

CLIENTS = 4
CLIENT_TIMEOUT = 15.0  # seconds for one client process, its start included
TITLES = {
    "q1_pipes": "cinq tubes nommés, deux fils, un seul client",
    "q2_msq": "une file de messages, deux fils",
    "q3_threads": "une file de messages, deux threads",
    "q4_thread_per_request": "une file de messages, un thread par requête",
    "q5_sockets": "TCP, un thread par connexion",
    "x1_sessions": "une file de messages, trois serveurs",
    "x2_basket": "et pour aller plus loin : un panier par connexion",
    "x3_cluster": "et pour aller plus loin : la table dans etcd, des serveurs sur plusieurs machines",
}
SERVERS = {"x1_sessions": 3}  # instead of one
# Threads that come and go too fast to be counted from outside: said in the table, not counted.
SHORT_LIVED = dict.fromkeys(("q4_thread_per_request", *TCP), " + n")
# --step: what to look at, said before it is to be seen.
LOOK = {
    "q1_pipes": "Un seul client : le journal ne dit que « tube », car un tube ne sait pas qui y écrit, et une réponse"
    " n'y a pas d'adresse. Trois processus : le père attend, un fils consulte, l'autre réserve.",
    "q2_msq": "Quatre clients à la fois : le journal les distingue par leur PID, qui est aussi le type de leur réponse."
    " Toujours trois processus ; la table est en mémoire partagée, sous un sémaphore.",
    "q3_threads": "Les mêmes clients, sans un octet de changé : ils ne voient pas que deux threads ont remplacé deux"
    " processus. Dans les comptes, à la fin : un processus au lieu de trois.",
    "q4_thread_per_request": "Un thread par requête : une réservation qui attend le disque n'arrête plus personne, et"
    " les lignes du journal peuvent se doubler. Qui veut les 12 dernières places en aura-t-il trop ?",
    "q5_sockets": "Plus de PID : « connecté », « déconnecté », une adresse et un port. La connexion elle-même mène la"
    " réponse à son client, qui pourrait être sur une autre machine.",
    "x1_sessions": "Trois serveurs pour une file, et le journal dit par son PID lequel répond : celui qui attend depuis"
    " le plus longtemps. Ils partagent la table, sous un sémaphore que le noyau reprend aux morts. Un client qui"
    " garde le menu ouvert, lui, reste avec le serveur qui lui a répondu.",
    "x2_basket": "Le serveur se souvient : chacun met des places au panier, puis confirme, tout ou rien. Qui arrive"
    " trop tard est refusé, et ce qu'il tenait déjà est rendu dès qu'il s'en va : le journal dit combien.",
    "x3_cluster": "Deux processus : le serveur, et etcd, qui garde la table. Le serveur n'a rien qu'il perdrait en"
    " mourant : d'autres, ailleurs, vendraient les mêmes places. Qui vend écrit à condition que rien n'ait changé.",
}
COLOURS = ("cyan", "magenta", "yellow", "green", "blue")
_DATE_AND_LEVEL = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ +")


@dataclass
class Result:
    """What one question has come to. Seats are sums over all shows."""

    question: str
    initial: int = 0
    sold: int = 0
    left: int = -1
    left_in_file: int = -1
    refused: int = 0
    processes: int = 0
    threads: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def correct(self) -> bool:
        """Whether the seats add up, in the answer and in the file, and nothing went wrong on the way."""
        return add_up(self.initial, self.sold, self.left, self.left_in_file) and not self.problems


class Clients:
    """The people at the counter: threads that run one client process after the other.

    server: whom they ask. lines: gets (who, line) for each line that a client prints.
    """

    def __init__(self, server: ServerProcess, lines: queue.SimpleQueue[tuple[str, str]]) -> None:
        self._server = server
        self._lines = lines
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._running: set[subprocess.Popen[str]] = set()
        self._threads: list[threading.Thread] = []
        self.sold: dict[int, int] = {}
        self.refused = 0
        self.problems: list[str] = []

    def start(self, who: str, script: Sequence[tuple[str, ...]]) -> None:
        """Run the commands of `script` one after the other, in a thread."""
        thread = threading.Thread(target=self._run, args=(who, script), daemon=True)
        self._threads.append(thread)
        thread.start()

    def busy(self) -> bool:
        """Say whether a client is still at work."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """End what runs, and wait for it."""
        with self._lock:
            self._stopped.set()
            for process in self._running:
                process.kill()
        for thread in self._threads:
            thread.join()

    def _run(self, who: str, script: Sequence[tuple[str, ...]]) -> None:
        for command in script:
            with self._lock:
                if self._stopped.is_set():
                    return
                process = subprocess.Popen(
                    self._server.client_command(*command),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    env=UTF8,
                    start_new_session=True,
                )
                self._running.add(process)
            try:
                output, _ = process.communicate(timeout=CLIENT_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                output += f"pas fini en {CLIENT_TIMEOUT:g} s"
            with self._lock:
                self._running.discard(process)
                if self._stopped.is_set():
                    return
                self._account(command, process.returncode, output)
            lines = output.splitlines()
            said = f" {lines[0]}" if len(lines) == 1 else ""
            self._lines.put((who, f"{' '.join(command)} →{said}"))
            for line in lines if not said else ():
                self._lines.put((who, f"    {line}"))

    def _account(self, command: tuple[str, ...], code: int, output: str) -> None:
        if code not in (EXIT_DONE, EXIT_REFUSED):
            self.problems.append(f"client « {' '.join(command)} » : code {code} : {output.strip()}")
        elif code == EXIT_REFUSED:
            self.refused += 1
        elif command[0] == "reserve" or command[-1] == "confirm":
            for place, word in enumerate(command):
                if word in ("reserve", "hold"):
                    show, seats = int(command[place + 1]), int(command[place + 2])
                    self.sold[show] = self.sold.get(show, 0) + seats


def scripts(question: str, shows: list[tuple[int, Spectacle]]) -> list[list[tuple[str, ...]]]:
    """Return what each client asks: all want 5/12 of the smallest show, and each some seats of another one."""
    slot, smallest = min(shows, key=lambda known: known[1].places)
    wanted = max(smallest.places * 5 // 12, 1)
    others = [other for other, _ in shows if other != slot] or [slot]
    greedy = ("reserve", str(slot), str(wanted))
    if question == "q1_pipes":
        own = ("reserve", str(others[0]), "2")
        return [[("list",), greedy, ("consult", str(slot)), greedy, greedy, own, ("consult", str(others[0]))]]
    if question == "x2_basket":
        first = [("list",), *(("consult", str(slot)) for _ in range(CLIENTS - 1))]
        return [
            [
                first[number],
                ("basket", "hold", other, "2", "hold", str(slot), str(wanted), "confirm"),
                ("basket", "hold", other, "3"),
                ("consult", str(slot)),
            ]
            for number, other in zip(range(CLIENTS), map(str, others * CLIENTS), strict=False)
        ]
    return [
        [
            ("list",) if number == 0 else ("consult", str(slot)),
            greedy,
            ("reserve", str(others[number % len(others)]), str(number + 1)),
            ("consult", str(slot)),
        ]
        for number in range(CLIENTS)
    ]


def run_question(question: str, screen: Console, interrupts: terminal.Interrupts) -> Result:
    """Run one question from start to stop, showing what is said."""
    result = Result(question)
    started = time.monotonic()
    lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_noting(result))
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="spectacles-demo-"))
        servers: list[ServerProcess] = []
        for _ in range(SERVERS.get(question, 1)):
            with interrupts.held():
                servers.append(ServerProcess(question, directory, echo=lambda line: lines.put(("serveur", line))))
                stack.callback(_stop, servers[-1], lines, screen, result)
            servers[-1].wait_ready()
        shows = _file(directory)
        server = servers[0]
        clients = Clients(server, lines)
        stack.callback(clients.stop)
        result.initial = sum(show.places for _, show in shows)
        pids = [pid for one in servers for pid in one.tree()]
        result.processes = len(pids)
        result.threads = sum(thread_count(pid) for pid in pids)
        for number, script in enumerate(scripts(question, shows), 1):
            clients.start(f"client {number}", script)
        while clients.busy():
            _show(lines, screen, 0.05)
        _show(lines, screen)
        result.sold, result.refused, result.problems = sum(clients.sold.values()), clients.refused, clients.problems
        final = server.client("--json", "list", timeout=CLIENT_TIMEOUT)
        if final.returncode != EXIT_DONE:
            result.problems.append(f"client « list » : code {final.returncode} : {final.stderr.strip()}")
        else:
            left = {show["index"]: show["places"] for show in json.loads(final.stdout)["shows"]}
            result.left = sum(left.values())
            expected = {slot: show.places - clients.sold.get(slot, 0) for slot, show in shows}
            if left != expected:
                result.problems.append(f"places restantes {left}, attendues {expected}")
    result.seconds = time.monotonic() - started
    return result


@contextlib.contextmanager
def _noting(result: Result) -> Iterator[None]:
    """Make a server that does not start, or a client that hangs, a line in the result."""
    try:
        yield
    except (ServerError, subprocess.TimeoutExpired) as error:
        result.problems.append(str(error))


def _file(directory: str) -> list[tuple[int, Spectacle]]:
    return unpack_table(kept_table(Path(directory)))


def _stop(server: ServerProcess, lines: queue.SimpleQueue[tuple[str, str]], screen: Console, result: Result) -> None:
    """Stop the server, show its last words, count what it has left in the file."""
    try:
        code = server.stop()
        if code != EXIT_DONE:
            result.problems.append(f"serveur : code de sortie {code}")
    except ServerError as error:
        result.problems.append(str(error))
    with contextlib.suppress(OSError, ValueError):
        result.left_in_file = sum(seats_in_file(server.directory).values())
    _show(lines, screen)


def _show(lines: queue.SimpleQueue[tuple[str, str]], screen: Console, wait: float = 0.0) -> None:
    """Print what has been said until now; wait for the first line `wait` seconds at most."""
    from rich.text import Text

    with contextlib.suppress(queue.Empty):
        while True:
            who, line = lines.get(timeout=wait) if wait else lines.get_nowait()
            colour = COLOURS[int(who.split()[1]) % len(COLOURS)] if who != "serveur" else "white"
            text = Text(f"{who:<8} │ ", style=f"bold {colour}")
            text.append(terminal.harmless(_DATE_AND_LEVEL.sub("", line)), style="" if who == "serveur" else colour)
            screen.print(text, soft_wrap=True)


def wait_for_a_key(question: str, screen: Console) -> None:
    """Say what to look at in `question`, and wait until somebody presses Enter. Blocks; not at the end of the input."""
    tied = re.sub(r" (?=[:;?!»])|(?<=«) ", "\u00a0", LOOK[question])  # no line begins with a sign that French sets off
    screen.print(tied, style="italic", markup=False)
    screen.print("Entrée pour commencer : ", end="")
    if not sys.stdin.readline().endswith("\n"):
        screen.print()


def table_of(results: list[Result]) -> object:
    """Return the closing table, for rich to print."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title="Les comptes, en places", title_style="bold", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    table.add_column("question", overflow="fold")
    for heading in ("départ", "vendues", "reste", "refus"):
        table.add_column(heading, justify="right", overflow="fold")
    for heading, justify in (("somme", "left"), ("proc.", "right"), ("threads", "left")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for result in results:
        verdict = "[bold green]exacte[/bold green]" if result.correct else "[bold red]FAUSSE[/bold red]"
        table.add_row(
            result.question,
            str(result.initial),
            str(result.sold),
            str(result.left),
            str(result.refused),
            verdict,
            str(result.processes),
            f"{result.threads}{SHORT_LIVED.get(result.question, '')}",
        )
    return table


def whatever_runs_here(screen: Console) -> list[str]:
    """Return all there is to show, and say what this machine lacks the program for."""
    if etcd_program() is None:
        screen.print("x3_cluster est laissée de côté : etcd n'est pas installé (apt install etcd-server)", style="dim")
        return [question for question in (*QUESTIONS, *FURTHER) if question != "x3_cluster"]
    return [*QUESTIONS, *FURTHER]


@program
def main(argv: list[str] | None = None) -> int:
    """Run the demonstration: 0 when every sum is right, 1 otherwise."""
    parser = cli.Parser(
        prog=invocation.name("spectacles demo"),
        description="Pour chaque question : un vrai serveur, de vrais clients en même temps, puis les comptes.",
        epilog="exemples : spectacles demo 2 5 ; spectacles demo --step\n"
        "code de sortie : 0 toutes les sommes sont exactes, 1 sinon.",
    )
    terminal.add_questions(parser, further=True)
    parser.add_argument(
        "--step", action="store_true", help="dit avant chaque question ce qu'il faut regarder, et attend Entrée"
    )
    options = parser.parse_args(argv)
    screen = terminal.console()
    results = []
    with terminal.Interrupts() as interrupts:
        for question in options.questions or whatever_runs_here(screen):
            screen.rule(f"[bold]{question}[/bold] : {TITLES[question]}", align="left")
            if options.step:
                wait_for_a_key(question, screen)
            results.append(run_question(question, screen, interrupts))
    screen.print()
    screen.print(table_of(results))
    screen.print(
        "somme : départ = vendues + reste, dans la réponse du serveur et là où la table est gardée", style="dim"
    )
    screen.print("n : un thread par requête (q4), par connexion (q5, x2, x3), le temps qu'elle dure", style="dim")
    for result in results:
        for problem in result.problems:
            said = terminal.harmless(problem)
            screen.print(f"{result.question} : {said}", style="bold red", markup=False, soft_wrap=True)
    return EXIT_DONE if all(result.correct for result in results) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
