"""What a client shows: the menu of the original for people, one answer and an exit code for scripts."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys

from spectacles.common.cli import parse_integer, stdout_is_closed
from spectacles.common.errors import EXIT_DONE, EXIT_REFUSED, NoAnswerError, NoServerError, RefusedError, reason
from spectacles.common.spectacle import INT_MAX, REFUSED
from spectacles.common.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from spectacles.common.spectacle import Spectacle

    class Session(Protocol):
        """A client's conversation with the server. Every method blocks, for the timeout at most.

        Each raises NoServerError if nobody could be asked, NoAnswerError if nobody answered.

        question: as the head of the menu says it.
        """

        question: str

        @property
        def server(self) -> str:
            """Who answers, as the head of the menu says it; "" as long as no answer has said so."""

        def catalogue(self) -> list[tuple[int, Spectacle]] | None:
            """Return the shows known before asking the server (question 1), None where only the server knows."""

        def list(self) -> list[tuple[int, Spectacle]]:
            """Return the shows, each with its slot 0..9 and the seats left."""

        def consult(self, show: int) -> int:
            """Return the seats left for slot `show`, REFUSED (-1) if there is no such show."""

        def reserve(self, show: int, seats: int) -> bool:
            """Ask for `seats` seats of slot `show`; return whether they were acknowledged."""

        def reconnect(self) -> None:
            """Look for the server anew, after a NoServerError."""


WIDTH = 50  # columns of what the menu says: what a projector shows in letters that can be read from afar
ECHO = 40  # characters of a wrong answer that are shown again


def run(
    session: Session,
    options: Namespace,
    *,
    entries: Sequence[tuple[str, Callable[[], object]]] = (),
    commands: Mapping[str, Callable[[], int]] | None = None,
) -> int:
    """Run the command of `options`, or the menu without one. Return the exit code. Raises NoServerError.

    entries: what the menu offers from 3 on, and what to do then. commands: that a client has beside those of all.
    """
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "sortie fermée")
        if options.command is None:
            return _menu(session, entries)
        if commands and options.command in commands:
            return commands[options.command]()
        code, text = _command(session, options)
        print(text, flush=True)
        return code
    except OSError as error:  # of standard output: what befalls a session is a NoServerError
        stdout_is_closed()
        raise NoServerError(f"la sortie ne prend pas la réponse du serveur : {reason(error)}") from None


def line(slot: int, show: Spectacle) -> str:
    """Return a show as every menu lists it."""
    return f"[{slot}] {printable(show.nom)} | {printable(show.date)} | {show.places} places"


def shows_answer(shows: list[tuple[int, Spectacle]]) -> dict[str, object]:
    """Return what --json says of a list of shows."""
    fields = ("id", "nom", "date", "places")
    return {"shows": [{"index": slot} | {field: getattr(show, field) for field in fields} for slot, show in shows]}


def json_text(answer: dict[str, object]) -> str:
    """Return `answer` as one line of JSON."""
    import json  # here: a person's client does without

    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(answer, ensure_ascii=not utf8)
    return text if printable(text) == text else json.dumps(answer)  # U+009B drives terminals


def _command(session: Session, options: Namespace) -> tuple[int, str]:
    """Return the exit code, and the answer as text."""
    code = EXIT_DONE
    if options.command == "list":
        shows = session.list()
        answer = shows_answer(shows)
        text = "\n".join(line(slot, show) for slot, show in shows) or "Aucun spectacle"
    elif options.command == "consult":
        places = session.consult(options.show)
        answer = {"show": options.show, "places": places}
        text = f"{places} places"
        if places == REFUSED:
            answer["places"] = None
            text, code = "Spectacle inexistant", EXIT_REFUSED
    else:
        ack = _reserve(session, options.show, options.seats)
        answer = {"show": options.show, "seats": options.seats, "ack": ack}
        text, code = ("Réservation OK", EXIT_DONE) if ack else ("Réservation refusée", EXIT_REFUSED)
    return code, json_text(answer) if options.json else text


def _menu(session: Session, entries: Sequence[tuple[str, Callable[[], object]]]) -> int:
    more = {str(number): entry for number, entry in enumerate(entries, 3)}
    offered = "".join(f"{number}. {title}\n" for number, (title, _) in more.items())
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(
            errors="replace"
        )  # a byte that is no text makes its own line invalid, not all that follow
    _edit_lines()
    while True:
        say("\n" + ", ".join(filter(None, (session.question, f"PID {os.getpid()}", session.server))))
        print(f"==== MENU ====\n1. Consultation\n2. Réservation\n{offered}0. Quitter")
        try:
            choice = ask("Votre choix : ")
            if choice == "0":
                return EXIT_DONE
            if choice == "1":
                _consultation(session)
            elif choice == "2":
                _reservation(session)
            elif choice in more:
                more[choice][1]()
            else:
                print("Choix invalide")
        except RefusedError as error:
            say(str(error))
        except EOFError:
            print("\nFin de l'entrée, au revoir.")
            return EXIT_DONE
        except KeyboardInterrupt:
            print()
            raise
        except NoServerError as error:
            say(f"Erreur : {error}")
            if not _reconnected(session):
                raise


def _reconnected(session: Session) -> bool:
    try:
        while ask("Se reconnecter ? (o/n) : ").lower() in ("o", "oui"):
            try:
                session.reconnect()
                say("Reconnecté. Ce qui était demandé n'est pas redemandé.")
                return True
            except NoServerError as error:
                say(f"Erreur : {error}")
    except EOFError:
        print()
    return False


def _edit_lines() -> None:
    """Let a person at a terminal edit the line being typed; what was typed before is not offered again."""
    if sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
        with contextlib.suppress(ImportError):  # a Python without it: the terminal's own editing
            import readline

            readline.set_auto_history(False)
            readline.parse_and_bind("set enable-bracketed-paste off")  # its codes would go to the screen


def say(text: str) -> None:
    """Print `text`; on a terminal in lines of WIDTH columns, none of which begins with a sign that French sets off."""
    if not sys.stdout.isatty():
        print(text)
        return
    tied = re.sub(r" (?=[:;?!»])|(?<=«) ", "\u00a0", text)
    line, *rest = tied.split(" ")
    lines = []
    for word in rest:
        if len(line.rpartition("\n")[2]) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = word
        else:
            line += " " + word
    print("\n".join([*lines, line]).replace("\u00a0", " "))


def _consultation(session: Session) -> None:
    known = session.catalogue()
    if known is None:
        shows = session.list()
        print("\nRéponse du serveur :")
        print("\n".join(line(slot, show) for slot, show in shows) or "Aucun spectacle")
        return
    print("\n==== SPECTACLES DISPONIBLES ====")
    for slot, show in known:
        print(f"[{slot}] {printable(show.nom)} | {printable(show.date)}")
    places = session.consult(ask_number("\nNuméro du spectacle à consulter : "))
    print("Spectacle inexistant" if places == REFUSED else f"Selon le serveur : {places} places disponibles")


def _reservation(session: Session) -> None:
    print("\n==== RÉSERVATION ====")
    show = ask_number("Numéro du spectacle à réserver : ")
    seats = ask_number("Nombre de places à réserver : ")
    if _reserve(session, show, seats):
        print("Réservation OK. À bientôt dans nos salles !")
    else:
        say("Réservation NOK : ce spectacle n'existe pas, ou ce nombre de places n'y est pas à prendre.")


def _reserve(session: Session, show: int, seats: int) -> bool:
    try:
        return session.reserve(show, seats)
    except NoAnswerError as error:
        fate = "sera peut-être faite plus tard" if error.waits else "a peut-être été faite"
        raise NoAnswerError(f"{error} ; la réservation {fate}", waits=error.waits) from None


def ask(prompt: str) -> str:
    """Return the next line typed, stripped. Blocks. Raises EOFError."""
    try:
        return input(prompt).strip()
    except UnicodeDecodeError:
        return ""
    except RuntimeError:  # standard input was closed from the start
        raise EOFError from None


def ask_number(prompt: str) -> int:
    """Return the number typed, a C int. Blocks. Raises RefusedError for what is none, EOFError."""
    text = ask(prompt)
    number = parse_integer(text)
    if number is None:
        raise RefusedError(f"Choix invalide : « {_cut(text)} » n'est pas un nombre entier")
    if not -INT_MAX - 1 <= number <= INT_MAX:
        raise RefusedError(f"Choix invalide : {_cut(text)} dépasse un entier du C")
    return number


def _cut(text: str) -> str:
    """Return the beginning of what somebody typed, enough to recognise it."""
    return text if len(text) <= ECHO else text[:ECHO] + "…"
