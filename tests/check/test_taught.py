"""What real programs have taught: small ones that are wrong in the same way, each beside one that is right.

Programs of ours, in Python where that is enough. Each accusation was first missed in a program of somebody else's.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from spectacles.lab.check import command  # noqa: F401  (all checks)
from spectacles.lab.check.model import State
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
    assert {one.state for one in report.findings} <= {State.OK, State.DEFECT}, report.findings
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

COMES = r"""
    #include <arpa/inet.h>
    #include <pthread.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int left = 40;
    static void *serve(void *given) {
        int client = @MINE@, seats;
        char asked[32] = "";
        while (read(client, asked, sizeof asked - 1) > 0) {
            pthread_mutex_lock(&lock);
            seats = atoi(asked);
            int granted = seats <= left;
            if (granted) left -= seats;
            int now = left;
            pthread_mutex_unlock(&lock);
            if (asked[0] == 'p') dprintf(client, "reste %d\n", now);
            else dprintf(client, granted ? "oui\n" : "non\n");
            memset(asked, 0, sizeof asked);
        }
        close(client);
        return NULL;
    }
    int main(void) {
        struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(7103) };
        here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int listener = socket(AF_INET, SOCK_STREAM, 0), client;
        if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 8)) return 1;
        while ((client = accept(listener, NULL, NULL)) >= 0) {
            pthread_t thread;
            pthread_create(&thread, NULL, serve, @GIVEN@);
            pthread_detach(thread);
        }
        return 1;
    }
"""
COMES_CLIENT = """
    import socket
    connection = socket.create_connection(("127.0.0.1", 7103))
    answers = connection.makefile("r")
    while True:
        connection.sendall(input("places, ou combien : ").encode())
        print("->", answers.readline())
"""


@pytest.mark.soak
def test_two_who_arrive_together_and_get_one_variable_are_seen(tmp_path: Path) -> None:
    """The thread of the first looks when the second has come. (Seen to fail with no look at who arrives.)"""
    asked = SEATS | {"reserve": ("{seats}",)}
    wrong = COMES.replace("@MINE@", "*(int *)given").replace("@GIVEN@", "&client")
    right = COMES.replace("@MINE@", "(int)(intptr_t)given").replace("@GIVEN@", "(void *)(intptr_t)client")
    assert found(tmp_path / "faux", wrong, COMES_CLIENT, "delay", **asked) == {"delay": 28}
    assert found(tmp_path / "juste", right, COMES_CLIENT, "delay", **asked) == {"delay": 0}


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


@pytest.mark.soak
def test_much_is_seen_where_nobody_knows_what_to_say(tmp_path: Path) -> None:
    """Connected and killed is enough for 33 and 24. (Seen to fail with no client started before the kill.)"""
    reuse = "listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)"
    wrong, right = ALONE.format(reuse="pass", loop=DEAF), ALONE.format(reuse=reuse, loop=ECHO)
    assert found(tmp_path / "faux", wrong, ALONE_CLIENT, "restart") == {"restart": 33}
    assert found(tmp_path / "autre", wrong, ALONE_CLIENT, "leaves") == {"leaves": 24}
    assert found(tmp_path / "juste", right, ALONE_CLIENT, "restart", "leaves") == {"restart": 0, "leaves": 0}


FIRST = """
    import os, socket
    if not os.path.exists("salle.txt"):
        open("salle.txt", "w").write(input("rangs ? ") + input("places ? "))
    listener = socket.create_server(("127.0.0.1", 7104))
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"bonjour\\n")
        connection.close()
"""


def test_what_is_asked_at_the_first_start_only_is_not_waited_for_at_the_next(tmp_path: Path) -> None:
    """Rows and columns lie in a file from then on. (Seen to fail: 33, waiting to be asked for them again.)"""
    assert found(tmp_path / "juste", FIRST, ALONE_CLIENT, "restart", server_lines=("5", "8")) == {"restart": 0}


# In C: a lock that dies with nobody, one that is interrupted, an array that breaks at the end

LOCKED = r"""
    #include <arpa/inet.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <sys/sem.h>
    #include <unistd.h>
    struct office { int made, left; pthread_mutex_t lock; } *office;
    int semaphore;
    void prepare(void) { @PREPARE@ }
    void take(void) { @TAKE@ }
    void give(void) { @GIVE@ }
    int main(void) {
        int file = open("guichet.dat", O_RDWR | O_CREAT, 0600);
        if (file < 0 || ftruncate(file, sizeof *office)) return 1;
        office = mmap(NULL, sizeof *office, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (office == MAP_FAILED) return 1;
        prepare();
        if (!office->made) { office->left = 30; office->made = 1; }
        take();
        give();
        struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(7105) };
        here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 8)) return 1;
        for (;;) {
            int client = accept(listener, NULL, NULL);
            if (client < 0) { if (errno == EINTR) continue; return 1; }
            char asked[16] = "";
            int seats = read(client, asked, sizeof asked - 1) > 0 ? atoi(asked) : 0;
            take();
            int granted = seats >= 0 && seats <= office->left;
            if (granted) office->left -= seats;
            int left = office->left;
            give();
            dprintf(client, "%s %d\n", granted ? "oui" : "non", left);
            close(client);
        }
    }
"""
LOCKED_CLIENT = """
    import socket, sys
    connection = socket.create_connection(("127.0.0.1", 7105))
    connection.sendall(f"{sys.argv[1]}\\n".encode())
    print("->", connection.makefile("r").readline())
"""
MADE = "if (office->made) return; pthread_mutexattr_t kind; pthread_mutexattr_init(&kind); "
MADE += "pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED); @ROBUST@pthread_mutex_init(&office->lock, &kind);"
ROBUST = "pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST); "
TAKEN = "if (pthread_mutex_lock(&office->lock) == EOWNERDEAD) pthread_mutex_consistent(&office->lock);"
SEMAPHORE = "semaphore = semget(IPC_PRIVATE, 1, 0600); semctl(semaphore, 0, SETVAL, 1);"
SEMOP = "struct sembuf one = { 0, -1, SEM_UNDO }; "
ASKED = {
    "style": "arguments",
    "consult": ("0",),
    "reserve": ("{seats}",),
    "left": r"-> oui (\d+)",
    "yes": "-> oui",
    "no": "-> non",
    "items": (Item("salle", 30),),
}


def locked(prepare: str, take: str, give: str) -> str:
    """Return the server with this lock."""
    return LOCKED.replace("@PREPARE@", prepare).replace("@TAKE@", take).replace("@GIVE@", give)


@pytest.mark.soak
def test_a_mutex_that_stays_locked_in_its_file_is_seen(tmp_path: Path) -> None:
    """The server that comes back waits before it listens: no 33, but the lock. (Seen to fail: 33.)"""
    give = "pthread_mutex_unlock(&office->lock);"
    wrong = locked(MADE.replace("@ROBUST@", ""), "pthread_mutex_lock(&office->lock);", give)
    right = locked(MADE.replace("@ROBUST@", ROBUST), TAKEN, give)
    assert found(tmp_path / "faux", wrong, LOCKED_CLIENT, "kill", **ASKED) == {"kill": 30}
    assert found(tmp_path / "juste", right, LOCKED_CLIENT, "kill", **ASKED) == {"kill": 0}


@pytest.mark.soak
def test_a_client_that_makes_up_its_answer_is_seen(tmp_path: Path) -> None:
    """It has read nothing, and prints what it had hoped for. (Seen to fail: 32, as if the server had said so.)"""
    right = locked(MADE.replace("@ROBUST@", ROBUST), TAKEN, "pthread_mutex_unlock(&office->lock);")
    client = LOCKED_CLIENT.replace("readline()", "readline() or 'oui 0'")
    assert found(tmp_path / "faux", right, client, "kill", **ASKED) == {"kill": 7}


@pytest.mark.soak
def test_a_semop_that_is_not_taken_again_is_seen(tmp_path: Path) -> None:
    """Ctrl-Z and fg interrupt it without any handler. (Seen to fail with idle waits alone.)"""
    give = "struct sembuf one = { 0, 1, SEM_UNDO }; semop(semaphore, &one, 1);"
    wrong = locked(SEMAPHORE, SEMOP + "if (semop(semaphore, &one, 1)) exit(1);", give)
    right = locked(SEMAPHORE, SEMOP + "while (semop(semaphore, &one, 1) && errno == EINTR) { }", give)
    assert found(tmp_path / "faux", wrong, LOCKED_CLIENT, "interrupted-lock", **ASKED) == {"interrupted-lock": 31}
    assert found(tmp_path / "juste", right, LOCKED_CLIENT, "interrupted-lock", **ASKED) == {"interrupted-lock": 0}


TYPING = r"""
    #include <stdio.h>
    #include <string.h>
    int main(void) {
        char typed[16];
        for (;;) {
            printf("1.Liste 0.Quitter : ");
            fflush(stdout);
            if (scanf("@FORMAT@", typed) != 1 || !strcmp(typed, "0")) break;
            puts("?");
        }
        return 0;
    }
"""


@pytest.mark.soak
def test_an_array_that_breaks_when_its_function_returns_is_seen(tmp_path: Path) -> None:
    """The menu comes again as if nothing were; it breaks when one leaves. (Seen to fail with the long line alone.)"""
    server = ALONE.format(reuse="pass", loop=ECHO)
    for name, width, number in (("faux", "%s", 25), ("juste", "%15s", 0)):
        client = TYPING.replace("@FORMAT@", width)
        assert found(tmp_path / name, server, client, "long-input", quit=("0",)) == {"long-input": number}
