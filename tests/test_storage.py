"""spectacles.dat: what is in it when a reservation is acknowledged, what is refused, what a failed write changes."""

from __future__ import annotations

import os
import resource
import signal
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectacles.common import storage
from spectacles.common.catalogue import default_path, load
from spectacles.common.errors import SpectaclesError
from spectacles.common.spectacle import (
    DATE_SIZE,
    INT_MAX,
    NOM_SIZE,
    RECORD,
    RECORD_SIZE,
    REFUSED,
    TABLE_SIZE,
)
from spectacles.common.table import SpectacleTable
from tests import helpers

SAMPLE = load(default_path("/nowhere"))


def file_of(directory: Path) -> Path:
    """Return the path of the table."""
    return directory / "spectacles.dat"


def test_acknowledged_is_in_the_file(server: helpers.Servers, question: str) -> None:
    """As soon as the client has its answer; in place: same inode, same size, no other byte changed (defect 6).

    (Fails with the write after the reply, or with the original's O_TRUNC through a new file.)
    """
    guichet = server(question)
    path = file_of(guichet.directory)
    before, inode = path.read_bytes(), path.stat().st_ino
    left = 80
    for seats in (1, 5, 74):
        assert guichet.client("reserve", "1", str(seats)).returncode == 0
        left -= seats
        expected = bytearray(before)
        expected[RECORD_SIZE + 68 : RECORD_SIZE + 72] = left.to_bytes(4, "little")
        assert path.read_bytes() == expected
        assert path.stat().st_ino == inode
    guichet.stop()
    assert path.read_bytes() == expected


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_created_from_the_catalogue(server: helpers.Servers, question: str, directory: Path, state: str) -> None:
    if state == "empty":
        file_of(directory).touch()
    server(question, directory=directory)
    assert file_of(directory).read_bytes() == SAMPLE
    assert not (directory / storage.TEMPORARY_NAME).exists()


def test_reloaded_at_start(server: helpers.Servers, question: str) -> None:
    guichet = server(question)
    assert guichet.client("reserve", "4", "40").returncode == 0
    guichet.stop()
    again = server(question, directory=guichet.directory)
    assert again.client("consult", "4").stdout == "0 places\n"
    assert again.client("reserve", "4", "1").returncode == 1


def changed(slot: int = 0, **fields: object) -> bytes:
    """Return the sample table with fields of one slot replaced."""
    values = dict(zip(("id", "nom", "date", "places"), RECORD.unpack_from(SAMPLE, slot * RECORD_SIZE), strict=True))
    values |= fields
    table = bytearray(SAMPLE)
    RECORD.pack_into(table, slot * RECORD_SIZE, *values.values())
    return bytes(table)


def test_empty_slot_with_anything_in_it(server: helpers.Servers, question: str, directory: Path) -> None:
    """The original leaves stack bytes in empty slots: seats found there are not sold (defect 5).

    (Fails without the look at the id.)
    """
    path = file_of(directory)
    path.write_bytes(changed(0, id=0, places=50))
    guichet = server(question, directory=directory)
    before = path.read_bytes()
    done = guichet.client("reserve", "0", "1")
    assert (done.returncode, done.stdout) == (1, "Réservation refusée\n")
    assert guichet.client("consult", "0").stdout == "Spectacle inexistant\n"
    assert path.read_bytes() == before


IMPOSSIBLE = {
    "one byte": b"x",
    "one byte short": SAMPLE[:-1],
    "one byte long": SAMPLE + b"\0",
    "huge": SAMPLE * 1000,
    "negative id": changed(3, id=-1),
    "negative places": changed(3, places=-1),
    "name without end": changed(3, nom=b"x" * NOM_SIZE),
    "date without end": changed(3, date=b"x" * DATE_SIZE),
    "text": b"[[spectacle]]\n" * 60,
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_file_is_refused(directory: Path, what: str) -> None:
    """One line that names the file, code 1, and not a byte of it changed. One server, and `table show`."""
    path = file_of(directory)
    path.write_bytes(IMPOSSIBLE[what])
    for command in (
        helpers.server_command("q3_threads", "--dir", str(directory), *helpers.fresh_names("q3_threads")),
        [*helpers.server_command("q3_threads")[:2], "spectacles", "table", "show", "--dir", str(directory)],
    ):
        done = helpers.run(command)
        assert done.returncode == 1, done
        assert str(path) in helpers.one_line(done)
        assert path.read_bytes() == IMPOSSIBLE[what]


@pytest.mark.parametrize("what", ["directory", "FIFO", "symbolic link", "dangling link", "socket"])
def test_not_a_file_is_refused(question: str, directory: Path, what: str) -> None:
    """Something else in its place: one line, code 1, left as it was, and nobody blocked on a FIFO.

    (Without O_NOFOLLOW the link is followed.)
    """
    path = file_of(directory)
    target = directory / "ailleurs"
    if what == "directory":
        path.mkdir()
    elif what == "FIFO":
        os.mkfifo(path)
    elif what == "symbolic link":
        target.write_bytes(SAMPLE)
        path.symlink_to(target)
    elif what == "dangling link":
        path.symlink_to(target)
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    before = path.lstat()
    port = ["--port", "0"] if question == "q5_sockets" else []
    done = helpers.run(helpers.server_command(question, "--dir", str(directory), *helpers.fresh_names(question), *port))
    assert done.returncode == 1, done
    assert str(path) in helpers.one_line(done)
    after = path.lstat()
    assert (before.st_ino, before.st_mode, before.st_mtime_ns) == (after.st_ino, after.st_mode, after.st_mtime_ns)
    assert target.exists() == (what == "symbolic link")
    if target.exists():
        assert target.read_bytes() == SAMPLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_refused(directory: Path) -> None:
    path = file_of(directory)
    path.write_bytes(SAMPLE)
    path.chmod(0)
    done = helpers.run(
        helpers.server_command("q3_threads", "--dir", str(directory), *helpers.fresh_names("q3_threads"))
    )
    assert done.returncode == 1, done
    assert str(path) in helpers.one_line(done)


@pytest.mark.parametrize("planted", ["spectacles.dat", "server.lock", "logs", "tub1_view", "logs/q1_pipes.log"])
def test_planted_symbolic_links(directory: Path, tmp_path: Path, planted: str) -> None:
    """A link in the run directory never makes the server write elsewhere: refused, or put aside."""
    target = tmp_path / "cible"
    target.write_bytes(b"precious")
    path = directory / planted
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path if planted == "logs" else target)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    with helpers.background(
        helpers.server_command("q1_pipes", "--dir", str(directory), *helpers.fresh_names("q1_pipes"))
    ) as process:
        assert process.stdout is not None
        if planted == "tub1_view":
            helpers.read_until(process.stdout.fileno(), "Serveur UP")
            assert path.is_fifo()
            process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=helpers.DEADLINE)[0].decode()
    assert process.returncode == (0 if planted == "tub1_view" else 1), output
    assert "Traceback" not in output
    assert target.read_bytes() == b"precious"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before


def test_failed_write(server: helpers.Servers, question: str) -> None:
    """A file size limit on the running server: refused, seats given back, logged, and the service goes on.

    pwrite(2) at the limit writes a part and says so: the record must be put back. (Fails with _undo() doing nothing,
    or without the check of what pwrite returned: the seats are gone.)
    """
    guichet = server(question)
    before = file_of(guichet.directory).read_bytes()
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in guichet.tree()}
    for pid, (_, hard) in limits.items():
        # Two bytes into the seats of slot 1. The log, already longer, cannot grow either: only the terminal says it.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (2 * RECORD_SIZE - 2, hard))
    done = guichet.client("reserve", "1", "1")
    assert (done.returncode, done.stdout) == (1, "Réservation refusée\n")
    assert "écriture impossible" in guichet.wait_for("ERROR .*RESERVATION")
    assert file_of(guichet.directory).read_bytes() == before
    assert guichet.client("consult", "1").stdout == "80 places\n"
    # Slot 0 is below the limit, but while slot 1 cannot be put back nothing else is promised.
    assert guichet.client("reserve", "0", "1").returncode in (0, 1)
    assert guichet.client("list").returncode == 0
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
    assert guichet.client("reserve", "1", "80").returncode == 0
    assert helpers.places_in_file(guichet.directory, 1) == 0
    guichet.stop()
    assert "Traceback" not in guichet.output


# The parts


def test_check_table_accepts_what_can_be(tmp_path: Path) -> None:
    assert storage.check_table(SAMPLE) is None
    assert storage.check_table(bytes(TABLE_SIZE)) is None
    # The original leaves stack bytes in empty slots, after the NUL of a text, and in the padding.
    dirty = bytearray(SAMPLE)
    dirty[9 * RECORD_SIZE + 4 : 10 * RECORD_SIZE] = b"\xff" * (RECORD_SIZE - 4)
    dirty[40:54] = b"\xff" * 14
    dirty[65:68] = b"\xff" * 3
    assert storage.check_table(bytes(dirty)) is None
    assert storage.check_table(changed(0, id=INT_MAX, places=INT_MAX)) is None


@given(st.binary(max_size=TABLE_SIZE * 2) | st.binary(min_size=TABLE_SIZE, max_size=TABLE_SIZE))
def test_check_table_never_raises(table: bytes) -> None:
    """Whatever the bytes: a sentence, or None for what can be loaded and packed again."""
    problem = storage.check_table(table)
    assert problem is None or (problem and problem.isprintable())
    if len(table) != TABLE_SIZE:
        assert problem


@given(st.integers(0, 9), st.sampled_from(["id", "places"]), st.integers(-INT_MAX - 1, INT_MAX))
def test_check_table_of_any_number(slot: int, field: str, value: int) -> None:
    table = changed(slot, **({"id": 1, "nom": b"a", "date": b"b", "places": 1} | {field: value}))
    assert (storage.check_table(table) is None) == (value >= 0)


def opened(directory: Path, *, fsync: bool = True) -> tuple[int, storage.Store]:
    """Create the sample table in `directory` and open it."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    storage.create(fd, SAMPLE)
    return fd, storage.Store(fd, "la table", fsync=fsync)


def test_create_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails half way leaves the old file, and no temporary one."""
    fd, store = opened(tmp_path)

    def half(fd_: int, data: bytes, offset: int) -> None:
        os.pwrite(fd_, data[:360], offset)
        raise OSError(28, "disk full")

    monkeypatch.setattr(storage, "_write_all", half)
    with pytest.raises(OSError, match="disk full"):
        storage.create(fd, bytes(TABLE_SIZE))
    assert file_of(tmp_path).read_bytes() == SAMPLE
    assert os.listdir(tmp_path) == ["spectacles.dat"]
    store.close()
    os.close(fd)


def test_failed_fdatasync_gives_the_seats_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not surely on the disk is not acknowledged; others who waited for the same fdatasync are told too."""
    fd, store = opened(tmp_path)
    table = SpectacleTable(bytearray(TABLE_SIZE), threading.Lock(), store)
    first, second = store.write(0, SAMPLE[:RECORD_SIZE]), store.write(0, SAMPLE[:RECORD_SIZE])

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    assert table.reserve(0, 5) == REFUSED
    assert table.consult(0) == 120
    assert file_of(tmp_path).read_bytes() == SAMPLE
    monkeypatch.undo()
    for ticket in (first, second):
        with pytest.raises(OSError, match=os.strerror(5)):
            store.sync(ticket)
    assert table.reserve(0, 5) == 115
    store.close()
    os.close(fd)


def test_fdatasync_unless_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fdatasync(2) per reservation with nobody else waiting; none with --no-fsync."""
    calls: list[int] = []
    real = os.fdatasync

    def counted(fd_: int) -> None:
        calls.append(fd_)
        real(fd_)

    monkeypatch.setattr(os, "fdatasync", counted)
    for fsync, expected in ((True, 3), (False, 0)):
        calls.clear()
        fd, store = opened(tmp_path, fsync=fsync)
        table = SpectacleTable(bytearray(TABLE_SIZE), threading.Lock(), store)
        for _ in range(3):
            assert table.reserve(0, 1) >= 0
        assert table.reserve(0, 1000) == REFUSED
        assert len(calls) == expected
        store.close()
        os.close(fd)


def test_missing_is_not_the_same_as_wrong(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert storage.is_missing(fd)
    with pytest.raises(SpectaclesError):
        storage.Store(fd, "la table")
    file_of(tmp_path).touch()
    assert storage.is_missing(fd)
    file_of(tmp_path).write_bytes(b"x")
    assert not storage.is_missing(fd)
    file_of(tmp_path).unlink()
    file_of(tmp_path).symlink_to("nowhere")
    assert not storage.is_missing(fd)
    os.close(fd)
