"""Log lines: date, level, tag, client, request, outcome; on the terminal and in DIR/logs."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from spectacles.common import log
from tests import helpers

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) +\[(INFO|CONSULTATION|RESERVATION)\] .+"
)


def test_lines(server: helpers.Servers, question: str) -> None:
    """Both kinds of request by default, with the client's PID or address, on the terminal and in the file alike."""
    guichet = server(question)
    with helpers.background(guichet.client_command("reserve", "0", "3")) as client:
        assert client.wait(helpers.DEADLINE) == 0
    assert guichet.client("reserve", "0", "300").returncode == 1
    assert guichet.client("consult", "0").returncode == 0
    guichet.stop()
    assert [line for line in guichet.lines if not LINE.fullmatch(line)] == []
    who = {"q1_pipes": "tube", "q5_sockets": r"127\.0\.0\.1:\d+"}.get(question, str(client.pid))
    assert re.search(rf"\[RESERVATION\] client {who} : 3 place\(s\) du spectacle 0, reste 117", guichet.output)
    assert re.search(r"\[RESERVATION\] .* : 300 place\(s\) du spectacle 0, refusé", guichet.output)
    assert guichet.output.count("[CONSULTATION] client ") == 1
    file = guichet.directory / "logs" / f"{question}.log"
    assert file.read_text().splitlines() == guichet.lines
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    if question == "q5_sockets":
        assert guichet.output.count(" connecté") == guichet.output.count(" déconnecté") == 3


def test_logs_are_kept(server: helpers.Servers) -> None:
    """A second run appends."""
    first = server("q3_threads")
    first.stop()
    second = server("q3_threads", directory=first.directory)
    second.stop()
    text = (first.directory / "logs" / "q3_threads.log").read_text()
    assert text.count("Serveur UP") == 2


@pytest.mark.parametrize(("level", "shown"), [("info", True), ("warning", False)])
def test_level(server: helpers.Servers, question: str, level: str, shown: bool) -> None:
    guichet = server(question, "--log-level", level)
    guichet.client("reserve", "0", "1")
    guichet.stop()
    assert ("[RESERVATION]" in guichet.output) == shown


@pytest.fixture
def logs(tmp_path: Path) -> int:
    """Log to a file in tmp_path/logs, and to no terminal; return a descriptor of the directory."""
    (tmp_path / "logs").mkdir()
    return os.open(tmp_path / "logs", os.O_RDONLY | os.O_DIRECTORY)


def test_rotation(
    logs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """NAME.log, .1 ... .5, each about MAX_BYTES long, 0600, no line lost between two of them."""
    monkeypatch.setattr(log, "MAX_BYTES", 1000)
    log.start(logs, "essai", "info")
    for number in range(150):
        log.info("[INFO] ligne %d", number)
    log.stop()
    os.close(logs)
    files = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == ["essai.log", *(f"essai.log.{n}" for n in range(1, log.KEPT_FILES + 1))]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert all(path.stat().st_size < 1100 for path in files)
    oldest_first = [*reversed(files[1:]), files[0]]
    numbers = [int(line.split()[-1]) for path in oldest_first for line in path.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 150))


def test_rotation_by_many(logs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: object) -> None:
    """Forked processes and threads share the file: whole lines only, none lost while nothing falls off the end."""
    monkeypatch.setattr(log, "MAX_BYTES", 4000)
    monkeypatch.setattr(log, "KEPT_FILES", 50)
    log.start(logs, "essai", "info")

    def write(who: int) -> None:
        for number in range(100):
            log.info("[INFO] %d %d", who, number)

    pids = []
    for who in range(3):
        pid = os.fork()
        if pid == 0:
            write(who)
            os._exit(0)
        pids.append(pid)
    threads = [threading.Thread(target=write, args=(who,)) for who in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
    log.stop()
    os.close(logs)
    rotated = [path.stat().st_size for path in (tmp_path / "logs").glob("essai.log.*")]
    assert min(rotated) >= log.MAX_BYTES, "rotated by two at once"
    lines = [line for path in (tmp_path / "logs").iterdir() for line in path.read_text().splitlines()]
    assert all(LINE.fullmatch(line) for line in lines)
    found = sorted(tuple(int(word) for word in line.split()[-2:]) for line in lines)
    assert found == [(who, number) for who in range(5) for number in range(100)]


def test_symbolic_link_is_refused(logs: int, tmp_path: Path) -> None:
    (tmp_path / "logs" / "essai.log").symlink_to(tmp_path / "ailleurs")
    with pytest.raises(OSError, match=os.strerror(40)):
        log.start(logs, "essai", "info")
    os.close(logs)
    assert not (tmp_path / "ailleurs").exists()


def test_no_line_is_faked(logs: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A message with a line break, an escape sequence and half a surrogate is one line, on both."""
    log.start(logs, "essai", "info")
    log.info("[INFO] client %s", "a\n2027-01-01 00:00:00,000 INFO    [INFO] faux\x1b[2J\x9b\ud800")
    log.stop()
    os.close(logs)
    text = (tmp_path / "logs" / "essai.log").read_text()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert capfd.readouterr().out == text


def test_exception_is_one_line(logs: int, tmp_path: Path, capfd: object) -> None:
    log.start(logs, "essai", "info")
    try:
        raise ValueError("deux\nlignes")
    except ValueError:
        log.exception("[INFO] requête %s", (1, 2))
    log.stop()
    os.close(logs)
    (line,) = (tmp_path / "logs" / "essai.log").read_text().splitlines()
    assert "ERROR" in line
    assert "ValueError" in line
    assert "deux\\nlignes" in line
    assert "test_log.py:" in line
