"""What the judge has accused wrongly, once: small programs in which nothing of the kind is wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest

from spectacles.lab.check import command, starts  # noqa: F401  (all checks)
from spectacles.lab.check.model import State
from spectacles.lab.check.runner import Judge
from spectacles.lab.dossier import tasks
from spectacles.lab.dossier.driving import Bench
from spectacles.lab.dossier.profile import Item, Profile
from tests import helpers


def judged(folder: Path, server: str, client: str, *only: str, **profile: object) -> dict[str, State]:
    """Return what the checks `only` say of a program in Python: check -> state."""
    folder.mkdir()
    (folder / "serveur.py").write_text(textwrap.dedent(server))
    (folder / "client.py").write_text(textwrap.dedent(client))
    known = {"server": ("python3", "serveur.py"), "client": ("python3", "client.py"), **profile}
    report = Judge(folder, Profile(**known), only=only).run()  # type: ignore[arg-type]
    assert not report.failed, report.failed
    return {one.check: one.state for one in report.findings}


OFFICE = """
    import socket
    listener = socket.create_server(("127.0.0.1", 7001))
    while True:
        connection, _ = listener.accept()
        with connection:
            while (line := connection.makefile("r").readline()):
                if line == "0\\n":
                    raise SystemExit(0)
                connection.sendall(b"?\\n")
"""


def test_a_server_that_is_told_to_end_has_no_buffer_that_overflows(tmp_path: Path) -> None:
    """Two hundred letters are no number, and 0 is what the client then sends: the day is over. (Seen to fail: 25.)"""
    client = """
        import socket
        connection = socket.create_connection(("127.0.0.1", 7001))
        while True:
            typed = input("1.Liste 0.Quitter : ")
            connection.sendall(b"%d\\n" % (int(typed) if typed.isdecimal() else 0))
            if not connection.recv(100):
                break
    """
    assert judged(tmp_path / "tp", OFFICE, client, "long-input") == {"long-input": State.OK}


def test_whoever_waits_for_the_gate_or_slept_for_a_moment_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost is what everybody sleeps over for long; a busy machine keeps the gate waiting. (Seen to fail: false 28.)"""
    bench = Bench(Path("."), Profile(), patience=2.0)
    asked = SimpleNamespace(client=SimpleNamespace(program=object()), sent=True)
    monkeypatch.setattr(Bench, "quiet_for", property(lambda _: 0.2))
    assert bench._why(asked) == "late"  # type: ignore[arg-type]
    monkeypatch.setattr(Bench, "quiet_for", property(lambda _: 1.2))
    assert bench._why(asked) == "stuck"  # type: ignore[arg-type]
    bench.gate = SimpleNamespace(at_rest=lambda: False)  # type: ignore[assignment]
    assert bench._why(asked) == "late"  # type: ignore[arg-type]


@pytest.mark.soak
def test_a_server_that_is_slow_to_open_is_waited_for(tmp_path: Path) -> None:
    """Java, or a cache to be filled: it wakes by the clock, and is silent till it listens. (Seen to fail: 22.)"""
    server = "import time\ntime.sleep(2.6)\n" + textwrap.dedent(OFFICE).replace(
        "\nwhile", "\nprint('ouvert', flush=True)\nwhile", 1
    )
    assert judged(tmp_path / "tp", server, "input()", "piped-output") == {"piped-output": State.OK}


DIALOGUE = {"consult": ("0",), "reserve": ("{seats}",), "left": r"(\d+) rooms", "yes": "rooms", "no": "refused"}
HOTEL = """
    import socket
    left = 40
    listener = socket.create_server(("127.0.0.1", 7002))
    while True:
        connection, _ = listener.accept()
        with connection:
            wanted = int(connection.makefile("r").readline())
            if 0 < wanted <= min(left, 6):
                left -= wanted
            connection.sendall(b"refused" if not 0 <= wanted <= 6 else b"%d rooms" % left)
"""
GUEST = """
    import socket
    while True:
        typed = input("how many? ")
        with socket.create_connection(("127.0.0.1", 7002)) as connection:
            connection.sendall(typed.encode() + b"\\n")
            print(connection.recv(100).decode())
"""


def test_who_sells_so_many_at_a_time_has_a_lock_that_protects(tmp_path: Path) -> None:
    """Seven of forty are refused because seven are too many: that is no lost update. (Seen to fail: 29.)"""
    found = judged(tmp_path / "tp", HOTEL, GUEST, "histories", **DIALOGUE, items=(Item("rooms", 40),))
    assert found == {"histories": State.NOT_APPLICABLE}


def test_who_keeps_seats_in_memory_only_may_fail_to_write_something_else(tmp_path: Path) -> None:
    """A counter of visits is full, and after kill -9 all seats are free again, as allowed. (Seen to fail: 6.)"""
    count = "import contextlib\n        with contextlib.suppress(OSError), open('visites', 'w') as file:\n"
    server = HOTEL.replace(
        "        with connection:\n", f"        {count}            print(left, file=file)\n        with connection:\n"
    )
    found = judged(tmp_path / "tp", server, GUEST, "fail", **DIALOGUE, items=(Item("rooms", 40),))
    assert found == {"fail": State.NOT_APPLICABLE}


@pytest.mark.soak
def test_a_client_that_tries_again_for_a_while_does_not_hang(tmp_path: Path) -> None:
    """Twenty seconds for a server that is just being started again. (Seen to fail: 40.)"""
    client = """
        import socket, time
        for again in range(20):
            try:
                socket.create_connection(("127.0.0.1", 7001))
            except OSError:
                time.sleep(1)
            else:
                break
        input("1.Liste 0.Quitter : ")
    """
    assert judged(tmp_path / "tp", OFFICE, client, "no-server") == {"no-server": State.NOT_APPLICABLE}


def test_who_has_one_thing_to_sell_is_not_asked_for_another(tmp_path: Path) -> None:
    """An account, a hall: its number is not typed, so that « 99999999 » is like any other. (Seen to fail: 23.)"""
    found = judged(tmp_path / "tp", HOTEL, GUEST, "hostile-numbers", **DIALOGUE, items=(Item("rooms", 40),))
    assert found == {"hostile-numbers": State.OK}


@pytest.mark.parametrize(("left", "state"), [("left = 40", State.NOT_APPLICABLE), ("mine = 40", State.DEFECT)])
def test_who_begins_anew_with_each_client_is_not_judged_by_what_the_next_one_sees(
    tmp_path: Path, left: str, state: State
) -> None:
    """A login that fills the account again disturbs no first server; own seats are sold twice. (Seen to fail: 38.)"""
    server = f"""
        import socket, threading
        def serve(connection):
            global left
            {left}
            for line in connection.makefile("r"):
                wanted = int(line)
                if 0 < wanted <= {left.split()[0]}:
                    {left.split()[0]} -= wanted
                connection.sendall(b"%d rooms\\n" % {left.split()[0]})
        listener = socket.create_server(("127.0.0.1", 7002))
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
    """
    client = """
        import socket
        connection = socket.create_connection(("127.0.0.1", 7002))
        while True:
            connection.sendall(input("how many? ").encode() + b"\\n")
            print(connection.recv(100).decode())
    """
    found = judged(
        tmp_path / "tp", server, client, "shared-seats", "second-server", **DIALOGUE, items=(Item("rooms", 40),)
    )
    assert found == {"shared-seats": state, "second-server": State.OK}


def test_who_serves_one_client_and_goes_home_was_not_interrupted(tmp_path: Path) -> None:
    """With status 0, as it was written to do: the exercise of a first lesson. (Seen to fail: 31.)"""
    server = HOTEL.replace("while True:", "for once in range(1):")
    client = GUEST.replace("print(", "__import__('time').sleep(0.5)\n            print(")
    found = judged(tmp_path / "tp", server, client, "eintr", **DIALOGUE, items=(Item("rooms", 40),))
    assert found == {"eintr": State.NOT_REACHED}


def test_who_serves_one_client_at_a_time_is_given_one_at_a_time(tmp_path: Path) -> None:
    """Where nobody has said how a client leaves, the next one does not wait for it in vain. (Seen to fail: 38.)"""
    server = """
        import socket
        left = 40
        listener = socket.create_server(("127.0.0.1", 7002))
        while True:
            connection, _ = listener.accept()
            for line in connection.makefile("r"):
                left -= int(line)
                connection.sendall(b"%d rooms\\n" % left)
    """
    client = """
        import socket
        connection = socket.create_connection(("127.0.0.1", 7002))
        while True:
            connection.sendall(input("how many? ").encode() + b"\\n")
            print(connection.recv(100).decode())
    """
    known = {**DIALOGUE, "items": (Item("rooms", 40),), "clients": 1}
    assert judged(tmp_path / "tp", server, client, "second-server", **known) == {"second-server": State.OK}


@pytest.mark.parametrize(("does", "share"), [("time.sleep(0.002)", 0.0), ("pass", 1.0)])
def test_who_waits_long_for_his_turn_does_not_compute(monkeypatch: pytest.MonkeyPatch, does: str, share: float) -> None:
    """Beside a busy processor whoever wakes by the clock is ready whenever one looks. (Seen to fail: 35.)"""
    done = subprocess.Popen([sys.executable, "-c", f"import time\nwhile True: {does}"])
    try:
        helpers.eventually(lambda: bool(tasks.naps(done.pid, done.pid)) or does == "pass")
        ready = [tasks.Doing(done.pid, done.pid, "R", 0)]
        monkeypatch.setattr(tasks, "look", lambda _: ready)
        assert starts.busy({done.pid}, 0.3, 30)[0] == share
    finally:
        done.kill()
        done.wait()
