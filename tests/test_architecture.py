"""The arrows of the house point down only, a server imports almost nothing, and what README names can be run."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from spectacles.lab.programs.process import QUESTIONS
from tests import helpers

PACKAGE = helpers.ROOT / "spectacles"
TOOLS = ("__main__", "table", "clean", "certs", "lab")  # the `spectacles` command and what it runs
ALLOWED = {
    "common": {"common"},
    "q1_pipes": {"common", "q1_pipes"},
    "q2_msq": {"common", "q2_msq"},
    "q3_threads": {"common", "q2_msq", "q3_threads"},
    "q4_thread_per_request": {"common", "q2_msq", "q4_thread_per_request"},
    "q5_sockets": {"common", "q5_sockets"},
}
BINDINGS = {
    "common": {"posix_ipc", "sysv_ipc"},
    "q2_msq": {"sysv_ipc"},
}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, at its top or anywhere in it, TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "spectacles":
                found |= {f"spectacles.{alias.name}" for alias in node.names}
            elif node.module:
                found.add(node.module)
    return found


def part(module: str) -> str:
    """Return the first word after `spectacles.`."""
    return module.split(".")[1]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "build" not in path.parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path: Path) -> None:
    """ARCHITECTURE: __main__ -> lab -> qN -> common; Q3 and Q4 lean on Q2; nothing else crosses."""
    where = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    own = {part(name) for name in imports(path) if name.startswith("spectacles.")} - {"__version__"}
    foreign = {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"spectacles"}
    if where in ALLOWED:
        assert own <= ALLOWED[where]
        assert foreign <= BINDINGS.get(where, set())
    elif where == "lab":
        assert own <= {"common", "lab", *QUESTIONS}
    elif where != "__init__":
        assert where in TOOLS, f"{where} has no place in the house"
        assert own <= {"common", "lab", *QUESTIONS, *TOOLS}
    # Nobody but the command and the lab itself leans on the lab.
    assert "lab" not in own or where in TOOLS


def test_bindings_are_only_where_they_are_needed() -> None:
    """posix_ipc for Q1 and Q2 alone: it is imported by what only these import."""
    users = {str(path.relative_to(PACKAGE)) for path in MODULES if "posix_ipc" in imports(path)}
    assert {user for user in users if part(f"x.{user}") and not user.startswith(("lab", "clean"))} == {
        "common/shared.py"
    }


@pytest.mark.parametrize("question", ["q3_threads", "q4_thread_per_request"])
def test_the_client_is_q2_s(question: str) -> None:
    """The point of the question is that it does not change."""
    assert imports(PACKAGE / question / "client.py") == {"sys", "spectacles.q2_msq.client"}


def names_of(path: Path) -> list[str]:
    """Return the functions of a file in order."""
    return [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]


def test_command(tmp_path: Path) -> None:
    """`spectacles`: help, version, a question by number and by name, usage errors in one line."""
    command = [sys.executable, "-m", "spectacles"]
    done = helpers.run([*command, "--help"], cwd=tmp_path)
    assert done.returncode == 0
    for word in ("demo", "server", "client", "table", "clean"):
        assert re.search(rf"^  {word} ", done.stdout, re.MULTILINE)
    assert helpers.run([*command, "--version"]).stdout.startswith("spectacles ")
    for arguments in ((), ("fly",), ("server",), ("server", "6"), ("server", "0"), ("client", "q"), ("client", "")):
        done = helpers.run([*command, *arguments], cwd=tmp_path)
        assert done.returncode == 2, done
        helpers.one_line(done)
    for name in ("4", "q4", "q4_thread_per_request"):
        done = helpers.run([*command, "server", name, "--help"], cwd=tmp_path)
        assert done.returncode == 0
        assert "--max-threads" in done.stdout
    for name in ("server", "client"):
        done = helpers.run([*command, name, "--help"], cwd=tmp_path)
        assert done.returncode == 0, done
        assert "1 à 5" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_command_runs_server_and_client(server: helpers.Servers, question: str) -> None:
    """`spectacles server Q` is the module's server, and `spectacles client Q` its client."""
    command = [sys.executable, "-m", "spectacles"]
    guichet = server(question, command=[*command, "server", question[1]])
    done = helpers.run([*command, "client", question[1], *guichet.client_options(), "reserve", "0", "1"])
    assert (done.returncode, done.stdout) == (0, "Réservation OK\n")
    assert guichet.stop() == 0
