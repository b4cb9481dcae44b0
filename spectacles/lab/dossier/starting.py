"""Finds out which of a folder's programs is the server, and how it is started: folder, arguments, lines typed.

The server is whoever comes to wait for requests after having made a queue, FIFOs, a listening socket. Arguments are
told by a usage message, by the options of getopt() and the uses of argv in the source, and else tried; lines that it
asks for at its start are answered as its questions hint.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from spectacles.lab.dossier import hints, tasks
from spectacles.lab.dossier.building import CLIENT, SERVER
from spectacles.lab.dossier.driving import SETTLED, STARTING, STEP, Bench, NotReadyError
from spectacles.lab.dossier.profile import Channel
from spectacles.lab.gate.events import Kind
from spectacles.lab.gate.supervisor import GateError
from spectacles.lab.programs.world import WorldError

if TYPE_CHECKING:
    from spectacles.lab.dossier.building import Built, Executable
    from spectacles.lab.dossier.profile import Profile
    from spectacles.lab.gate.events import Event
    from spectacles.lab.programs.world import Program

MOST_LINES = 12  # typed to a server at its start
MOST_TRIES = 6  # ways of starting one program
MOST_PROGRAMS = 8
LISTENING = r"\b(?:listen|accept|mq_receive|msgrcv|mkfifo|recvfrom)\s*\(|socketserver|\.listen\(|\.accept\("
CALLING = r"\bconnect\s*\(|\.connect\(|O_WRONLY"
_MADE = {"msgget": "queue", "mkfifo": "fifo", "bind": "tcp", "mq_open": "posix queue"}


def likeness(program: Executable, wanted: str, question: int, text: str = "") -> int:
    """Return how much a program looks like what is wanted, "server" or "client". text: its source."""
    name = program.path.lower()
    base = name.rpartition("/")[2]
    server, client = (2 if pattern.search(base) else 1 if pattern.search(name) else 0 for pattern in (SERVER, CLIENT))
    mine, other = (server, client) if wanted == "server" else (client, server)
    score = 2 * (mine > 0) - (other > mine) - (other > 0 and not mine)
    if text:
        listens, calls = hints.has(LISTENING, text), hints.has(CALLING, text)
        score += (listens and not calls) if wanted == "server" else (calls and not listens)
    if question:
        numbers = re.findall(r"q(?:uestion)?[_-]?(\d)", name)
        numbers += re.findall(r"(?:^|/)[a-z_]+(\d)(?:\.\w+)?$", name)
        score += 4 if str(question) in numbers else -4 if numbers else 0
        if wanted == "client" and question in (3, 4) and "2" in numbers:
            score += 6  # the point of these questions is that the client does not change
    return score


def source(built: Built, program: Executable) -> str:
    """Return the text of a program's sources, a part of it if they are long."""
    found = []
    for name in program.sources:
        try:
            found.append((built.folder / name).read_text(errors="replace")[: 1 << 17])
        except OSError:
            continue
    return "\n".join(found)


def find_server(built: Built, profile: Profile, patience: float) -> tuple[Profile, Channel]:
    """Return the profile with a server command that has been seen to serve, and what it made to be spoken to.

    Raises NotReadyError when nothing can be started that serves.
    """
    if profile.server:
        watched = watch(built, profile, patience)
        return dataclasses.replace(profile, server_lines=watched.lines), watched.channel
    failures: list[str] = []
    found: list[tuple[int, Profile, Channel]] = []
    texts = {program.path: source(built, program) for program in built.programs}
    candidates = sorted(built.programs, key=lambda one: -likeness(one, "server", profile.question, texts[one.path]))
    best = likeness(candidates[0], "server", profile.question, texts[candidates[0].path]) if candidates else 0
    for program in candidates[:MOST_PROGRAMS]:
        if best > 0 > likeness(program, "server", profile.question, texts[program.path]):
            break  # one that is called client serves nobody
        tries = [(program.words, program.folder)]
        done: list[tuple[tuple[str, ...], str]] = []
        libraries: dict[str, Any] = {}
        while tries and len(done) < MOST_TRIES:
            command, folder = tries.pop(0)
            if (command, folder) in done:
                continue
            done.append((command, folder))
            trial = dataclasses.replace(profile, server=command, server_folder=folder, **libraries)
            try:
                watched = watch(built, trial, patience)
            except (NotReadyError, WorldError, GateError) as error:
                if len(done) == 1 or not failures:
                    failures.append(f"{program.path} : {error}")
                if "loading shared libraries" in str(error) and not libraries:
                    where = {"LD_LIBRARY_PATH": ".:lib:.."}
                    libraries = {"server_env": where, "client_env": where}
                    tries.insert(0, (command, folder))
                    done.clear()
                    continue
                if len(done) == 1 or command[-1] in ("--help", "--usage", "-h"):
                    tries += _ways(built, program, str(error), texts[program.path])
                help_ = re.search(r"(?<![\w-])(?:--help|--usage|-h)(?!\w)", str(error))
                if len(done) == 1 and help_ and not hints.usage(str(error)):
                    tries.insert(0, ((*command, help_[0]), folder))
                continue
            likely = likeness(program, "server", profile.question, texts[program.path])
            score = likely + (3 if watched.channel.kind else 0) - (2 if watched.terminal else 0)
            found.append((score, dataclasses.replace(trial, server_lines=watched.lines), watched.channel))
            break
        if found and found[-1][0] >= 4:
            break
    if not found:
        raise NotReadyError("aucun programme ne sert : " + " ; ".join(failures[:3]))
    _, chosen, channel = max(found, key=lambda row: row[0])
    return chosen, channel


def _ways(built: Built, program: Executable, said: str, text: str) -> list[tuple[tuple[str, ...], str]]:
    """Return other ways to start a server that does not come to serve: arguments, its own folder."""
    command, folder = program.words, program.folder
    ways = [((*command, *more), folder) for more in arguments(built, said, text, "server") if more]
    own = os.path.dirname(program.path)
    if own and folder == "." and len(command) == 1:
        ways.append(((f"./{os.path.basename(program.path)}",), own))
    elif folder != ".":
        ways.append(((f"./{program.path}",), "."))
    return ways


def arguments(
    built: Built, said: str, text: str, side: str, port: str = "", names: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """Return what may be a program's arguments, the likeliest first. said: what it printed. text: its source."""
    files = sorted(
        name.name
        for name in built.folder.iterdir()
        if name.is_file()
        and name.suffix in (".txt", ".csv", ".dat", ".cfg", ".conf")
        and "readme" not in name.name.lower()
    )
    found: list[tuple[str, ...]] = []

    def value(word: str) -> str:
        if names and hints.has(r"fifo|tube|pipe|key|clef|clé", word):
            return names[0]
        return hints.argument(word, side, port=port, files=files)

    wanted = hints.usage(said) or hints.usage(text_of_usage(text))
    if wanted:
        for optional in (False, True):
            words: list[str] = []
            for number, word in enumerate(wanted):
                bare = word.strip("[](){}")
                if bare.startswith("-") and len(bare) > 1:
                    follows = wanted[number + 1] if number + 1 < len(wanted) else ""
                    if (optional or not word.startswith("[")) and follows and not follows.strip("[").startswith("-"):
                        words.append(bare)
                    continue
                flag = wanted[number - 1] if number else ""
                if word.startswith("[") and not optional:
                    continue
                if flag.startswith("[-") and not optional:
                    continue
                words.append(value(word))
            found.append(tuple(words))
    switches = hints.switches(text)
    if switches:
        found.append(tuple(word for letter, use in switches for word in (f"-{letter}", value(use or letter))))
    taken = hints.taken_arguments(text)
    if taken:
        found.append(tuple(value(use) for use in taken))
    if side == "server":
        found += [("5000",), ("10",), ("5", "5")]
    else:
        host = (("127.0.0.1", port), (port,), ("127.0.0.1",)) if port else (("{pid}",),)
        found += [*host, ("{client}",)]
    return list(dict.fromkeys(one for one in found if one))


def text_of_usage(text: str) -> str:
    """Return the usage messages that a source prints, as far as they are plain."""
    found = re.findall(r'"((?:[^"\\\n]|\\.)*(?:[Uu]sage|USAGE|[Uu]tilisation|[Uu]so)(?:[^"\\\n]|\\.)*)"', text)
    return "\n".join(line.replace("\\n", "\n").replace("%s", "programme") for line in found)


# Watching a server start


@dataclasses.dataclass(frozen=True)
class Watched:
    """What was seen of a server that has come to serve. terminal: whether it waits for the keyboard as well."""

    channel: Channel
    terminal: bool
    lines: tuple[str, ...]


def watch(built: Built, profile: Profile, patience: float) -> Watched:
    """Start a server alone until it serves, answering what it asks first. Raises NotReadyError, with its output."""
    with Bench(built.folder, profile, patience=min(patience, 2.0), gated=True) as bench:
        assert bench.gate is not None
        lines = profile.server_lines
        try:
            if lines:
                bench.serve()
            else:
                program = bench.serve(wait=False)
                lines = _answer(bench, program)
                bench.wait_ready(program, lines=())
        except NotReadyError as error:
            server = bench.server
            if server is not None and server.code == 0 and any(one.serves for one in bench.server_tasks()):
                why = "le serveur passe à l'arrière-plan : il faut l'option qui l'en empêche, dans [server] command"
                raise NotReadyError(why) from None
            raise NotReadyError(f"{error}\n{server.output() if server is not None else ''}") from None
        gate, server = bench.gate, bench.serving
        if not any(one.serves for one in bench.server_tasks()):  # still busy: a virtual machine takes its time
            bench.until(lambda: bool(channel(gate.events()).kind) or server.code is not None, STARTING)
        terminal = any(one.reads_terminal for one in bench.server_tasks())
        return Watched(channel(gate.events()), terminal, lines)


def _answer(bench: Bench, program: Program) -> tuple[str, ...]:
    """Answer the questions that a server asks before it serves; return what was typed."""
    typed: list[str] = []
    answered: dict[int, int] = {}
    asked: dict[str, int] = {}
    last: dict[int, int] = {}
    quiet = since = 0.0
    size = -1
    deadline = time.monotonic() + bench.patience
    while program.code is None and time.monotonic() < deadline and len(typed) < MOST_LINES:
        doing = tasks.look(program.tree())
        now = {one.tid: one.switches for one in doing}
        if now != last or not any(one.serves for one in doing):
            last, quiet = now, time.monotonic()
        elif time.monotonic() - quiet > SETTLED and bench.gate is not None and bench.gate.at_rest():
            break
        reader = next((one for one in doing if one.reads_terminal and answered.get(one.tid) != one.switches), None)
        if reader is None:
            since = 0.0
        elif not since or program.printed != size:
            since, size = time.monotonic(), program.printed
        elif time.monotonic() - since > SETTLED:
            question = hints.last_line(program.output())
            again = asked.get(hints.shape(question), 0)
            asked[hints.shape(question)] = again + 1
            answered[reader.tid] = reader.switches
            line = _line(question, again)
            program.type(line)
            typed.append(line)
            since, deadline = 0.0, time.monotonic() + bench.patience
        time.sleep(STEP)
    return tuple(typed)


def _line(question: str, again: int) -> str:
    """Return what is typed to a question of a server."""
    menu = hints.options(question)
    if menu:
        return menu[0][0]
    if hints.has(hints.ENTER, question) or re.search(r"[\[(]\s*\w+\s*/\s*\w+\s*[\])]", question):
        return hints.answers(question)[0]
    return (hints.argument(question, "server"), "5", "100", "A", "1")[min(again, 4)]


def channel(events: Iterable[Event]) -> Channel:
    """Return what a server has made to be spoken to by."""
    names: dict[str, list[str]] = {}
    for event in events:
        if event.kind is Kind.CALL and event.call in _MADE:
            if event.call == "msgget" and "IPC_CREAT" not in str(event.arguments.get("flags")):
                continue
            kind, name = _MADE[event.call], event.object
            if event.call == "bind":
                name = str(event.arguments.get("address"))
                port = re.fullmatch(r"[^@/].*:(\d+)", name)  # not of a socket with a path
                kind, name = ("tcp", f"port {port[1]}") if port else ("unix", name)
            names.setdefault(kind, []).append(name)
    for kind in ("queue", "posix queue", "fifo", "tcp", "unix"):
        if kind in names:
            return Channel(kind, tuple(dict.fromkeys(names[kind])))
    return Channel()


def sizes(events: Sequence[Event]) -> dict[str, tuple[int, ...]]:
    """Return the sizes of what was sent, by who sends on what."""
    found: dict[str, list[int]] = {}
    fifos = {event.object for event in events if event.call == "mkfifo"}
    for event in events:
        if event.kind is not Kind.CALL or event.call not in ("msgsnd", "mq_send", "send", "write"):
            continue
        what = re.sub(r" #\d+$", "", event.object)
        if event.call == "write" and not what.startswith("connection") and what not in fifos:
            continue
        size = event.arguments.get("size")
        side = "client" if event.task.startswith("A") else "server"
        row = found.setdefault(f"{side} {event.call} {what}", [])
        if isinstance(size, int) and size not in row:
            row.append(size)
    return {name: tuple(row[:8]) for name, row in list(found.items())[:12]}
