"""What the judge has accused wrongly, once: programs in which nothing of the kind is wrong, each as small as it can be."""

from __future__ import annotations

import textwrap
from pathlib import Path

from spectacles.lab.check import command  # noqa: F401  (all checks)
from spectacles.lab.check.model import State
from spectacles.lab.check.runner import Judge
from spectacles.lab.dossier.profile import Profile


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
    """Two hundred letters are no number, and 0 is what the client then sends: the end of the day. (Seen to fail: 25.)"""
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
