"""README.md and docs/ do not rot: what they name exists, and the C program that they show does what they say.

Each test was seen to fail: see the clause in its docstring.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from spectacles.__main__ import COMMANDS
from spectacles.lab.programs.process import ServerProcess
from tools import progression

ROOT = progression.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "spectacles" / "lab" / "c" / "README.md"]
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
# [text](file.py) `Name.attribute`, `name`: a file, then what is defined in it
REFERENCE = re.compile(r"\]\((spectacles/[\w/]+\.py)\)((?:,? `[\w.]+`(?: \([^)|]*\))?)*)")
# C's own and other programs' options
FOREIGN_OPTIONS = {"--upgrade"}


@cache
def defined(path: str) -> frozenset[str]:
    """Return the names of the functions and classes of a file, methods as Class.method."""
    names: set[str] = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return frozenset(names)


def headings(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, and those set in it by hand."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
    return named | set(re.findall(r'<a id="([\w-]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """Seen to fail: with a letter of a link changed, and with a letter of an anchor."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.is_relative_to(ROOT), target
        assert path.exists(), target
        assert not anchor or anchor in headings(path), target


def test_every_function_in_the_tables_exists() -> None:
    """Seen to fail: with `Store.sync` renamed in storage.py."""
    references = REFERENCE.findall(README)
    named = [(path, name) for path, names in references for name in re.findall(r"`([\w.]+)`", names)]
    assert len(named) > 60  # else the expression has stopped to match
    assert [(path, name) for path, name in named if name not in defined(path)] == []


def test_every_defect_has_its_place() -> None:
    """Seen to fail: without the row of defect 15."""
    rows = re.findall(r"^\| (\d+) \| .*\]\((spectacles/[\w./]+)\)[^|]* \|$", README, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 22))


def test_every_target_command_module_and_option_exists() -> None:
    """Seen to fail: with `make linting`, `spectacles tables`, `spectacles.q1_pipe.server` and `--no-sync` in README."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE)) <= targets
    assert set(re.findall(r"(?:`|\$ )spectacles ([a-z]+)", README)) <= set(COMMANDS)
    for module in re.findall(r"python -m (spectacles[\w.]+)", README):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "spectacles").rglob("*.py"))
    for option in set(re.findall(r"--[a-z][a-z-]*", PROSE)) - FOREIGN_OPTIONS:
        assert f'"{option}"' in sources, option


def test_every_command_is_described() -> None:
    """Seen to fail: without the line of `spectacles clean`."""
    assert [name for name in COMMANDS if f"`spectacles {name}" not in README] == []


def test_the_figure_in_the_first_lines_is_the_measured_one() -> None:
    """Seen to fail: with 20 instead of 22."""
    changed = [max(progression.changed_lines(*step)) for step in progression.STEPS]
    assert f"is {min(changed)} to {max(changed)} lines" in " ".join(README.split())


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_program_of_the_readme_works(tmp_path: Path) -> None:
    """Seen to fail: with TYPE_RESERV instead of TYPE_LIST in the program."""
    (program,) = re.findall(r"```c\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.c").write_text(program, encoding="utf-8")
    (command,) = re.findall(r"^\$ (cc .*?) &&", README, re.MULTILINE)
    (output,) = re.findall(r"&& \./mine .*\n((?:\[\d.*\n)+)```", README)
    command = command.replace("spectacles/lab/c", str(ROOT / "spectacles" / "lab" / "c"))
    subprocess.run(command.split(), cwd=tmp_path, check=True, timeout=60)
    with ServerProcess("q4_thread_per_request", tmp_path / "run"):
        mine = [tmp_path / "mine", tmp_path / "run"]
        run = subprocess.run(mine, capture_output=True, text=True, timeout=20, check=False)
    assert (run.returncode, run.stdout) == (0, output)
