"""Client with a basket: question 5's, with four requests more on the same connection.

client ══ connection ══▶ {type, spectacle, places}
       ◀════════════════ Spectacle[10], bool, or {seconds, Spectacle[10]}

The basket is the server's, and the connection's: it is lost with either. What is confirmed is the number of seats that
this side knows of, so that a basket that has shrunk meanwhile is not bought for the one that was meant.
"""

from __future__ import annotations

import argparse
import sys
import time

from spectacles.common import cli, menu
from spectacles.common.errors import EXIT_DONE, EXIT_REFUSED, NoAnswerError, RefusedError
from spectacles.common.lifecycle import program
from spectacles.common.protocol import BASKET, CONFIRM, HOLD, RELEASE, TCP_BASKET_REPLY, TCP_REQUEST
from spectacles.common.spectacle import Spectacle, unpack_table
from spectacles.q5_sockets.channel import ClientConnection, is_text
from spectacles.q5_sockets.client import Session as WithoutBasket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")
    Step = tuple[str, tuple[float, ...]]  # verb, its numbers

VERBS: dict[str, tuple[Callable[[str], float], ...]] = {
    "hold": (cli.c_int, cli.c_int),
    "release": (cli.c_int, cli.c_int),
    "show": (),
    "confirm": (),
    "wait": (cli.seconds,),
}


class Session(WithoutBasket):
    """A conversation over the connection: see menu.Session. Every method blocks, and raises NoServerError."""

    question = "Panier (après la question 5)"

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__(connection)
        self.reconnect = self._reconnect
        self.held = 0  # seats in the basket, as far as the last answer about it told
        self._known = False  # whether the server has a basket: one of question 5 hangs up

    def hold(self, show: int, seats: int) -> bool:
        """Put seats into the basket; return whether they could be had."""
        done = self._of_basket(lambda: self.ask(HOLD, show, seats))
        self.held += seats * done
        return done

    def release(self, show: int, seats: int) -> bool:
        """Take seats out of the basket; return whether they were in it."""
        done = self._of_basket(lambda: self.ask(RELEASE, show, seats))
        self.held -= seats * done
        return done

    def basket(self) -> tuple[int, list[tuple[int, Spectacle]]]:
        """Return the seconds until its first seats go back, and the shows in it, `places` those held."""
        reply = self._of_basket(
            lambda: self._connection.exchange(TCP_REQUEST.pack(BASKET, 0, 0), TCP_BASKET_REPLY.size)
        )
        if is_text(reply):
            raise self._connection.strange(reply)
        left, table = TCP_BASKET_REPLY.unpack(reply)
        shows = unpack_table(table)
        self.held = sum(show.places for _, show in shows)
        return left, shows

    def confirm(self, seats: int) -> bool:
        """Buy the basket if there are exactly `seats` seats in it; return whether that was acknowledged."""
        try:
            done = self._of_basket(lambda: self.ask(CONFIRM, 0, seats))
        except NoAnswerError as error:
            raise NoAnswerError(f"{error} ; le panier a peut-être été confirmé, en entier") from None
        self.held *= not done
        return done

    def _of_basket(self, exchange: Callable[[], T]) -> T:
        try:
            reply = exchange()
        except NoAnswerError as error:
            if self._known:
                raise
            raise NoAnswerError(f"{error} Ou un serveur sans panier, de la question 5 ?") from None
        self._known = True
        return reply

    def _reconnect(self) -> None:
        self._connection.connect()
        self.held = 0
        menu.say("Le panier est vide : il tenait à l'ancienne connexion.")


def steps(words: Sequence[str]) -> list[Step]:
    """Return what `words` ask for, as hold 0 2 confirm. Raises argparse.ArgumentTypeError."""
    found: list[Step] = []
    rest = list(words)
    while rest:
        verb = rest.pop(0)
        if verb not in VERBS:
            raise argparse.ArgumentTypeError(f"« {verb} » : l'un de {', '.join(VERBS)} est attendu")
        kinds = VERBS[verb]
        if len(rest) < len(kinds):
            raise argparse.ArgumentTypeError(f"{verb} : {len(kinds)} nombre(s) attendu(s)")
        found.append((verb, tuple(kind(rest.pop(0)) for kind in kinds)))
    return found


def play(session: Session, script: list[Step], *, as_json: bool) -> int:
    """Do one step after the other, and stop at the first that is refused. Return the exit code. Blocks."""
    told: list[dict[str, object]] = []
    seats, code = 0, EXIT_DONE  # seats: in the basket, as far as we were told
    for verb, numbers in script:
        show, number = (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else (0, 0)
        done, text = True, ""
        if verb == "hold":
            done, text = session.hold(show, number), f"Au panier : {number} place(s) du spectacle {show}"
            seats += number * done
        elif verb == "release":
            done, text = session.release(show, number), f"Rendu : {number} place(s) du spectacle {show}"
            seats -= number * done
        elif verb == "confirm":
            done, text = session.confirm(seats), f"Panier confirmé : {seats} place(s)"
            seats *= not done
        elif verb == "wait":
            time.sleep(numbers[0])
        answer: dict[str, object] = {"step": verb, "ack": done}
        if verb in ("hold", "release"):
            answer |= {"show": show, "seats": number}
        elif verb == "show":
            left, shows = session.basket()
            answer |= {"seconds": left} | menu.shows_answer(shows)
            text = "\n".join(_described(left, shows))
        told.append(answer)
        code = EXIT_DONE if done else EXIT_REFUSED
        if text and not as_json:
            print(text if done else f"Refusé : {verb} {' '.join(map(str, numbers))}".rstrip(), flush=True)
        if not done:
            break
    if as_json:
        print(menu.json_text({"steps": told, "ack": code == EXIT_DONE}), flush=True)
    return code


class Entries:
    """What the menu offers beside the original's."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[tuple[str, Callable[[], object]]]:
        """Return title and action of each, from number 3 on."""
        return [
            ("Mettre au panier", self._hold),
            ("Retirer du panier", self._release),
            ("Voir le panier", self._show),
            ("Confirmer le panier", self._confirm),
        ]

    def _hold(self) -> None:
        if self._session.hold(*_show_and_seats("à mettre au panier")):
            self._show()
        else:
            menu.say("Refusé : ce spectacle n'existe pas, ou ce nombre de places n'y est pas à prendre.")

    def _release(self) -> None:
        if self._session.release(*_show_and_seats("à retirer du panier")):
            self._show()
        else:
            menu.say("Refusé : ces places ne sont pas au panier.")

    def _show(self) -> int:
        before = self._session.held
        left, shows = self._session.basket()
        if gone := before - self._session.held:
            menu.say(f"\nTemps écoulé : {gone} place(s) de ce panier ont été remises en vente.")
        *lines, last = _described(left, shows)
        print("\n" + "\n".join(lines), end="\n" * bool(lines))
        menu.say(last)
        return self._session.held

    def _confirm(self) -> None:
        seats = self._show()
        if not seats:
            return
        if menu.ask(f"Confirmer ces {seats} place(s) ? (o/n) : ").lower() not in ("o", "oui"):
            raise RefusedError("Rien n'est confirmé, le panier reste.")
        if self._session.confirm(seats):
            print("Panier confirmé. À bientôt dans nos salles !")
        else:
            menu.say("Panier NOK : des places en sont parties, leur temps écoulé, ou le serveur ne peut pas l'écrire.")


def _show_and_seats(what: str) -> tuple[int, int]:
    print("\n==== PANIER ====")
    show = menu.ask_number(f"Numéro du spectacle {what} : ")
    return show, menu.ask_number(f"Nombre de places {what} : ")


def _described(left: int, shows: list[tuple[int, Spectacle]]) -> list[str]:
    """Return what is said of a basket, a line each."""
    if not shows:
        return ["Panier vide"]
    lines = [menu.line(slot, show) for slot, show in shows]
    return [*lines, f"À confirmer dans les {left} s ; ensuite, les premières mises au panier sont remises en vente."]


@program
def main(argv: list[str] | None = None) -> int:
    """Run the client: its exit code is that of common.errors."""
    parser = cli.client_parser("x2_basket", "Client avec panier, après la question 5 (TCP).", queue=False)
    cli.add_connection(parser)
    basket = parser.commands.add_parser("basket", help="suite d'étapes : hold S N, release S N, show, wait T, confirm")
    basket.description = (
        "Fait une étape après l'autre, sur une seule connexion, et s'arrête à la première qui est refusée. Ce qui n'est"
        " pas confirmé à la fin est rendu."
    )
    basket.add_argument("steps", nargs="+", metavar="ÉTAPE", help="par exemple : hold 0 2 hold 3 1 show confirm")
    options = cli.parse_client(parser, argv)
    script = _script(parser, options)
    with ClientConnection(options) as connection:
        session = Session(connection)
        if options.command is None:
            print("[INFO] Connecté au serveur")
        commands = {"basket": lambda: play(session, script, as_json=options.json)}
        return menu.run(session, options, entries=Entries(session).all(), commands=commands)


def _script(parser: cli.Parser, options: Namespace) -> list[Step]:
    """Return the steps of the command line, and leave with code 2 where they make no sense."""
    try:
        return steps(options.steps) if options.command == "basket" else []
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
