"""What the clients of these shapes share: one connection, a request and its answer."""

import socket


class Desk:
    """A connection to the box office."""

    def __init__(self, host="127.0.0.1", port=7000):
        self.socket = socket.create_connection((host, port))
        self.lines = self.socket.makefile("r")

    def send(self, *words):
        """Ask, and do not wait."""
        self.socket.sendall((" ".join(map(str, words)) + "\n").encode())

    def ask(self, *words):
        """Ask, and return the answer."""
        self.send(*words)
        return self.lines.readline().strip()

    def shows(self):
        """Print the shows."""
        for row in self.ask("LIST").split(";"):
            number, name, left = row.split()
            print(f"{number} - {name} : {left} places libres")

    def reserve(self, show, seats):
        """Reserve, and say what became of it."""
        said = self.ask("RES", show, seats)
        print("Réservation confirmée" if said.startswith("OK") else "Réservation refusée, pas assez de places")
