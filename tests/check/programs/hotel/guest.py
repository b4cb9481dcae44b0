import socket
import sys


def ask(text):
    try:
        with socket.create_connection(("127.0.0.1", 7644), timeout=20) as connection:
            connection.sendall(text.encode() + b"\n")
            said = b""
            while not said.endswith(b"\n"):
                more = connection.recv(4096)
                if not more:
                    break
                said += more
    except OSError as error:
        print("The hotel is closed:", error)
        sys.exit(1)
    print(said.decode().strip() or "No answer.")


while True:
    print("\n0 - show free rooms\n1 - reserve rooms\n2 - quit")
    line = sys.stdin.readline()
    if not line or line.strip() == "2":
        break
    if line.strip() == "0":
        ask("rooms")
    elif line.strip() == "1":
        print("Hotel number? ", end="", flush=True)
        hotel = sys.stdin.readline().strip()[:20]
        print("How many rooms (6 at most)? ", end="", flush=True)
        count = sys.stdin.readline().strip()[:20]
        ask(f"take {hotel} {count}")
