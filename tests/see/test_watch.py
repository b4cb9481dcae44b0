"""`spectacles watch`: once, as JSON, and on a real terminal with keys, a window that changes, and signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spectacles.common.protocol import LIST_REQUEST
from spectacles.lab.watch.rows import pad
from spectacles.lab.watch.screen import cut, keys
from tests import helpers
from tests.see.conftest import Stuck, TestQueue, dead_pid
from tests.see.terminal import Terminal

WATCH = [sys.executable, "-m", "spectacles", "watch"]


def watch(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `spectacles watch` to its end, with pipes around it."""
    return helpers.run([*WATCH, *(str(word) for word in arguments)])


# Once


def test_once(server: helpers.Servers, question: str) -> None:
    """By directory and by question: every task and every object, 0 as nothing is wrong, and no control sequence."""
    guichet = server(question)
    for arguments in ((guichet.directory,), (question[1], "--dir", guichet.directory), ("--pid", guichet.pid)):
        done = watch(*arguments, "--once")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "\x1b" not in done.stdout
        assert "…" not in done.stdout
        for pid in guichet.tree():
            assert re.search(rf"^{pid} ", done.stdout, re.MULTILINE)
        if "--pid" not in arguments:
            assert question in done.stdout.splitlines()[0]
            assert "spectacles.dat" in done.stdout


def test_exit_codes(tmp_path: Path, stuck: Stuck) -> None:
    """0, 1, 2 and 3 as --help has them, each with one line."""
    assert watch("--help").returncode == 0
    alarm = watch("--pid", stuck("self"), "--once")
    assert alarm.returncode == 1
    assert "ALARME  interblocage" in alarm.stdout
    assert "verrou_a" in alarm.stdout
    for arguments in (
        (tmp_path, "--pid", 1, "--once"),
        ("--once", "--", "true"),
        ("--",),
        (tmp_path,),  # no terminal
        ("--pid", 0, "--once"),
        ("--interval", 0, "--once"),
        ("--key", "x", "--once"),
        ("", "--once"),
    ):
        done = watch(*arguments)
        assert done.returncode == 2, done
        helpers.one_line(done)
    for nothing in (
        [tmp_path],
        [tmp_path / "nowhere"],
        ["--pid", dead_pid()],
        ["--key", hex(helpers.fresh_key()), "--dir", "/nowhere"],
    ):
        done = watch(*nothing, "--once")
        assert done.returncode == 3, done
        helpers.one_line(done)


def test_json(server: helpers.Servers) -> None:
    """A line for every look, until Ctrl-C."""
    guichet = server("q3_threads")
    with helpers.background([*WATCH, str(guichet.directory), "--json", "--interval", "0.05"]) as process:
        assert process.stdout is not None
        for _ in range(3):
            data = json.loads(process.stdout.readline())
            assert (data["format"], data["version"]) == ("spectacles/look", 1)
            assert [len(process["tasks"]) for process in data["processes"]] == [3]
        process.send_signal(signal.SIGINT)
        assert process.wait(helpers.DEADLINE) == 130


def test_a_queue_by_its_key(queue: TestQueue) -> None:
    """Without a server or a directory."""
    queue.send(1, LIST_REQUEST.pack(os.getpid()))
    done = watch("--key", hex(queue.key), "--dir", "/nowhere", "--once")
    assert done.returncode == 0, done
    assert f"✉ type 1 : consultation, client {os.getpid()}" in done.stdout


# Live


def test_the_lesson(server: helpers.Servers, queue_question: str) -> None:
    """A server stopped, a client that asks: the message lies in the queue, the client waits for its PID; then all gone.

    (With Looker._find switched off the client is not on the screen; where Escape forgets the choice, the file is not
    opened.)
    """
    guichet = server(queue_question)
    helpers.freeze(guichet.tree())
    with Terminal(guichet.directory) as terminal:
        terminal.until("suspendu")
        with helpers.background(guichet.client_command("reserve", "5", "3")) as client:
            terminal.until(f"✉ type 2 : réservation, 3 place(s) du spectacle 5, client {client.pid}")
            screen = terminal.until(f"msgrcv : type {client.pid}, son PID")
            assert "« fg »" in screen.replace("\u00a0", " ")
            terminal.type("\x1b[B")
            opened = []
            for _ in range(12):  # downwards over all tasks and objects, whose last is the file
                terminal.type("\r")
                opened.append(terminal.until(lambda screen: "QUI " not in screen))
                terminal.type("\x1b")
                terminal.until("QUI ")  # back, and the choice is kept
                terminal.type("\x1b[B")
            assert any(struct.pack("<i", client.pid).hex(" ") in screen for screen in opened)
            assert re.search(r"^spectacles\.dat *$", opened[-1], re.MULTILINE)
            for pid in guichet.tree():
                os.kill(pid, signal.SIGCONT)
            assert client.wait(helpers.DEADLINE) == 0
        terminal.until(lambda screen: "suspendu" not in screen and "✉" not in screen and f"{client.pid}" not in screen)
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.given_back


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("q2_msq", ["q2_msq", "consultations", "reservations"]),
        ("q4_thread_per_request", ["q4_thread_per_r", "reception"]),
    ],
)
def test_tasks_by_their_names(server: helpers.Servers, question: str, names: list[str]) -> None:
    """As they call themselves, the main thread first, and on a screen of 100 columns nothing is cut off.

    (With the command line beside every name, or with a claim's memory as plain bytes, there is … on it; with the
    threads sorted by TID alone, once the PIDs have gone round, the main thread is not the first.)
    """
    keys = [helpers.fresh_key() for _ in range(3)]
    addresses = ["--key", hex(keys[0]), "--shm-key", hex(keys[1]), "--sem-name", f"/spectacles-{keys[2]:08x}"]
    command = [sys.executable, "-m", "spectacles", "server", question[1]]  # as `spectacles server 2`
    guichet = server(question, names=addresses, command=command)
    with Terminal(guichet.directory, width=100) as terminal:
        screen = terminal.until(lambda screen: all(name in screen for name in names))
        found = re.findall(r"^(?: └ )?\d+ ([a-z]\w+)", screen, re.MULTILINE)
        assert found == names
        assert "…" not in "".join(screen.splitlines()[1:])  # the path of the directory may be long
        assert re.search(r"^mémoire n° \d+ +dit que la file 0x[0-9a-f]+ a un serveur", screen, re.MULTILINE)
        terminal.type("q")
        assert terminal.end() == 0


@pytest.mark.parametrize("width", [80, 100])
def test_lines_fit_the_window(server: helpers.Servers, width: int) -> None:
    """At both sizes, and after the window has changed."""
    guichet = server("q1_pipes")
    with Terminal(guichet.directory, width=width, height=24) as terminal:
        screen = terminal.until("spectacles.dat")
        assert max(len(line) for line in screen.splitlines()) <= width
        assert max(terminal.rows) == 24
        terminal.raw = ""
        terminal.resize(60, 20)
        terminal.process.send_signal(signal.SIGWINCH)
        screen = terminal.until("QUOI")
        assert max(len(line) for line in screen.splitlines()) <= 60
        assert max(terminal.rows) == 20


@pytest.mark.parametrize("way", ["q", "\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_given_back(server: helpers.Servers, way: str | signal.Signals) -> None:
    """However it ends. (Without Screen.__exit__ it keeps the alternate screen, and echoes nothing.)"""
    guichet = server("q3_threads")
    with Terminal(guichet.directory) as terminal:
        terminal.until("QUOI")
        if isinstance(way, str):
            terminal.type(way)
        else:
            terminal.process.send_signal(way)
        assert terminal.end() == (0 if way == "q" else 130)
        assert terminal.given_back
        assert "Traceback" not in terminal.raw


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash, whose `fg` is used")
def test_ctrl_z_and_fg(server: helpers.Servers) -> None:
    """Under a shell it stops like any program, gives the terminal back meanwhile, and draws all again.

    (Without the handler of SIGTSTP it stays on the alternate screen, without an echo.)
    """
    guichet = server("q3_threads")
    with Terminal(guichet.directory, shell='set -m; "$@"; echo "stopped $?"; read -r; fg; exit') as terminal:
        terminal.until("QUOI")
        terminal.type("\x1a")
        terminal.until(lambda _: "stopped 148" in terminal.raw)  # 128 + SIGTSTP
        assert terminal.given_back
        terminal.raw = ""
        terminal.type("\n")
        terminal.until("QUOI")
        terminal.type("q")
        assert terminal.end() == 0
        assert terminal.given_back


def test_freeze_step_help_and_keys_that_mean_nothing(server: helpers.Servers) -> None:
    """Space, s, ?, and what a keyboard has besides."""
    guichet = server("q2_msq")
    with Terminal(guichet.directory) as terminal:
        terminal.until("QUOI")
        terminal.type(" ")
        terminal.until("figé à")
        frozen = terminal.rows[1]
        terminal.type("\x1bOP\x1b[15~xé\t")
        time.sleep(1.1)  # a clock that went on would show
        terminal.read()
        assert terminal.rows[1] == frozen
        terminal.type("s")
        terminal.until(lambda screen: "figé à" in screen and screen.splitlines()[0] != frozen.rstrip())
        terminal.type("?")
        terminal.until("Regarder ne touche à rien")
        terminal.type(" ")
        terminal.until(lambda screen: "Regarder ne touche" not in screen)
        terminal.type(" q")
        assert terminal.end() == 0


def test_without_colours(server: helpers.Servers) -> None:
    """NO_COLOR: weights and reverse video only. (With the wrong column of STYLES there are colours.)"""
    guichet = server("q2_msq")
    helpers.freeze(guichet.tree())
    for no_color, expected in (("1", False), ("", True)):
        with Terminal(guichet.directory, env={"NO_COLOR": no_color}) as terminal:
            terminal.until("suspendu")
            colours = re.findall(r"\x1b\[[\d;]*\b[34]\d[\d;]*m", terminal.raw)
            assert bool(colours) == expected, colours
            terminal.type("q")
            assert terminal.end() == 0


def test_what_changes_stands_out(server: helpers.Servers) -> None:
    """The seats in memory that a client has just taken."""
    guichet = server("q2_msq")
    with Terminal(guichet.directory) as terminal:
        terminal.until("mêmes places")
        assert "\x1b[1;36m" not in terminal.raw
        assert guichet.client("reserve", "0", "1").returncode == 0
        terminal.until("[0] 119")
        assert "\x1b[1;36m119" in terminal.raw


# A command


def test_a_command_is_watched_and_ends_with_its_code() -> None:
    """Its output, a line typed to it, its exit code; it has a terminal of its own."""
    code = "import sys; print(sys.stdin.isatty(), flush=True); word = input('mot ? '); print(word[::-1]); sys.exit(7)"
    with Terminal("--", sys.executable, "-c", code) as terminal:
        terminal.until("True")
        terminal.until("le clavier")
        terminal.type("ibonjoue\x7fr")
        terminal.until("bonjour▏")
        terminal.type("\r")
        assert terminal.end() == 7
        assert terminal.given_back
        left = terminal.raw.rpartition("\x1b[?1049l")[2]  # what it has said stays to be read
        assert "ruojnob" in left
        assert "a fini, code de sortie 7" in left


@pytest.mark.parametrize("who", ["both", "child"])
def test_a_command_ends_with_watch(who: str) -> None:
    """Also one that ignores SIGHUP and SIGTERM, and such a child. (Without Command.__exit__ both stay.)"""
    code = f"""if True:
        import os, signal, time
        child = os.fork() == 0
        if {who == "both"} or child:
            for number in (signal.SIGHUP, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
        print(os.getpid(), "là", flush=True)
        while True: time.sleep(1)
    """
    with Terminal("--", sys.executable, "-c", code) as terminal:
        terminal.until(lambda screen: len(re.findall(r"^\d+ là", screen, re.MULTILINE)) == 2)
        pids = [int(pid) for pid in re.findall(r"^(\d+) là", terminal.screen, re.MULTILINE)]
        terminal.type("q")
        assert terminal.end() == 0
    helpers.eventually(lambda: all(helpers.is_gone(pid) for pid in pids), "both ended")


def test_a_command_that_cannot_be_started() -> None:
    """One line."""
    with Terminal("--", "/no/such/program") as terminal:
        assert terminal.end() == 1
        assert "/no/such/program : aucun fichier" in terminal.raw
        assert "Traceback" not in terminal.raw


def test_hostile_names(tmp_path: Path) -> None:
    """What strangers call themselves moves no cursor. (Without clean() the program's name wipes the screen.)"""
    os.mkfifo(tmp_path / "tube\x1b[2J\n\u202e")
    code = "import os,sys; fd=os.open(sys.argv[1],os.O_RDWR); print(1,flush=True); input()"
    command = ["evil\x1b[2J\u202e", "-c", code, str(tmp_path / "tube\x1b[2J\n\u202e")]
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        process.stdout.readline()
        helpers.freeze([process.pid])
        with Terminal(tmp_path) as terminal:
            terminal.until("evil")
            terminal.until("tube")
            terminal.read(0.3)
            assert terminal.raw.count("\x1b[2J") == 1  # our own, at the start
            assert "\u202e" not in terminal.raw
            terminal.type("q")
            assert terminal.end() == 0
        assert "\x1b" not in watch(tmp_path, "--once").stdout


# Pure functions


def test_keys() -> None:
    """Sequences, characters of several bytes, several at once, and half of them."""
    assert keys(b"q") == ["q"]
    assert keys(b"\x1b[A\x1b[6~\r\x7f") == ["up", "page down", "enter", "backspace"]
    assert keys("é€😀".encode()) == ["é", "€", "😀"]
    assert keys(b"\x1b[15;2~a\x1bOPb\x1b") == ["a", "b", "escape"]
    assert keys(b"\xff\xc3") == []
    assert keys(b"\x1b[") == []


def test_widths() -> None:
    """Characters of two columns, and what is cut off."""
    assert pad("été", 5) == "été  "
    assert pad("界界界", 5) == "界界…"
    assert cut([("ab", ""), ("cdef", "title")], 4) == [("ab", ""), ("c…", "title")]
    assert cut([("ab", "")], 2) == [("ab", "")]
