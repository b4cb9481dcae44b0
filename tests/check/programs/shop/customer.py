import contextlib
import os
import socket
import sys
import time

own = f"customer.{os.getpid()}.{time.time_ns() % 1000000}"
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.bind(own)
sock.settimeout(1.5)
count = 0


def ask(text):
    global count
    count += 1
    for _ in range(4):  # lost, or the shop is just opening again
        try:
            sock.sendto(f"{count} {text}".encode()[:400], "shop.sock")
            while True:
                number, _, said = sock.recv(512).decode().partition(" ")
                if number == str(count):
                    return said
        except TimeoutError:
            continue
        except OSError:
            time.sleep(0.3)
    sys.exit("The shop does not answer.")


try:
    while True:
        print("stock FRUIT, buy FRUIT NUMBER or bye")
        line = sys.stdin.readline()
        if not line or line.strip() == "bye":
            break
        said = ask(line.strip()[:100] or "?")
        print({"sold": "Here you are!", "too many": "We have not that many."}.get(said, said))
except KeyboardInterrupt:
    pass
finally:
    with contextlib.suppress(OSError):
        os.unlink(own)
