"""One voice: a program answers in the words that were typed, and what it says to type works."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from spectacles.common import cli
from spectacles.lab.programs.process import QUESTIONS
from tests import helpers

MODULE = [sys.executable, "-m", "spectacles"]
SCRIPT = [str(Path(sys.executable).with_name("spectacles"))]


def ways(question: str, side: str) -> dict[str, list[str]]:
    """Return the commands that run one program, by what each is to be called."""
    number = question[1]
    return {
        f"python -m spectacles.{question}.{side}": [sys.executable, "-m", f"spectacles.{question}.{side}"],
        f"python -m spectacles {side} {number}": [*MODULE, side, number],
        f"spectacles {side} {number}": [*SCRIPT, side, number],
        f"spectacles {side} {question}": [*SCRIPT, side, question],
    }


@pytest.mark.parametrize("side", ["server", "client"])
def test_the_words_that_were_typed(question: str, side: str, tmp_path: Path) -> None:
    """Usage, wrong usage and failures; the client of questions 3 and 4 does not call itself question 2's.

    (With the name of main()'s module, as it was, all but the first way fail, and the first in questions 3 and 4.)
    """
    (tmp_path / "fichier").touch()
    failing = ["--dir", str(tmp_path / "fichier"), *(["--port", "1", "list"] if side == "client" else [])]
    if side == "client" and question != "q5_sockets":
        failing = ["--dir", str(tmp_path / "fichier"), "list"]
    for called, command in ways(question, side).items():
        if command[0] == SCRIPT[0] and not Path(command[0]).exists():
            continue  # not installed
        usage = helpers.run([*command, "--help"]).stdout
        assert usage.startswith(f"usage : {called} "), usage
        assert re.search(rf"^exemples? : {re.escape(called)} ", usage, re.MULTILINE)
        assert helpers.one_line(helpers.run([*command, "--nope"])).startswith(f"{called} : ")
        assert helpers.one_line(helpers.run([*command, *failing])).startswith(f"{called} : ")
        if side == "client":
            assert helpers.one_line(helpers.run([*command, "reserve", "x"])).startswith(f"{called} reserve : ")


@pytest.mark.parametrize(
    "words", ["table show", "clean", "certs /proc/x", "demo 9", "compare 9", "vole", "server 9", ""]
)
def test_every_command_says_its_name(words: str, tmp_path: Path) -> None:
    typed = shlex.split(words)
    done = helpers.run([*MODULE, *typed], cwd=tmp_path)
    called = " ".join(["python -m spectacles", *(typed[:1] if words not in ("vole", "") else [])])
    assert helpers.one_line(done).startswith(f"{called} : "), done


OPTIONS = ["--dir=.", "--key=7", "--shm-key=8", "--sem-name=/n", "--timeout=9", "--json"]
OF_Q5 = ["--dir=.", "--timeout=9", "--json", "--host=h", "--port=5", "--tls", "--ca=a", "--cert=b", "--key=c"]


@pytest.mark.parametrize("module", ["q1_pipes", "q2_msq", "q5_sockets"])
@pytest.mark.parametrize("command", [["list"], ["consult", "1"], ["reserve", "1", "-2"]], ids=lambda words: words[0])
def test_options_after_the_command(module: str, command: list[str]) -> None:
    """Anywhere: before, after, between; the last one counts. (With --json alone taken there, as it was, a refusal.)"""

    def parsed(words: Sequence[str]) -> dict[str, object]:
        parser = cli.client_parser(module, "", queue=module != "q5_sockets")
        if module == "q5_sockets":
            cli.add_connection(parser)
        return vars(cli.parse_client(parser, words))

    options = OF_Q5 if module == "q5_sockets" else OPTIONS
    expected = parsed([*options, *command])
    assert expected["timeout"] == 9
    assert parsed([*command, *options]) == expected
    assert parsed([command[0], *options, *command[1:]]) == expected
    assert parsed([*options[:2], *command, *options[2:]]) == expected
    assert parsed(["--timeout=3", *command, *options]) == expected
    assert parsed(command)["timeout"] == cli.DEFAULT_TIMEOUT


def test_options_after_the_command_reach_the_server(server: helpers.Servers, question: str) -> None:
    guichet = server(question)
    done = helpers.run(
        helpers.client_command(question, "reserve", "0", "2", "--timeout", "5", *guichet.client_options(), "--json")
    )
    assert (done.returncode, done.stdout) == (0, '{"show": 0, "seats": 2, "ack": true}\n')


def test_the_table_too(directory: Path) -> None:
    """--dir before `show`, as after it."""
    assert helpers.run([*MODULE, "table", "--dir", str(directory), "reset"]).returncode == 0
    before = helpers.run([*MODULE, "table", "--dir", str(directory), "show", "--json"])
    after = helpers.run([*MODULE, "table", "show", "--json", "--dir", str(directory)])
    assert (before.returncode, before.stdout) == (0, after.stdout)


EFFECT = {
    ("q1_pipes", "server"): {"--dir", "--shm-key", "--sem-name"},
    ("q2_msq", "server"): {"--dir", "--key", "--shm-key", "--sem-name"},
    ("q3_threads", "server"): {"--dir", "--key"},
    ("q4_thread_per_request", "server"): {"--dir", "--key"},
    ("q5_sockets", "server"): {"--dir"},
    ("q1_pipes", "client"): {"--dir"},
    ("q2_msq", "client"): {"--dir", "--key"},
    ("q3_threads", "client"): {"--dir", "--key"},
    ("q4_thread_per_request", "client"): {"--dir", "--key"},
    ("q5_sockets", "client"): {"--key"},  # a file of TLS
}


@pytest.mark.parametrize(("question", "side"), EFFECT, ids=" ".join)
def test_help_lists_what_has_an_effect(question: str, side: str) -> None:
    """And says defaults and units. (With the same list for all, as it was, question 5 has a --shm-key.)"""
    said = helpers.run([*MODULE, side, question[1], "--help"]).stdout
    assert set(re.findall(r"^  (--(?:dir|key|shm-key|sem-name)) ", said, re.MULTILINE)) == EFFECT[question, side]
    for option in ("--timeout", "--idle-timeout"):
        text = " ".join(re.findall(rf"^  {option} SECONDES\s+(.*\n?.*)$", said, re.MULTILINE))
        assert option not in said or re.search(r"en\s+secondes\s+\(défaut : \d+\)", text), said


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_script_can_start_any_question(server: helpers.Servers, question: str) -> None:
    """All names are taken by all servers and all clients, used or not. (Without _add_unused, question 5 refuses.)"""
    names = helpers.fresh_names("q2_msq")
    guichet = server(question, names=names)
    where = guichet.client_options() if question == "q5_sockets" else ["--dir", str(guichet.directory)]
    assert helpers.run(helpers.client_command(question, *where, *names, "reserve", "0", "1")).returncode == 0


# Hints


def typed(hint: str, path: str) -> subprocess.CompletedProcess[str]:
    """Type a hint into a shell that finds `python` where the tests have it."""
    return helpers.run(["sh", "-c", hint], env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"})


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A directory with `python`."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (place / "python").chmod(0o700)
    return str(place)


def test_the_hint_for_a_bad_table(tmp_path: Path, path: str) -> None:
    """It names the directory, quoted, and works. (Without --dir, as it was, it resets ./data.)"""
    place = tmp_path / "l'été"
    place.mkdir()
    helpers.register_directory(place)
    (place / "spectacles.dat").write_bytes(b"x")
    done = helpers.run(helpers.server_command("q3_threads", "--dir", str(place)))
    (hint,) = re.findall(r"« (python -m spectacles .*?) »", helpers.one_line(done))
    assert typed(hint, path).returncode == 0
    assert len(helpers.read_table(place)) == helpers.SHOWS


def test_the_hint_for_what_was_left(server: helpers.Servers, path: str) -> None:
    """As the log prints it."""
    first = server("q2_msq")
    tree = first.tree()
    for pid in tree:
        os.kill(pid, signal.SIGKILL)
    first.process.wait(helpers.DEADLINE)
    for pid in tree:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), "the end")  # type: ignore[misc]
    second = server("q2_msq", directory=first.directory)
    (hint,) = re.findall(r"« (python -m spectacles clean .*?) »", second.output)
    assert second.stop() == 0
    assert typed(hint, path).returncode == 0
    assert helpers.own_objects() == set()


def test_examples_in_help_are_commands(tmp_path: Path) -> None:
    """What --help shows as an example is understood: whatever comes of it, it is no wrong usage."""
    for words in ("client 1", "client 5", "table", "clean", "include", "certs"):
        said = helpers.run([*MODULE, *words.split(), "--help"]).stdout
        lines = re.findall(r"^(?:exemples? :|          ) (python -m spectacles .*?)(?:    .*)?$", said, re.MULTILINE)
        for line in lines:
            if "saison.csv" in line:
                (tmp_path / "saison.csv").write_text("nom;date;places\nA;x;1\n")
            done = helpers.run([sys.executable, *shlex.split(line)[1:]], cwd=tmp_path)
            if "/tmp/" not in line:
                assert done.returncode != 2, done
        assert lines or words == "include", said


def test_version_and_help(tmp_path: Path) -> None:
    """-V wherever --version is, and `help`, of the command and of each."""
    for words in (["-V"], ["server", "2", "-V"], ["client", "5", "-V"]):
        assert re.fullmatch(r"spectacles [\d.]+\n", helpers.run([*MODULE, *words]).stdout)
    for words in (
        [],
        ["server"],
        ["server", "2"],
        ["client", "3"],
        ["table"],
        ["table", "set"],
        ["clean"],
        ["include"],
    ):
        helped = helpers.run([*MODULE, "help", *words], cwd=tmp_path)
        assert helped.returncode == 0
        assert helped.stdout == helpers.run([*MODULE, *words, "--help"], cwd=tmp_path).stdout
    assert helpers.run([*MODULE, "help", "vole"]).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_include(tmp_path: Path, c_programs: Path) -> None:
    """The directory that it prints has the header, from wherever it is asked."""
    place = helpers.run([*MODULE, "include"], cwd=tmp_path).stdout.rstrip("\n")
    (tmp_path / "mine.c").write_text('#include "spectacles.h"\nint main(void) { return sizeof(Spectacle) != 72; }\n')
    subprocess.run(["cc", "-I", place, "-o", "mine", "mine.c"], cwd=tmp_path, check=True, timeout=60)
    assert helpers.run([tmp_path / "mine"]).returncode == 0
