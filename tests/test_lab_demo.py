"""`spectacles demo`: real servers, real clients, and accounts that would show a single missing seat."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spectacles.lab.display import terminal
from spectacles.lab.programs.process import FURTHER, QUESTIONS, TCP
from tests import helpers

DEMO = [sys.executable, "-m", "spectacles", "demo"]


def environment(tmp_path: Path, customize: str = "") -> dict[str, str]:
    """Return an environment whose temporary files are in tmp_path/tmp; customize: code for every interpreter."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(customize)
    path = f"{tmp_path / 'site'}{os.pathsep}{helpers.ROOT}"
    return os.environ | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": path, "COLUMNS": "100"}


def accounts(output: str) -> dict[str, list[str]]:
    """Return the words of each line of the closing table, by question."""
    found: dict[str, list[str]] = {}
    for line in output[output.index("Les comptes") :].splitlines():
        words = line.split()
        if words and words[0] in (*QUESTIONS, *FURTHER):
            found.setdefault(words[0], words[1:])  # what is wrong follows below
    return found


def kernel_objects(output: str) -> list[str]:
    """Return those of the kernel objects that the servers named at start which still exist."""
    keys = {int(key, 16) for key in re.findall(r"key (0x[0-9a-f]+)", output)}
    left = [
        f"{kind} {line.split()[0]}"
        for kind in ("msg", "shm")
        for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        if int(line.split()[0]) & 0xFFFFFFFF in keys
    ]
    names = re.findall(r"sem-name /(\S+)", output)
    return left + [name for name in names if Path(f"/dev/shm/sem.{name}").exists()]


def test_all_questions(tmp_path: Path) -> None:
    """Every question sells, refuses, and its sum is right; nothing stays behind.

    (With the server's stop taken out of run_question() a server and its directory stay.)
    """
    done = helpers.run(DEMO, cwd=tmp_path, env=environment(tmp_path), timeout=90)
    assert done.returncode == 0, done
    assert done.stderr == ""
    found = accounts(done.stdout)
    without = [] if shutil.which("etcd") else ["x3_cluster"]
    assert list(found) == [question for question in (*QUESTIONS, *FURTHER) if question not in without]
    assert ("x3_cluster est laissée de côté" in done.stdout) == bool(without)
    for question, (initial, sold, left, refused, verdict, processes, threads, *_) in found.items():
        assert verdict == "exacte", done.stdout
        assert int(initial) == sum(helpers.PLACES)
        assert int(left) == int(initial) - int(sold)
        # All want 5 of the last 12: two get them, whoever they are, and the others must not.
        assert int(sold) == {"q1_pipes": 12, "x2_basket": 14}.get(question, 20)
        assert int(refused) == (1 if question == "q1_pipes" else 2)
        several = dict.fromkeys((*helpers.FORKING, "x1_sessions"), 3) | {"x3_cluster": 2}
        assert int(processes) == several.get(question, 1)
        expected = {"q4_thread_per_request": 2, "x1_sessions": 12} | dict.fromkeys(TCP, 2)
        if question != "x3_cluster":  # etcd has as many as it likes
            assert int(threads) == expected.get(question, 3)
    for said in ("Serveur UP", "[CONSULTATION]", "[RESERVATION]", "client 4 │", "Réservation refusée", "Œdipe roi"):
        assert said in done.stdout
    assert "\x1b[" not in done.stdout, "colours in a pipe"
    assert len(kernel_objects(done.stdout)) == 0
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "broken",
    [
        # It acknowledges and takes nothing.
        "from spectacles.common.table import SpectacleTable as T\nT.reserve = lambda self, show, seats: 0\n",
        # It takes, and never saves; nor does housekeeping, which would, as it finds what was never written.
        "from spectacles.common.storage import Store\nStore.write = lambda self, offset, record: 1\n"
        "Store.look = lambda self: self.table.snapshot()\n",
    ],
    ids=["answer", "file"],
)
def test_a_wrong_sum_is_found(tmp_path: Path, broken: str) -> None:
    """A table that loses reservations, or only their record, makes the exit code 1.

    (Without the comparison with the file, the second one passes for right.)
    """
    done = helpers.run([*DEMO, "3"], cwd=tmp_path, env=environment(tmp_path, broken), timeout=60)
    assert done.returncode == 1, done
    assert "FAUSSE" in accounts(done.stdout)["q3_threads"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """A signal to the whole group, as Ctrl-C sends it, ends the demonstration at once and leaves nothing.

    (With terminal.Interrupts left out, SIGTERM leaves the server; the fixture of all tests finds processes.)
    """
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            DEMO, cwd=tmp_path, env=environment(tmp_path), stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        helpers.eventually(lambda: "q2_msq, PID" in output.read_text(), "question 2 at work")
        os.killpg(process.pid, number)
        assert process.wait(helpers.DEADLINE) == 130
    said = output.read_text()
    assert "Traceback" not in said
    assert "Les comptes" not in said
    assert kernel_objects(said) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_signal_waits_while_a_process_is_being_started() -> None:
    """Within held() nothing is raised; it comes at the end of it, once, and the next ones are ignored.

    (With `_held` never set the first line after the signal is not reached.)
    """
    reached = []
    with terminal.Interrupts() as interrupts:

        def start() -> None:
            with interrupts.held():
                os.kill(os.getpid(), signal.SIGTERM)
                reached.append(True)

        with pytest.raises(KeyboardInterrupt):
            start()
        os.kill(os.getpid(), signal.SIGTERM)
    assert reached


@pytest.mark.parametrize(
    ("missing", "command"),
    [("rich", ["demo"]), ("rich", ["compare"]), ("jinja2", ["compare", "3", "--html", "page.html"])],
)
def test_without_the_extra(tmp_path: Path, missing: str, command: list[str]) -> None:
    """Without the extra, one line says what to install, before any work is done.

    (Imported at the top of the module, it is a traceback; without require_jinja() it is said after the work.)
    """
    environ = environment(tmp_path, f"import sys\nsys.modules['{missing}'] = None\n")
    done = helpers.run([sys.executable, "-m", "spectacles", *command], cwd=tmp_path, env=environ)
    assert done.returncode == 1
    assert f"install {missing}" in helpers.one_line(done)
    assert done.stdout == ""


def test_wrong_usage(tmp_path: Path) -> None:
    """A question that is none is refused before anything starts. (Without the check, it is a traceback.)"""
    done = helpers.run([*DEMO, "6"], cwd=tmp_path)
    assert done.returncode == 2
    assert "« 6 »" in helpers.one_line(done)


def test_closed_output(tmp_path: Path) -> None:
    """`spectacles demo | head -1` ends without a traceback and leaves nothing.

    (With the server stopped only at the regular end of run_question(), it stays.)
    """
    command = f"{sys.executable} -m spectacles demo 2 | head -1"
    done = helpers.run(["sh", "-c", command], cwd=tmp_path, env=environment(tmp_path), timeout=60)
    assert "q2_msq" in done.stdout
    assert "Traceback" not in done.stderr
    helpers.eventually(lambda: not list((tmp_path / "tmp").iterdir()), "its directory removed")
