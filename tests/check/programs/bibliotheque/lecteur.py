"""A reader at the library's desk: a line of words at a time."""

import socket
import sys

PORT = 7421


def main():
    try:
        with socket.create_connection(("127.0.0.1", PORT), timeout=5) as connection:
            lines = connection.makefile("r", encoding="utf-8")
            while True:
                print("v titre (voir), p titre nombre (prendre), q (partir) ?", flush=True)
                typed = sys.stdin.readline()
                words = typed[:200].split()
                if not typed or words[:1] == ["q"]:
                    return 0
                if words[:1] == ["v"] and len(words) == 2:
                    connection.sendall(f"VOIR {words[1]}\n".encode())
                elif words[:1] == ["p"] and len(words) == 3:
                    connection.sendall(f"PRENDRE {words[1]} {words[2]}\n".encode())
                else:
                    print("Je ne comprends pas.")
                    continue
                said = lines.readline()
                if not said:
                    print("La bibliothèque a fermé.")
                    return 2
                kind, *rest = said.split()
                print(
                    {
                        "EXEMPLAIRES": f"Il y en a {' '.join(rest)} en rayon.",
                        "OUI": "Bonne lecture !",
                        "NON": "Il n'y en a pas assez.",
                    }.get(kind, "Ce titre n'est pas ici.")
                )
    except TimeoutError:
        print("Personne ne répond.")
    except OSError as error:
        print(f"La bibliothèque est fermée ({error.strerror}).")
    return 2


sys.exit(main())
