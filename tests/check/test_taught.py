"""What real programs have taught: small ones that are wrong in the same way, each beside one that is right.

Programs of ours, in Python where that is enough. Each accusation was first missed in a program of somebody else's.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from spectacles.lab.check import command  # noqa: F401  (all checks)
from spectacles.lab.check.runner import Judge
from spectacles.lab.dossier.profile import Item, Profile


def found(folder: Path, server: str, client: str, *only: str, **profile: Any) -> dict[str, int]:
    """Return what the checks `only` find in a program, in Python or in C: check -> defect, 0 for none."""
    folder.mkdir()
    known: dict[str, Any] = {}
    for name, text in (("serveur", server), ("client", client)):
        suffix = ".c" if "#include" in text else ".py"
        (folder / f"{name}{suffix}").write_text(textwrap.dedent(text))
        known[name.replace("serveur", "server")] = ("python3", f"{name}.py") if suffix == ".py" else (f"./{name}",)
    report = Judge(folder, Profile(**known | profile), only=only).run()
    assert not report.failed, report.failed
    return {one.check: one.defect for one in report.findings}


# Places with names

PLAN = """
    import os, socket, threading
    lock, sold = threading.Lock(), set()
    listener = socket.create_server(("127.0.0.1", 7102))
    journal = os.open("ventes.log", os.O_WRONLY | os.O_CREAT)
    def sell(place):
        if place in sold:
            return "PRISE"
        os.write(journal, b"une vente\\n")
        sold.add(place)
        return "VENDUE"
    def serve(connection):
        for line in connection.makefile("r"):
            if line == "plan\\n":
                said = "".join("X" if str(place) in sold else "_" for place in range(1, 13))
            else:
                {protect}
                    said = sell(line.strip())
            connection.sendall(f"{{said}}\\n".encode())
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
PLAN_CLIENT = """
    import socket
    connection = socket.create_connection(("127.0.0.1", 7102))
    answers = connection.makefile("r")
    while True:
        typed = input("plan, ou une place : ")
        connection.sendall(f"{typed}\\n".encode())
        print("->", answers.readline())
"""
PLACES = {
    "consult": ("plan",),
    "reserve": ("{seat}",),
    "seats": ("1-12",),
    "left": r"-> ([X_]+)$",
    "free": "_",
    "yes": "VENDUE",
    "no": "PRISE",
    "items": (Item("salle", 12),),
    "most_seats": 1,
}


def test_a_place_sold_to_two_clients_is_seen(tmp_path: Path) -> None:
    """Nothing but its name is asked for, and a map tells what is free. (Seen to fail with no place for two.)"""
    wrong, right = PLAN.format(protect="if True:"), PLAN.format(protect="with lock:")
    assert found(tmp_path / "faux", wrong, PLAN_CLIENT, "delay", **PLACES) == {"delay": 29}
    assert found(tmp_path / "juste", right, PLAN_CLIENT, "delay", **PLACES) == {"delay": 0}


# Two writes, one read

PIECES = """
    import socket, threading
    left = 40
    listener = socket.create_server(("127.0.0.1", 7103))
    def serve(connection):
        global left
        {lines}
        while word := {word}:
            if word == "places":
                connection.sendall(b"reste %d\\n" % left)
            elif word == "prendre":
                seats = {word}
                granted = seats.isdigit() and int(seats) <= left
                left -= int(seats) if granted else 0
                connection.sendall(b"oui\\n" if granted else b"non\\n")
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
PIECES_CLIENT = """
    import socket
    connection = socket.create_connection(("127.0.0.1", 7103))
    answers = connection.makefile("r")
    while True:
        typed = input("places ou prendre : ")
        seats = input("combien : ") if typed == "prendre" else ""
        for part in (typed, seats) if seats else (typed,):
            connection.sendall(part.encode() + {end!r})
        print("->", answers.readline())
"""
SEATS = {
    "consult": ("places",),
    "reserve": ("prendre", "{seats}"),
    "left": r"reste (\d+)",
    "yes": "-> oui",
    "no": "-> non",
    "items": (Item("salle", 40),),
}


def test_two_writes_that_are_read_as_one_are_seen(tmp_path: Path) -> None:
    """What a busy machine does by chance: the server finds both halves at once. (Seen to fail without the pause.)"""
    wrong = PIECES.format(lines="pass", word="connection.recv(100).decode()")
    right = PIECES.format(lines='lines = connection.makefile("r")', word="lines.readline().strip()")
    client = PIECES_CLIENT.format(end=b"")
    assert found(tmp_path / "faux", wrong, client, "together", **SEATS) == {"together": 7}
    client = PIECES_CLIENT.format(end=b"\n")
    assert found(tmp_path / "juste", right, client, "together", **SEATS) == {"together": 0}


# One variable for all who come

COMES = """
    import socket, threading
    left, newest = 40, None
    listener = socket.create_server(("127.0.0.1", 7103))
    def serve(given):
        global left
        connection = {mine}
        for line in connection.makefile("r"):
            if line == "places\\n":
                connection.sendall(b"reste %d\\n" % left)
            elif line.strip().isdigit():
                granted = int(line) <= left
                left -= int(line) if granted else 0
                connection.sendall(b"oui\\n" if granted else b"non\\n")
    while True:
        newest, _ = listener.accept()
        threading.Thread(target=serve, args=(newest,), daemon=True).start()
"""


@pytest.mark.soak
def test_two_who_arrive_together_and_get_one_variable_are_seen(tmp_path: Path) -> None:
    """The thread of the first looks when the second has come. (Seen to fail with no look at who arrives.)"""
    client = PIECES_CLIENT.format(end=b"\n")
    assert found(tmp_path / "faux", COMES.format(mine="newest"), client, "delay", **SEATS) == {"delay": 28}
    assert found(tmp_path / "juste", COMES.format(mine="given"), client, "delay", **SEATS) == {"delay": 0}


# Without a dialogue that anybody knows

ALONE = """
    import socket
    listener = socket.socket()
    {reuse}
    listener.bind(("127.0.0.1", 7104))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"bonjour\\n")
        {loop}
        connection.close()
"""
ALONE_CLIENT = """
    import socket
    connection = socket.create_connection(("127.0.0.1", 7104))
    print(connection.recv(100))
    while True:
        connection.sendall(input("mot de passe ? ").encode() + b"\\n")
        if not connection.recv(100):
            break
"""
ECHO = """while data := connection.recv(100):
            connection.sendall(data)"""
DEAF = """while True:
            connection.sendall(connection.recv(100) or b"encore")"""


def test_much_is_seen_where_nobody_knows_what_to_say(tmp_path: Path) -> None:
    """Connected and killed is enough for 33 and 24. (Seen to fail with no client started before the kill.)"""
    reuse = "listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)"
    wrong, right = ALONE.format(reuse="pass", loop=DEAF), ALONE.format(reuse=reuse, loop=ECHO)
    assert found(tmp_path / "faux", wrong, ALONE_CLIENT, "restart") == {"restart": 33}
    assert found(tmp_path / "autre", wrong, ALONE_CLIENT, "leaves") == {"leaves": 24}
    assert found(tmp_path / "juste", right, ALONE_CLIENT, "restart", "leaves") == {"restart": 0, "leaves": 0}
