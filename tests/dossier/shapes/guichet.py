"""A sound box office over TCP, one thread per client, lines of text: what the clients of these shapes all talk to."""

import contextlib
import socketserver
import threading

SHOWS = {"1": ["Carmen", 40], "2": ["Norma", 25], "3": ["Tosca", 60]}
HALL = [["."] * 6 for _ in range(4)]
ACCOUNTS = {}
LOCK = threading.Lock()


def answer(words):
    """Return the answer to one request, a line."""
    match words:
        case ["LIST"]:
            return ";".join(f"{number} {name} {left}" for number, (name, left) in SHOWS.items())
        case ["RES", show, seats] if show in SHOWS and seats.isdigit() and int(seats) <= SHOWS[show][1]:
            SHOWS[show][1] -= int(seats)
            return f"OK {SHOWS[show][1]}"
        case ["HALL"]:
            return ";".join("".join(row) for row in HALL)
        case ["SEAT", row, column] if row in "1234" and column in "123456" and len(row + column) == 2:
            row, column = int(row) - 1, int(column) - 1
            free = HALL[row][column] == "."
            HALL[row][column] = "X"
            return "OK" if free else "NO"
        case ["SIGNUP", _, secret]:
            ACCOUNTS[str(1001 + len(ACCOUNTS))] = secret
            return str(1000 + len(ACCOUNTS))
        case ["LOGIN", number, secret]:
            return "OK" if ACCOUNTS.get(number) == secret else "NO"
    return f"NO {SHOWS[words[1]][1]}" if words[1:] and words[1] in SHOWS else "NO 0"


class Client(socketserver.StreamRequestHandler):
    """One client, as long as it is there."""

    def handle(self):
        """Answer line after line."""
        for line in self.rfile:
            with LOCK:
                said = answer(line.decode(errors="replace").split())
            self.wfile.write(f"{said}\n".encode())


class Server(socketserver.ThreadingTCPServer):
    """The server."""

    allow_reuse_address = True
    daemon_threads = True


def serve(port):
    """Serve until Ctrl-C."""
    with Server(("127.0.0.1", port), Client) as server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
