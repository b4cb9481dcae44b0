"""The command line takes anything that a shell can pass: it is understood, or refused in one line with code 2."""

from __future__ import annotations

import contextlib
import io
import sys
from argparse import Namespace
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from spectacles.common import cli
from spectacles.common.errors import EXIT_USAGE, NoServerError
from tests import helpers

OPTIONS = [
    "--dir", "--key", "--shm-key", "--sem-name", "--mode", "--log-level", "--no-fsync", "--timeout", "--json", "--host",
    "--port", "--max-clients", "--idle-timeout", "list", "consult", "reserve", "--", "-", "--dir=", "-1", "0", "0x10",
    "1e9", "nan", "inf", "0600", "07777", "/name", "/a/b", "²", "١", str(2**31), str(-(2**31) - 1), "--ke", "--tls",
    "--mode=07777", "--mode=0000", "--mode=0640", "--key=0", "--key=0x7fffffff", "--key=99999999999", "--sem-name=/a/b",
    "--key=-1", "--key=0xffffffff", "--shm-key=-0x80000000",
]  # fmt: skip
WORDS = st.one_of(st.sampled_from(OPTIONS), st.text(st.characters(exclude_characters="\0"), max_size=8))


def understood(parser: cli.Parser, arguments: list[str], *, server: bool) -> Namespace | None:
    """Parse as a server, or a client, does; None if it was refused, in one line."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            return cli.parse_server(parser, arguments) if server else cli.parse_client(parser, arguments)
    except NoServerError:
        return None
    except SystemExit as ended:
        code = ended.code
    if code != 0:
        assert code == EXIT_USAGE
        assert errors.getvalue().endswith("(--help pour l'aide)\n")
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(WORDS, max_size=6))
def test_servers(arguments: list[str]) -> None:
    """What a server understands is in range. (With _octal() accepting any octal number, 07777 makes it fail.)"""
    parser = cli.server_parser("q1_pipes", "")
    cli.add_max_threads(parser)
    options = understood(parser, arguments, server=True)
    if options is not None:
        assert all(key is None or 1 <= key < 2**32 for key in (options.key, options.shm_key))
        assert options.mode & ~0o666 == 0
        assert options.mode & 0o600 == 0o600
        assert options.sem_name is None or "/" not in options.sem_name[1:]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(WORDS, max_size=6))
def test_clients(arguments: list[str]) -> None:
    """What a client understands fits into the messages. (With c_int() not checking the range, 2**31 makes it fail.)"""
    parser = cli.client_parser("q5_sockets", "", queue=False)
    cli.add_connection(parser)
    options = understood(parser, arguments, server=False)
    if options is not None:
        assert 0 < options.timeout <= 86400
        if options.command in ("consult", "reserve"):
            assert -(2**31) <= options.show < 2**31
        if options.command == "reserve":
            assert -(2**31) <= options.seats < 2**31


@given(st.integers())
def test_numbers(number: int) -> None:
    """An int of C is taken, anything else is refused, in decimal and in hexadecimal."""
    for text in (str(number), hex(number)):
        parser = cli.client_parser("q5_sockets", "", queue=False)
        cli.add_connection(parser)
        options = understood(parser, ["consult", "--", text], server=False)
        if -(2**31) <= number < 2**31:
            assert options is not None
            assert options.show == number
        else:
            assert options is None


EMBEDDING = """
import argparse, sys
from spectacles.common import cli
host = argparse.ArgumentParser(prog="host", exit_on_error=False)
host.add_argument("--n", type=int)
before = host.format_help(), argparse._
for words in (["--nope"], ["--help"], ["--mode", "x"], []):
    try:
        cli.parse_server(cli.server_parser("q1_pipes", ""), words)
    except SystemExit:
        pass
assert (host.format_help(), argparse._) == before
assert "usage: host" in before[0] and "show this help message" in before[0]
host.parse_args(["--n", "x"])
"""


def test_a_program_that_embeds_a_server_keeps_its_argparse(tmp_path: Path) -> None:
    """Its own help and errors stay English. (With argparse._ set for ours, as it was, all of it is French.)"""
    done = helpers.run([sys.executable, "-c", EMBEDDING], cwd=tmp_path)
    assert "argument --n: invalid int value: 'x'" in done.stderr
    assert "usage : " in done.stdout
    assert "usage: " not in done.stdout
    assert list(tmp_path.iterdir()) == []
