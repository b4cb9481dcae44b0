"""Fruit over UNIX datagrams: who hears nothing asks again under the same number, and is served once. Sound."""

import collections
import contextlib
import fcntl
import os
import signal
import socket
import sys

STOCK = {"apples": 48, "pears": 10, "plums": 27}
WHERE = "shop.sock"


def main():
    lock = os.open("shop.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("The shop is open already.")
    if os.path.exists(WHERE):
        os.unlink(WHERE)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(WHERE)
    done = collections.OrderedDict()  # (client, number) -> answer

    def stop(*_):
        raise SystemExit(0)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    print("Shop open", flush=True)
    try:
        while True:
            data, who = sock.recvfrom(512)
            if not who:
                continue
            words = data.decode("ascii", "replace").split()
            key = (who, words[0] if words else "")
            if key not in done:
                done[key] = answer(words[1:])
                while len(done) > 1000:
                    done.popitem(last=False)
            with contextlib.suppress(OSError):
                sock.sendto(f"{key[1]} {done[key]}".encode(), socket.MSG_DONTWAIT, who)
    finally:
        os.unlink(WHERE)
        print("Shop closed", flush=True)


def answer(words):
    if len(words) == 2 and words[0] == "stock" and words[1] in STOCK:
        return f"{STOCK[words[1]]} in stock"
    if len(words) == 3 and words[0] == "buy" and words[1] in STOCK and words[2].isdecimal() and 0 < len(words[2]) < 7:
        wanted = int(words[2])
        if 0 < wanted <= STOCK[words[1]]:
            STOCK[words[1]] -= wanted
            return "sold"
        return "too many"
    return "pardon?"


main()
