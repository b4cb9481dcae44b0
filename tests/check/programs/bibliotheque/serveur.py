"""Lends books over TCP, in lines of text: VOIR titre, PRENDRE titre n. Sound; nothing like the box office."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import threading

PORT = 7421
MOST = 50  # readers at a time
SILENCE = 60.0  # seconds
FILE = "rayons.json"
START = {"sable": 9, "orge": 4, "lune": 1, "vent": 30}

lock = threading.Lock()
rooms = threading.BoundedSemaphore(MOST)


def load():
    try:
        with open(FILE) as file:
            return json.load(file)
    except FileNotFoundError:
        save(START)
        return dict(START)


def save(books):
    """All or nothing: another file, on the disk, then renamed."""
    try:
        with open(FILE + ".neuf", "w") as file:
            json.dump(books, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(FILE + ".neuf", FILE)
    except OSError:
        return False
    return True


def answer(books, words):
    if len(words) < 2 or words[1] not in books:
        return "INCONNU"
    title = words[1]
    if words[0] == "VOIR" and len(words) == 2:
        with lock:
            return f"EXEMPLAIRES {books[title]}"
    if words[0] == "PRENDRE" and len(words) == 3 and words[2].isdecimal() and len(words[2]) < 6:
        wanted = int(words[2])
        with lock:
            if not 0 < wanted <= books[title]:
                return "NON"
            after = {**books, title: books[title] - wanted}
            if not save(after):
                return "NON"
            books.update(after)
        return "OUI"
    return "INCOMPRIS"


def serve(connection, books):
    with connection, contextlib.suppress(OSError):
        connection.settimeout(SILENCE)
        for line in connection.makefile("rb"):
            if len(line) > 200 or not line.endswith(b"\n"):
                break
            words = line.decode("utf-8", "replace").split()
            connection.sendall((answer(books, words) + "\n").encode())
    rooms.release()


def main():
    own = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("La bibliothèque est déjà ouverte.")
    books = load()
    with socket.create_server(("127.0.0.1", PORT), backlog=64, reuse_port=False) as listener:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: listener.shutdown(socket.SHUT_RDWR))
        print("Bibliothèque ouverte", flush=True)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            if not rooms.acquire(blocking=False):
                connection.close()
                continue
            threading.Thread(target=serve, args=(connection, books), daemon=True).start()
    lock.acquire()  # nobody is in the middle of a change
    print("Bibliothèque fermée", flush=True)


main()
