"""The arrows of the house point down only, a server imports almost nothing, and what README names can be run."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from spectacles.lab.programs.process import FURTHER, QUESTIONS
from tests import helpers

PACKAGE = helpers.ROOT / "spectacles"
COMMANDS = ("admin", "lab")  # what the `spectacles` command runs beside servers and clients
ALLOWED = {
    "common": {"common"},
    "q1_pipes": {"common", "q1_pipes"},
    "q2_msq": {"common", "q2_msq"},
    "q3_threads": {"common", "q2_msq", "q3_threads"},
    "q4_thread_per_request": {"common", "q2_msq", "q4_thread_per_request"},
    "q5_sockets": {"common", "q5_sockets"},
    "x1_sessions": {"common", "q2_msq", "x1_sessions"},
    "x2_basket": {"common", "q5_sockets", "x2_basket"},
    "x3_cluster": {"common", "q5_sockets", "x3_cluster"},
    "admin": {"common", *QUESTIONS, *FURTHER, "admin"},
    "lab": {"common", *QUESTIONS, *FURTHER, "lab"},
    "__main__": {"common", *QUESTIONS, *FURTHER, *COMMANDS},
    "__init__": set(),
}
BINDINGS = {
    "common": {"posix_ipc", "sysv_ipc"},
    "q2_msq": {"sysv_ipc"},
    "x1_sessions": {"sysv_ipc"},
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
    """__main__ -> lab, admin -> qN, xN -> common; Q3, Q4 and x1 lean on Q2; nothing else crosses.

    (With `from spectacles.lab.display import terminal` in admin/table.py, it says so.)
    """
    where = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    own = {part(name) for name in imports(path) if name.startswith("spectacles.")} - {"__version__"}
    foreign = {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"spectacles"}
    assert where in ALLOWED, f"{where} has no place in the house"
    assert own <= ALLOWED[where]
    if where not in COMMANDS:
        assert foreign <= BINDINGS.get(where, set())


# The wings of the lab from the ground up: each leans on those before it only. What comes after them, the commands,
# leans on any wing and on no other command.
WINGS = ("programs", "display", "kernel", "gate", "record", "judge", "dossier", "schedules")
LAB_COMMANDS = ("bench", "check", "compare", "demo", "explore", "hazards", "linearizability", "trace", "watch")
LAB = PACKAGE / "lab"
ROOMS = sorted({path.relative_to(LAB).parts[0].removesuffix(".py") for path in MODULES if LAB in path.parents})
ROOMS.remove("__init__")
LAB_MODULES = [path for path in MODULES if LAB in path.parents]
DOORS = sorted(path for path in LAB_MODULES if path.name == "__init__.py")


def room(name: str) -> str:
    """Return the wing or command of the lab that a module or a file of it is in; "" for the lab's own door."""
    return name.removeprefix("spectacles.lab").strip(".").partition(".")[0]


def dotted(path: Path) -> str:
    """Return the name of the module in a file."""
    return ".".join(("spectacles", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


NAMES = {dotted(path) for path in MODULES}


def things(path: Path, of: str = "spectacles.lab.") -> set[str]:
    """Return what a file imports `of` ours, with the name of the thing: spectacles.lab.kernel.processes.memory."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith(of)}


def module_of(thing: str) -> str:
    """Return the module that a thing is, or is in."""
    return thing if thing in NAMES else thing.rpartition(".")[0]


def on_offer(door: str) -> set[str]:
    """Return `__all__` of a package."""
    path = PACKAGE.joinpath(*door.split(".")[1:], "__init__.py")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_every_room_of_the_lab_has_its_place() -> None:
    """A new one is put in the order above, and named by the lab's door.

    (Seen to fail: with "display" taken out of WINGS, and of the lab's `__all__`.)
    """
    assert set(ROOMS) <= {*WINGS, *LAB_COMMANDS}
    assert on_offer("spectacles.lab") == set(ROOMS)
    for name in ROOMS:
        assert name in str(ast.get_docstring(ast.parse((LAB / "__init__.py").read_text()))), name


@pytest.mark.parametrize("path", LAB_MODULES, ids=lambda path: str(path.relative_to(LAB)))
def test_wings_lean_on_those_below(path: Path) -> None:
    """Seen to fail: with lab.judge imported in lab/kernel/processes.py, with lab.demo in lab/compare/command.py."""
    here = room(dotted(path))
    below = set(WINGS[: WINGS.index(here)] if here in WINGS else WINGS) if here else set()
    assert {room(thing) for thing in things(path)} <= {here} | below


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_climbs_in_by_the_window(path: Path) -> None:
    """What a wing is asked for stands in the `__all__` of its door, and so on inwards.

    (Seen to fail: with judge.linearizability.words imported in lab/compare/rows.py, with "processes" taken off the door
    of the kernel.)
    """
    here = dotted(path)
    for thing in things(path):
        parts = thing.split(".")
        for depth in range(2, len(parts)):
            door = ".".join(parts[:depth])
            inside = here == door or here.startswith(f"{door}.")
            if (PACKAGE / Path(*parts[1:depth]) / "__init__.py").exists() and not inside:
                assert parts[depth] in on_offer(door), f"{here} takes {thing}, which {door} does not offer"


@pytest.mark.parametrize("path", DOORS, ids=lambda path: str(path.relative_to(LAB)))
def test_doors_tell_the_truth(path: Path) -> None:
    """A door says in its docstring what the wing leans on, names what it offers, and offers only what there is.

    (Seen to fail: with "Leans on nothing" on the door of display.)
    """
    wing = dotted(path)
    said = ast.get_docstring(ast.parse(path.read_text()))
    assert said, wing
    defined = set(names_of(path)) | {thing.rpartition(".")[2] for thing in things(path)}
    for name in on_offer(wing):
        assert f"{wing}.{name}" in NAMES or name in defined, f"{wing} offers {name}, which is not there"
    if path.parent.parent == LAB:
        (leans,) = re.findall(r"Leans\s+on\s+([^.]*)", said)
        modules = [file for file in LAB_MODULES if path.parent in file.parents]
        used = {room(thing) for file in modules for thing in things(file)} - {room(wing)}
        assert {word for word in re.findall(r"\w+", leans) if word in WINGS} == used
        assert all(name in said for name in on_offer(wing))


def test_no_circle() -> None:
    """No module leans on one that leans on it, not even for types.

    (Seen to fail: with compare.report imported in lab/compare/sheets.py, and with SpectacleTable in common/storage.py,
    both under TYPE_CHECKING.)
    """
    leans = {dotted(path): {module_of(thing) for thing in things(path, "spectacles.")} for path in MODULES}
    settled: set[str] = set()
    while ready := {name for name, others in leans.items() if name not in settled and others <= settled | {name}}:
        settled |= ready
    assert set(leans) - settled == set()


def test_a_server_starts_without_the_lab() -> None:
    """Neither the lab nor what it shows with is in memory when `spectacles server` has found the server to run.

    (Seen to fail: with rich imported at the top of common/cli.py.)
    """
    program = "import sys, spectacles.__main__\n" + "".join(
        f"import spectacles.{question}.server, spectacles.{question}.client\n" for question in (*QUESTIONS, *FURTHER)
    )
    program += "print(*(name for name in sys.modules if name.startswith(('rich', 'jinja2', 'spectacles.lab'))))"
    assert helpers.run([sys.executable, "-c", program]).stdout.split() == []


def test_bindings_are_only_where_they_are_needed() -> None:
    """posix_ipc for Q1 and Q2 alone: it is imported by what only these import."""
    users = {str(path.relative_to(PACKAGE)) for path in MODULES if "posix_ipc" in imports(path)}
    assert {user for user in users if part(f"x.{user}") and not user.startswith(COMMANDS)} == {"common/shared.py"}


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
