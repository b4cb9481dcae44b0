"""What is published: the name, the licence, what it needs; and the installed wheel works in an empty directory."""

from __future__ import annotations

import email
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests import helpers


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and source archive of a copy of this checkout, without the network, and return their directory."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed: the wheel cannot be built")
    place = tmp_path_factory.mktemp("wheel")
    for path in (helpers.ROOT / "pyproject.toml", helpers.ROOT / "LICENSE", *helpers.ROOT.glob("*.md")):
        shutil.copy(path, place)
    for name in ("spectacles", "data", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.dat", "build", "logs")
        shutil.copytree(helpers.ROOT / name, place / name, ignore=ignored)
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(place / "dist")]
    subprocess.run(command, check=True, cwd=place, capture_output=True, timeout=100)
    return place / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (found,) = built.glob("spectacles_ipc-*.whl")
    return found


def test_metadata(wheel: Path) -> None:
    """Whoever reads it finds who, under which licence, and what one installation brings: the whole command.

    (With rich in an extra, as it was, `spectacles demo` of a fresh installation asks for it.)
    """
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
        licence = archive.read(name.replace("METADATA", "licenses/LICENSE")).decode()
        scripts = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert metadata["Name"] == "spectacles-ipc"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Author"] == "the spectacles developers"
    assert licence.startswith("MIT License\n\nCopyright (c) 2026 the spectacles developers\n")
    needed = {re.split(r"[^\w-]", line)[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert needed == {"jinja2", "posix-ipc", "pyelftools", "rich", "sysv-ipc"}
    assert re.findall(r"^(\w+) = ", scripts, re.MULTILINE) == ["spectacles"]


def test_source_archive(built: Path) -> None:
    """The documents travel in it. (Seen to fail: with `exclude = ["docs"]` for the sdist, and with "*.md" left out.)"""
    (archive,) = built.glob("spectacles_ipc-*.tar.gz")
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    assert {"LICENSE", "pyproject.toml", "data/spectacles.toml", "spectacles/lab/c/spectacles.h"} <= names
    pages = {*helpers.ROOT.glob("*.md"), *(helpers.ROOT / "docs").glob("*.md")}
    assert {"LISEZMOI.md", "docs/reference.md"} <= {str(page.relative_to(helpers.ROOT)) for page in pages} <= names


def test_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("spectacles/py.typed", "spectacles/data/spectacles.toml", "spectacles/lab/c/spectacles.h"):
        assert name in names
    templates = {str(path.relative_to(helpers.ROOT)) for path in (helpers.ROOT / "spectacles").glob("**/templates/*")}
    assert "spectacles/lab/display/templates/base.html" in templates
    assert templates <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "data/")) or name.endswith((".dat", ".pyc"))]


def test_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment whose only packages are the wheel and the two bindings, in an empty directory."""
    place = tmp_path / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    zipfile.ZipFile(wheel).extractall(site)
    for name in ("sysv_ipc", "posix_ipc"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (site / Path(spec.origin).name).symlink_to(spec.origin)
    empty = tmp_path / "vide"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SPECTACLES_DIR")}
    helpers.register_directory(empty)  # its names are not used; `data` below is derived from when it exists
    (empty / "data").mkdir()
    helpers.register_directory(empty / "data")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return helpers.run([place / "bin" / "python", "-m", *arguments], cwd=empty, env=environment)

    assert run("spectacles", "--version").returncode == 0
    assert Path(run("spectacles", "include").stdout.strip(), "spectacles.h").is_file()
    for question in ("q1_pipes", "q3_threads"):
        with subprocess.Popen(
            [str(place / "bin" / "python"), "-m", f"spectacles.{question}.server"],
            cwd=empty,
            env=environment,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            try:
                helpers.read_until(process.stdout.fileno(), "Serveur UP")
                done = run(f"spectacles.{question}.client", "reserve", "0", "2")
            finally:
                process.terminate()
                process.stdout.read()
                assert process.wait(helpers.DEADLINE) == 0
        assert done.returncode == 0, done
    assert "116 places" in run("spectacles", "table", "show").stdout
    assert sorted(path.name for path in empty.iterdir()) == ["data"]
