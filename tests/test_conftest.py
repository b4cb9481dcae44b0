"""The tests' own surroundings: the guard that looks for what they leave, the signals that their programs inherit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import helpers

LEAVES = {
    "queue": "sysv_ipc.MessageQueue(helpers.fresh_key(), sysv_ipc.IPC_CREX)",
    "memory": "sysv_ipc.SharedMemory(helpers.fresh_key(), sysv_ipc.IPC_CREX, size=720)",
    "semaphore": "posix_ipc.Semaphore(helpers.fresh_semaphore(), posix_ipc.O_CREX)",
    "child": "subprocess.Popen(['sleep', '60'])",
    "zombie": "os.fork() or os._exit(0)",
    "orphan": "subprocess.run(['sh', '-c', 'setsid sleep 60 >/dev/null 2>&1 &'])",
    "nothing": "pass",
}


@pytest.mark.parametrize("what", LEAVES)
def test_what_is_left_behind_fails_the_test(what: str, tmp_path: Path) -> None:
    """What a test leaves behind fails that test. (With the guard off, the inner run passes.)"""
    inner = tmp_path / "test_inner.py"
    inner.write_text(
        "import os, subprocess, posix_ipc, sysv_ipc\n"
        "from tests import helpers\n"
        "import tests.conftest\n"
        "tests.conftest.SETTLE = 0.3\n"
        "from tests.conftest import _nothing_left, _nothing_left_at_the_end\n"
        f"def test_it():\n    {LEAVES[what]}\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--rootdir", str(tmp_path), str(inner)]
    done = helpers.run(command, cwd=tmp_path)
    if what == "nothing":
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert done.returncode == 1, done.stdout + done.stderr
        assert "left behind" in done.stdout


def test_programs_of_tests_inherit_no_signal(tmp_path: Path) -> None:
    """However the suite was started: in the background of a script, under nohup, from a program that blocks signals.

    (With signals_as_in_the_foreground() doing nothing, the inner test fails; so did five of the menu.)
    """
    inner = tmp_path / "test_inner.py"
    inner.write_text(
        "import subprocess\n"
        "from tests import conftest, helpers\n"
        "def test_it():\n"
        "    with subprocess.Popen(['cat'], stdin=subprocess.PIPE) as program:\n"
        "        helpers.eventually(lambda: b'cat' in open(f'/proc/{program.pid}/cmdline', 'rb').read())\n"
        "        found = {which: helpers.signals(program.pid, which) for which in ('SigIgn', 'SigBlk')}\n"
        "    assert found == {'SigIgn': set(), 'SigBlk': set()}\n"
    )
    prefix = helpers.inheriting(ignored=helpers.ALL_SIGNALS, blocked=helpers.ALL_SIGNALS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--rootdir", str(tmp_path), str(inner)]
    done = helpers.run([*prefix, *command], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_directories_of_the_same_test_are_answered_for(tmp_path: Path) -> None:
    """Somebody's server may have a key that an earlier test could have had: it is neither complained of nor removed.

    (Without forget_directories(), the second test fails, and the memory is gone.)
    """
    inner = tmp_path / "test_inner.py"
    inner.write_text(
        "import sysv_ipc\n"
        "from spectacles.common import addresses\n"
        "from tests import helpers\n"
        "import tests.conftest\n"
        "tests.conftest.SETTLE = 0.1\n"
        "from tests.conftest import _nothing_left, _nothing_left_at_the_end\n"
        f"KEY = addresses.directory_key({str(tmp_path)!r}, addresses.PROJECT_SHM)\n"
        f"def test_first():\n    helpers.register_directory({str(tmp_path)!r})\n"
        "def test_second():\n    sysv_ipc.SharedMemory(KEY, sysv_ipc.IPC_CREX, size=1).detach()\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--rootdir", str(tmp_path), str(inner)]
    done = helpers.run(command, cwd=tmp_path)
    helpers.register_directory(tmp_path)
    left = helpers.own_objects()
    helpers.remove_objects(left)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(left) == 1
