"""Hotel rooms in sqlite: a process a request, six rooms at most a request, at first as many as chance has it. Sound."""

import contextlib
import fcntl
import os
import random
import select
import signal
import socket
import sqlite3
import sys

PORT = 7644
FILE = "hotel.sqlite"
MOST = 40  # children at a time
NAMES = ("Ritz", "Adlon", "Sacher")


def database():
    base = sqlite3.connect(FILE, timeout=10, isolation_level=None)
    base.execute("pragma synchronous = full")
    return base


def answer(line):
    words = line.decode("utf-8", "replace").split()
    base = database()
    try:
        if words == ["rooms"]:
            rows = base.execute("select id, name, free from hotel order by id")
            return "\n".join(f"{number}: {name}, {free} rooms" for number, name, free in rows)
        if len(words) == 3 and words[0] == "take" and all(word.isdecimal() and len(word) < 8 for word in words[1:]):
            number, wanted = map(int, words[1:])
            if not 1 <= wanted <= 6:
                return "refused: one to six rooms"
            taking = "update hotel set free = free - ? where id = ? and free >= ?"
            done = base.execute(taking, (wanted, number, wanted)).rowcount
            return "taken" if done == 1 else "refused: not that many"
    except sqlite3.Error:
        return "refused: try again later"
    finally:
        base.close()
    return "refused: what?"


def child(connection):
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(60)  # nobody may keep it waiting
    data = b""
    while not data.endswith(b"\n") and len(data) < 200:
        more = connection.recv(200)
        if not more:
            return
        data += more
    connection.sendall((answer(data) + "\n").encode())


def prepare():
    base = database()
    base.execute("begin immediate")
    base.execute("create table if not exists hotel (id integer primary key, name text, free integer)")
    if not base.execute("select count(*) from hotel").fetchone()[0]:
        rows = [(number, name, random.randint(20, 90)) for number, name in enumerate(NAMES)]
        base.executemany("insert into hotel values (?, ?, ?)", rows)
    base.execute("commit")
    base.close()


def main():
    lock = os.open("hotel.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("There is a hotel server already.")
    prepare()
    children = set()
    with socket.create_server(("127.0.0.1", PORT), backlog=64) as listener:
        told, tell = socket.socketpair()
        tell.setblocking(False)
        signal.set_wakeup_fd(tell.fileno())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        print("Hotel open", flush=True)
        while True:
            ready, _, _ = select.select([listener, told] if len(children) < MOST else [told], [], [])
            if told in ready:
                if set(told.recv(100)) & {signal.SIGINT, signal.SIGTERM}:
                    break
                while children and (gone := os.waitpid(-1, os.WNOHANG)[0]):
                    children.discard(gone)
            if listener in ready:
                connection, _ = listener.accept()
                with connection:
                    pid = os.fork()
                    if not pid:
                        with contextlib.suppress(OSError):
                            child(connection)
                        os._exit(0)
                    children.add(pid)
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    print("Hotel closed", flush=True)


main()
