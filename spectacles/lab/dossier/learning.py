"""Learns a program by watching it: which of a folder's programs is the server, how its client is spoken to.

Nothing here knows a language or a layout. What is typed where is guessed from a few words in six languages (hints), and
then tried: doors that lead to the menu (accounts to be made, names, passwords) are opened one after another, in a depth
first search that starts a new client for every way that ends; at the menu every option that may consult is followed.
What an answer looks like is learnt from what differs: the number that goes down by what was reserved, or the map in
which as many signs change, is what is left; the lines that come with it, and not with a request for far too many, mean
yes. In the end all is played once more in a fresh world, with other clients: what has not the same effect there is not
believed.

What could not be learnt is left empty, and named in Profile.notes, for a person to fill in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError
from spectacles.lab.dossier import hints, starting, tasks
from spectacles.lab.dossier import profile as words
from spectacles.lab.dossier.building import CLIENT
from spectacles.lab.dossier.driving import STEP, Bench, Client, NotReadyError, describe, ending
from spectacles.lab.dossier.profile import Item, Profile
from spectacles.lab.gate.supervisor import GateError
from spectacles.lab.kernel.machine import load

if TYPE_CHECKING:
    from spectacles.lab.dossier.building import Built, Executable
    from spectacles.lab.dossier.driving import Answer

FAR_TOO_MANY = 1_000_000  # seats, which no show has
ASKED = 5  # shows whose seats are asked one by one, beside the first
MOST_LINES = 14  # of one way through a dialogue
MOST_CLIENTS = 4  # programs that may be the client
SHOWS = 4  # that are tried, as the first may not exist
SETTLED = 0.04  # seconds for which a client that waits for the keyboard has printed nothing
FLOOD = 1 << 18  # characters: a client that goes round and round
BUDGET = 20.0  # seconds for all clients of a program together, on an idle machine
ROUNDS = 4  # times that the questions of one request are asked again
DOORS = 6.0  # of these, for finding a menu
NAME = "Alix"  # of clients that learn: letters that stand in no answer by themselves
SOMEBODY = "\N{BULLET}"  # stands for that name in what is compared
_COMMAND = r"command|cmd|requ[eê]te|request|action|instruction|^\W{1,4}$|^\w{1,12}\W?>$"


def learn(built: Built, *, question: int = 0, known: Profile | None = None, patience: float = 5.0) -> Profile:
    """Return what can be learnt of a program. Blocks, for some seconds; BUDGET or so where nothing is understood.

    known: what was written by hand: only what it leaves open is looked for. question: which of the subject's its
    programs answer, where a folder holds several. Raises NotReadyError when nothing can be started that serves.
    """
    profile = known or Profile()
    profile = dataclasses.replace(profile, name=profile.name or built.name, question=question or profile.question)
    by_hand = profile.talks
    profile, channel = starting.find_server(built, profile, patience)
    profile = dataclasses.replace(profile, notes=(*built.notes, *profile.notes))
    if not profile.channel.kind:
        profile = dataclasses.replace(profile, channel=channel)
    if not by_hand:
        profile = _find_client(built, profile, patience)
        if profile.talks:
            profile = _confirmed(built, profile, patience)
        if profile.talks and profile.counts:
            with contextlib.suppress(SpectaclesError):
                profile = _bounded(built, profile, patience)
    if profile.talks and profile.style == "menu" and not profile.clients and profile.channel.kind == "fifo":
        profile = _alone(built, profile, patience)
    return profile


def busy() -> float:
    """Return how much longer one should wait than on an idle machine: 1 to 4."""
    return min(max(load() / 2, 1.0), 4.0)


def _alone(built: Built, profile: Profile, patience: float) -> Profile:
    """Return the profile, with one client at a time if a second one is not served beside the first.

    FIFOs that all share say nothing of who writes: one client at a time is what the assignment asks for.
    """
    with Bench(built.folder, profile, patience=patience) as bench:
        bench.serve()
        item = profile.items[0].typed
        first, second = bench.client("A"), bench.client("B")
        if bench.ask(first.consult(item)).known and not bench.ask(second.consult(item)).known:
            note = "un second client n'est pas servi à côté du premier : jugé avec un client à la fois"
            return dataclasses.replace(profile, clients=1, notes=(*profile.notes, note))
    return profile


def _confirmed(built: Built, profile: Profile, patience: float) -> Profile:
    """Return the profile if it has the same effect in a fresh world, with other clients; else what is not believed is
    left out. Notes the sizes of messages, and whether who leaves stops the server."""
    why = ""
    for gated in (True, False):  # the gate slows a program down: what does not do under it is tried once more without
        try:
            with Bench(built.folder, profile, patience=patience, gated=gated) as bench:
                server = bench.serve()
                item = profile.items[0].typed
                a = bench.client("A", gated=True)
                before = bench.ask(a.consult(item))
                others = [Item(one.typed, _there(bench, a, one, before)) for one in profile.items[1:]]
                granted = bench.ask(a.reserve(item, 1))
                after = bench.ask(a.consult(item))
                right = granted.state == "yes" and before.left is not None and after.left is not None
                if right and (not profile.counts or after.left == (before.left or 0) - 1):
                    items = (Item(item, before.left), *others)
                    if profile.counts:
                        profile = dataclasses.replace(profile, items=items)
                    seen = starting.sizes(bench.gate.events()) if bench.gate is not None else {}
                    profile = dataclasses.replace(profile, channel=dataclasses.replace(profile.channel, sizes=seen))
                    if profile.quit and profile.style == "menu":
                        a.quit()
                        bench.until(lambda: a.program is None or a.program.code is not None)  # noqa: B023
                        bench.settle(0.3)
                        if bench.ended(server):
                            note = "quitter le client arrête aussi le serveur : on le tue au lieu de le quitter"
                            profile = dataclasses.replace(profile, quit=(), notes=(*profile.notes, note))
                    return profile
                why = f"{before} ; {granted} ; {after}"
        except (SpectaclesError, GateError) as error:
            why = str(error).partition("\n")[0]
    note = f"rejoué dans un monde neuf, le dialogue appris n'a pas le même effet ({why})"
    return dataclasses.replace(profile, left="", free="", yes="", no="", items=(), notes=(*profile.notes, note))


def _there(bench: Bench, client: Client, one: Item, told: Answer) -> int | None:
    """Return the seats of another show: as a list tells them, else asked. None where that is not known."""
    profile = bench.profile
    if "{item}" in profile.left:
        return hints.seats_left(profile.left, profile.free, one.typed, told.text) or one.seats
    if "{item}" in " ".join((*profile.consult, *profile.consult_words)) and one in profile.items[: 1 + ASKED]:
        return bench.ask(client.consult(one.typed)).left or one.seats
    return one.seats


def _bounded(built: Built, profile: Profile, patience: float) -> Profile:
    """Return the profile with what one more world tells: whether seats are at random, how many a request may take."""
    item = profile.items[0]
    with Bench(built.folder, profile, patience=patience) as bench:
        bench.serve()
        a = bench.client("A")
        first = bench.ask(a.consult(item.typed))
        if first.left is not None and first.left != item.seats:
            note = "les places au départ sont au hasard : on les demande d'abord"
            items = tuple(Item(one.typed) for one in profile.items)
            profile = dataclasses.replace(profile, items=items, notes=(*profile.notes, note))
        if profile.most_seats or first.left is None or first.left < 5:
            return profile
        low, high, left, asked = 2, first.left, first.left, first.left - 1
        while high - low > 1 and asked <= left:
            answer = bench.ask(a.reserve(item.typed, asked))
            if answer.state == "yes":
                low, left = asked, left - asked
            elif answer.state == "no" and bench.ask(a.consult(item.typed)).left == left:
                high = asked
            else:
                return profile  # not understood: no limit is told
            asked = (low + high) // 2
        if low == first.left - 1:
            return profile
        note = f"une requête prend {low} places au plus"
        return dataclasses.replace(profile, most_seats=low, notes=(*profile.notes, note))


# Which one is the client


def _find_client(built: Built, profile: Profile, patience: float) -> Profile:
    """Return the profile with as much of the client's dialogue as could be learnt."""
    texts = {one.path: starting.source(built, one) for one in built.programs}
    served = " ".join(
        texts[one.path] for one in built.programs if one.words == profile.server[: len(one.words)] and one.path
    )
    if profile.client:
        given = [one for one in built.programs if one.words == profile.client[: len(one.words)]]
        commands = [(profile.client, profile.client_folder, texts[given[0].path] if given else "")]
    else:
        commands = list(_candidates(built, profile, texts))
    budget = BUDGET * min(busy(), 2.0)
    deadline = time.monotonic() + budget
    best = profile
    notes: list[str] = []
    for command, folder, text in commands:
        trial = dataclasses.replace(profile, client=command, client_folder=folder, notes=())
        learnt, again = trial, trial
        for _ in range(2):  # once more, and slowly: on a busy machine some text may come late
            learnt = _learn_client(built, trial, patience, deadline, text, served)
            if learnt.talks or not learnt.reserve or time.monotonic() > deadline - budget / 2:
                break
        del again
        if learnt.talks:
            return dataclasses.replace(learnt, notes=(*profile.notes, *learnt.notes))
        notes += learnt.notes
        if _worth(learnt) > _worth(best):
            best = learnt
        if time.monotonic() > deadline:
            break
    if not commands:
        notes.append("aucun client trouvé")
    if profile.client and not best.client:
        best = dataclasses.replace(best, client=profile.client)
    return dataclasses.replace(best, notes=(*profile.notes, *dict.fromkeys(notes)))


def _candidates(built: Built, profile: Profile, texts: dict[str, str]) -> Iterable[tuple[tuple[str, ...], str, str]]:
    """Return the programs that may be the client: command, folder, source."""
    rest = [one for one in built.programs if one.words != profile.server[: len(one.words)]]

    def rank(one: Executable) -> tuple[int, bool, bool]:
        near = one.path.rpartition("/")[0] == profile.server[-1].removeprefix("./").rpartition("/")[0]
        compiled = not one.path.endswith(".sh")
        return -starting.likeness(one, "client", profile.question, texts[one.path]), not compiled, not near

    rest.sort(key=rank)
    likely = [
        one
        for one in rest
        if starting.likeness(one, "client", profile.question, texts[one.path]) > (0 if one.path.endswith(".sh") else -2)
    ]
    for one in likely[:MOST_CLIENTS]:
        folder = one.folder
        if folder == "." and profile.server_folder != "." and not one.path.startswith(profile.server_folder):
            yield (f"./{one.path.rpartition('/')[2]}",), one.path.rpartition("/")[0] or ".", texts[one.path]
        yield one.words, folder, texts[one.path]


def _worth(profile: Profile) -> int:
    """Return how much is known of how a client is spoken to."""
    fields = (profile.client, profile.reserve, profile.consult, profile.left, profile.yes)
    return sum(bool(field) for field in fields)


def _learn_client(built: Built, trial: Profile, patience: float, deadline: float, text: str, served: str) -> Profile:
    """Return what can be learnt of one client, in a world of its own."""
    name = trial.client[-1]
    try:
        with Bench(built.folder, trial, patience=min(patience, 3.0)) as bench:
            bench.serve()
            learner = _Learner(built, bench, deadline, text, served)
            try:
                learnt = learner.learn()
                known = learner.asks or learnt.reserve or (learner.finished and CLIENT.search(name.lower()))
                return learnt if known else dataclasses.replace(learnt, client=())
            except (SpectaclesError, GateError) as error:
                said = f"{name} : {str(error).partition(chr(10))[0]}"
                kept = learner.profile if learner.asks else dataclasses.replace(trial, client=())
                return dataclasses.replace(kept, notes=(*learner.notes, said))
    except (SpectaclesError, GateError) as error:
        said = f"{name} : {str(error).partition(chr(10))[0]}"
        return dataclasses.replace(trial, client=(), notes=(said,))


Script = tuple[tuple[str, ...], tuple[str, ...]]  # lines that are typed, words that are added to the command


class _Learner:
    """Learns one client, whose server runs on the bench."""

    def __init__(self, built: Built, bench: Bench, deadline: float, text: str, served: str) -> None:
        self.built = built
        self.bench = bench
        self.deadline = deadline
        self.text = text  # source of the client
        self.served = served  # and of the server
        self.pace = 0.0
        self.settled = SETTLED * busy()
        self.notes: list[str] = []
        self.finished = False  # whether it ends by itself, and is content
        self.asks = False  # whether the client has been seen to wait for a line
        self.count = 0
        self.client: Client = bench.client(NAME)
        self.at = 0
        self.trail: list[tuple[str, str]] = []  # what this client asked, and was answered, since it was started
        self.login: tuple[str, ...] = ()
        self.menu = ""  # the question, and the whole text, to which every request comes back
        self.menu_text = ""
        self.item = "1"
        self.questions: set[str] = set()  # lines that were said before the last one of a request was typed
        self.attempt = 0  # how often a request was refused as a whole, and asked again
        self.lost = False  # whether a request did not come back to the menu
        self.flush = False  # whether an answer comes once the next line is typed, and the menu before it
        self.shows: list[str] = []
        port = next((one for one in bench.profile.channel.names if one.startswith("port ")), "")
        self.port = port.removeprefix("port ")
        self.stocked = [name for name in hints.stocked(served) if " " not in name]
        self.known = [
            one
            for one in hints.compared(served)
            if re.fullmatch(r"[^\W\d_]\w{2,19}", one) and not hints.has(hints.COMMANDS, one) and not one.isupper()
        ]

    @property
    def profile(self) -> Profile:
        """What is learnt so far."""
        return self.bench.profile

    def note(self, **changes: object) -> None:
        """Keep what was learnt."""
        self.bench.profile = dataclasses.replace(self.bench.profile, **changes)  # type: ignore[arg-type]

    # The dialogue, line by line

    def start(self, *arguments: str) -> str:
        """Start a client; return what it says until it waits for a line or ends."""
        self.count += 1
        if self.bench.server is not None and self.bench.ended(self.bench.server):
            self.bench.serve()  # what was typed has ended it: for the checks to find
        self.client = self.bench.client(NAME + "abcdefghijklmnopqrstuvwxyz"[self.count % 26] * (1 + self.count // 26))
        self.client.start(arguments)
        self.client.pending = []
        self.at = 0
        self.trail = []
        return self.hear()

    def hear(self) -> str:
        """Return what it says until it waits for a line, or ends. Raises NotReadyError when it does neither."""
        client = self.client
        program = client.program
        assert program is not None
        begun = time.monotonic()
        since = 0.0
        size = -1
        while program.code is None:
            if client.waits_to_read() is None:
                since = 0.0
            elif client.printed() != size or not since:
                size, since = client.printed(), time.monotonic()
            elif time.monotonic() - since > self.settled:
                break
            if time.monotonic() > begun + self.bench.patience or client.printed() - self.at > FLOOD:
                what = describe(tasks.look(program.tree()))
                client.kill()
                raise NotReadyError(f"le client n'attend rien du clavier et ne finit pas : {what}")
            time.sleep(STEP)
        if program.code is not None:
            with contextlib.suppress(SpectaclesError):
                program.wait(1.0)
        self.pace = max(self.pace, time.monotonic() - begun - self.settled)
        text = client.text(self.at)
        self.at = client.printed()
        return text

    def say(self, template: str, question: str = "", seats: int = 1) -> str:
        """Type a line; return what it says then. question: what it answers."""
        self.trail.append((question, template))
        line = self._filled((template,), self.item, seats)[0]
        self.client.type(line, self.client.waits_to_read())
        return self.hear()

    def _filled(self, lines: tuple[str, ...], item: str, seats: int, seat: str = "") -> list[str]:
        if re.search(r"\{seat\d?\}", " ".join(lines)):
            seat = seat or self.bench.seat()
        values = {"item": item, "seats": seats, "seat": seat, **self.client.values()}
        values |= {f"seat{number}": word for number, word in enumerate(seat.split(), 1)}
        return words.fill(lines, **values)

    def over(self) -> bool:
        """Whether it has ended."""
        return self.client.program is None or self.client.program.code is not None

    def again(self, *arguments: str) -> str:
        """Start a new client at its menu, if the last one has ended."""
        if not self.over():
            return ""
        text = self.start(*arguments)
        for line in self.login:
            if self.over():
                break
            text = self.say(line)
        return text

    def late(self) -> bool:
        """Whether time is up."""
        return time.monotonic() > self.deadline

    # Learning

    def learn(self) -> Profile:
        """Return the profile with what could be learnt."""
        text = self.start()
        self.asks = not self.over()
        if self.asks:
            self._talk(text)
        else:
            program = self.client.program
            self.finished = program is not None and program.code == 0
            self._by_arguments(text)
        return dataclasses.replace(self.profile, notes=(*self.profile.notes, *self.notes), pace=self.pace)

    def _talk(self, text: str) -> None:
        if self.profile.reserve:  # written by hand
            self.login = self.profile.login
            for line in self.login:
                text = self.say(line)
            self._at(text)
            self._measure([(self.profile.consult, ())] if self.profile.consult else [], (self.profile.reserve, ()))
            return
        kind, text = self._to_menu(text)
        if kind == "menu":
            self._from_menu(text)
        elif kind == "commands":
            self._from_commands(text)
        elif kind == "questions":
            self._from_questions(text)
        else:
            self.notes.append(f"le menu du client n'est pas compris : {hints.last_line(text)}")

    def _at(self, text: str) -> None:
        """Take where the client is for the place to which every request comes back."""
        self.menu, self.menu_text = hints.shape(hints.last_line(text)), text

    def at_menu(self, text: str) -> bool:
        """Whether the menu has come back."""
        if hints.shape(hints.last_line(text)) != self.menu:
            return False
        there, here = hints.options(self.menu_text), hints.options(text)
        if not there:
            return True
        clear = re.search(r"[^\W\d]{4}", self.menu) is not None
        return 2 * len(set(here) & set(there)) >= len(there) or (clear and not here)

    # To the menu

    def _to_menu(self, text: str) -> tuple[str, str]:
        """Go on until a menu offers to reserve, or commands or seats are asked for; return which, and the text.

        Every line that could have been typed instead is kept, to be tried by another client when this one gets nowhere.
        """
        agenda: list[tuple[float, int, tuple[str, ...]]] = []
        limit = min(self.deadline, time.monotonic() + DOORS * min(busy(), 2.0))
        last = text
        number = 0
        while True:
            kind = "" if self.over() else self._kind(text)
            if kind:
                self.login = tuple(line for _, line in self.trail)
                return kind, self._shortened(text)
            moves = [] if self.over() or len(self.trail) >= MOST_LINES else self._moves(text)
            if time.monotonic() > limit:
                return "", last
            if not moves:
                if not agenda:
                    return "", last
                agenda.sort()
                _, _, lines = agenda.pop(0)
                try:
                    text = self.start()
                    for line in lines:
                        if not self.over():
                            text = self.say(line, _question(text))
                except NotReadyError:
                    self.client.kill()
                    text = ""
                continue
            typed = tuple(line for _, line in self.trail)
            for rank, other in enumerate(moves[1:4], 1):
                number += 1
                agenda.append((len(typed) + 2 * rank, number, (*typed, other)))
            last = text
            told = re.findall(
                r"(?:\bid\b|uid|num[ée]ro|number|code|compte|account)[^\d\n]{0,20}?(\d+)", text, re.IGNORECASE
            )
            if told and not self.profile.reads:
                line = next(one for one in hints.plain(text).splitlines() if re.search(rf"\D{told[-1]}\b", one))
                self.note(reads=hints.escape(line.partition(told[-1])[0].strip()[-30:]) + r"\s*(\d+)")
            try:
                text = self.say(moves[0], _question(text))
            except NotReadyError:
                self.client.kill()
                text = ""

    def _shortened(self, text: str) -> str:
        """Leave out of the login what led back to where it began, if the menu is reached without; return its text."""
        asked = [question for question, _ in self.trail]
        for first, question in enumerate(asked):
            last = len(asked) - 1 - asked[::-1].index(question)
            if last == first or any(len(line) > 2 for line in self.login[first:last]):
                continue  # no loop, or one in which an account was made
            with contextlib.suppress(NotReadyError):
                short = (*self.login[:first], *self.login[last:])
                reached = self.start()
                for line in short:
                    if not self.over():
                        reached = self.say(line, _question(reached))
                if not self.over() and _question(reached) == _question(text):
                    self.login = short
                    return reached
            if not self.over():
                self.client.kill()
                self.bench.until(self.over, 1.0)
            return self.again()
        return text

    def _kind(self, text: str) -> str:
        """Return what a client asks: "menu" with a reservation in it, "commands", "questions" of a reservation, ""."""
        options = hints.options(text)
        question = hints.last_line(text)
        if hints.choose(options, hints.RESERVE):
            return "menu"
        if len(options) > 1:
            return ""
        role = hints.role(question, False, False, "reserve")
        if role in ("{seats}", "{seat}", "{seat1}", "{seat1} {seat2}"):
            return "questions"
        if any(hints.has(hints.RESERVE, verb) for verb in hints.verbs(text)) and re.search(r"[A-Z]{4}|<", text):
            return "commands"
        if re.search(_COMMAND, question, re.IGNORECASE) and not role and not hints.has(hints.NAME, question):
            return "commands"
        return ""

    def _moves(self, text: str) -> list[str]:
        """Return what may be typed on the way to the menu, without what was typed here before, in vain."""
        question = _question(text)
        options = hints.options(text)
        here = [line for asked, line in self.trail if asked == question]
        if len(options) > 1:
            return [key for key in hints.doors(options) if key not in here]
        role = hints.role(question, False, False, "reserve")
        if role == "{item}":
            told = ("{read}",) if self.profile.reads else ()
            return [line for line in (*told, "{item}", "1", "2") if line not in here]
        found = hints.answers(question, port=self.port, known=self.known)
        found = [line.replace("{client}", "{client}{run}") for line in found]
        if not self.profile.reads:
            found = [line for line in found if line != "{read}"]
        since = []  # answers to this question since something else was asked
        for asked, line in reversed(self.trail):
            if asked != question:
                break
            since.append(line)
        return [line for line in found if line not in since]

    # A menu

    def _from_menu(self, text: str) -> None:
        self._at(text)
        options = hints.options(text)
        reserves = hints.choose(options, hints.RESERVE)
        leave = hints.choose(options, hints.QUIT)
        self.note(login=self.login, quit=tuple(leave[:1]), style="menu")
        labels = dict(options)
        consults = [key for key in hints.choose(options, hints.CONSULT) if key not in reserves[:1] and key not in leave]
        plain = [key for key in consults if not hints.has(hints.RESERVE, labels[key])]
        consults = plain or consults
        consults += (
            []
            if plain
            else [
                key
                for key in labels
                if key not in (*consults, *reserves, *leave)
                and not hints.has(f"{hints.CANCEL}|{hints.QUIT}", labels[key])
            ]
        )
        self.shows = hints.tokens(self._without_menu(text))
        scripts: list[Script] = []
        ended = False
        for key in consults[:3]:
            lines, said, back = self._try(key, "consult")
            if lines:
                scripts.append((lines, ()))
                self.shows = self.shows or hints.tokens(self._without_menu(said))
                ended = ended or not back
        for key in reserves[:2]:
            lines, said, back = self._try(key, "reserve")
            if self.flush:
                scripts = [((*one, *[""] * (one[-1] != "")), words_) for one, words_ in scripts]
            if not lines:
                continue
            self.shows = self.shows or hints.tokens(self._without_menu(said))
            if ended or not back:
                self.note(style="once")
            if self._variants(scripts, (lines, ())):
                return
            if self.late():
                break
        if not self.profile.reserve:
            self.notes.append("le menu du client n'est pas compris : aucune suite de réponses ne réserve")

    def _without_menu(self, said: str) -> str:
        """Return a text without the lines of the menu."""
        labels = [label for _, label in hints.options(self.menu_text)]
        return "\n".join(line for line in hints.plain(said).splitlines() if not any(one in line for one in labels))

    def _try(self, key: str, kind: str) -> tuple[tuple[str, ...], str, bool]:
        """Follow an option from the menu; return lines, what was said, and whether the menu came back."""
        try:
            for _ in range(ROUNDS):
                self.again()
                lines, said = self._follow(key, kind)
                if not self.over() or self.client.program is None or (self.client.program.code or 0) >= 0:
                    break
                self.attempt += 1  # what was typed has crashed it
        except NotReadyError as error:
            self.notes.append(f"option {key} : {str(error).partition(chr(10))[0]}")
            self.client.kill()
            self.bench.until(self.over, 1.0)
            return (), "", False
        return tuple(lines), said, not self.over()

    def _follow(self, key: str, kind: str) -> tuple[list[str], str]:
        """Type a line and answer what is asked then, until the menu comes back; return lines, and all that was said."""
        lines = [key]
        said = text = self.say(key)
        tried: list[str] = []
        asked = ""
        before: list[str] = []  # questions answered, but for the last
        rounds = 0
        while not self.over() and not self.at_menu(text) and len(lines) < MOST_LINES:
            question = hints.last_line(text)
            if question in before and rounds < ROUNDS:  # refused as a whole, and asked once more from there
                at = before.index(question)
                del lines[at + 1 :], before[at:]
                tried, asked = [], ""
                rounds += 1
                self.attempt += 1
            tried = tried if question == asked else []
            before += [asked] if asked and question != asked else []
            line = self._reply(text, said, lines[: -1 if tried else None], kind, tried)
            if tried:
                lines.pop()  # refused: the question comes again
            if line == "{item}" and tried.count("{item}"):
                self.item = self._next_show()
            asked = question
            tried.append(line)
            lines.append(line)
            self.questions |= hints.shapes(text)
            text = self.say(line, question)
            said += text
            if len(tried) > 6:
                break
        if not self.over() and self.at_menu(text) and not self.flush and not self._news(said):
            said += self.say("")
            self.flush = self._news(said)
        if self.flush and lines[-1]:
            lines.append("")
        return lines, said

    def _news(self, said: str) -> bool:
        """Whether something was said that is not in the menu, nor a question."""
        known = hints.shapes(self.menu_text) | {hints.shape(asked) for asked, _ in self.trail}
        return bool(hints.shapes(said) - known)

    def _next_show(self) -> str:
        every = [*self.shows, "1", *self.stocked, "2", "0", *self.known]
        return every[(every.index(self.item) + 1) % len(every)] if self.item in every else every[0]

    def _reply(self, text: str, said: str, lines: Sequence[str], kind: str, tried: Sequence[str]) -> str:
        """Return what to type to a question in a request."""
        question = hints.last_line(text)
        options = hints.options(text)
        typed = " ".join(lines)
        role = hints.role(question, "{seats}" in typed, "{item}" in typed, kind)
        if not tried and "{item}" not in typed:
            found = [one for one in hints.tokens(text) if one.isdigit() or not options]
            if found:
                self.shows = found
                self.item = found[0]
            elif self.shows and self.item not in self.shows:
                self.item = self.shows[0]
        if role.startswith("{seat") and role != "{seats}" and not self.profile.seats:
            self.note(seats=_places(said, question, role))
        candidates = [role] if role else []
        if not role and len(options) > 1:
            labels = " ".join(label for _, label in options)
            if hints.has(rf"{hints.CANCEL}|{hints.QUIT}|{hints.RESERVE}", labels):
                wanted = hints.RESERVE if kind == "reserve" else hints.CONSULT
                candidates += hints.choose(options, wanted) or hints.doors(options)[:2]
            elif "{item}" not in typed:
                self.shows = [key for key, _ in options]
                self.item = self.shows[min(1, len(self.shows) - 1)]
                candidates.append("{item}")
            else:
                candidates.append(options[0][0])
        others = hints.answers(question, port=self.port, kind=kind, known=self.known)
        dates = hints.date(hints.plain(question))
        if dates and others == dates:
            others = [*dates[self.attempt % len(dates) :], *dates]
        if others[0] == "1" and len(others) > 2 and not role and not options:  # no idea: what a request has in it
            candidates += ["{item}"] if "{item}" not in typed else ["{seats}"] if "{seats}" not in typed else []
        candidates += others
        if tried and tried[-1] == "{item}" and tried.count("{item}") < 3:
            return "{item}"
        return next((line for line in candidates if line not in tried), "")

    # Commands that are typed

    def _from_commands(self, text: str) -> None:
        self._at(text)
        self.note(login=self.login, style="menu")
        said = text
        found = hints.verbs(text)
        for word in ("help", "HELP", "?", "aide"):
            if self.over() or any(hints.has(hints.RESERVE, verb) for verb in found):
                break
            reply = self.say(word)
            said += reply
            found |= hints.verbs(reply)
        for one in hints.compared(f"{self.served}\n{self.text}"):
            verb = one.split()[0] if one.split() else ""
            if re.fullmatch(r"[A-Za-z][A-Za-z_-]{1,15}", verb):
                found.setdefault(verb, [])
        self.again()
        unknown = hints.shapes(self.say("xyzzy")) - hints.shapes(text)  # what is said of a word that is no command
        self.again()
        for verb, takes in found.items():
            if (
                hints.has(r"^(?:ident|login|user|name|hello|auth|connect|register|pseudo|nom)", verb)
                and not self.over()
            ):
                line = f"{verb} {hints.filled(takes) or '{client}'}".strip()
                reply = self.say(line)
                if not self.over() and not hints.has(hints.NO, reply) and not hints.shapes(reply) & unknown:
                    self.login = (*self.login, line)
                    self.note(login=self.login)
                    self._at(reply)
        reserves = [verb for verb in found if hints.has(hints.RESERVE, verb)]
        consults = [verb for verb in found if hints.has(hints.CONSULT, verb) and verb not in reserves]
        leave = [verb for verb in found if hints.has(hints.QUIT, verb) and verb not in (*reserves, *consults)]
        self.note(quit=tuple(leave[:1]))
        if not reserves:
            self.notes.append(
                f"aucune commande qui réserve n'est connue : {', '.join(found)[:120] or hints.last_line(said)}"
            )
            return
        scripts: list[Script] = []
        for verb in consults[:3]:
            for line in _lines(verb, found[verb], ("", "{item}")):
                lines, reply, _ = self._try(line, "consult")
                for name in self.stocked[:3] if "{item}" in line and hints.shapes(reply) & unknown else ():
                    self.item = name
                    lines, reply, _ = self._try(line, "consult")
                    if not hints.shapes(reply) & unknown:
                        break
                if lines and re.search(r"\d", reply) and not hints.shapes(reply) & unknown:
                    scripts.append((lines, ()))
                    self.shows = self.shows or hints.tokens(reply)
                    break
        for verb in reserves[:2]:
            for line in _lines(verb, found[verb], ("{item} {seats}", "{seats}", "{item}", "", "{client} {seats}")):
                lines, reply, _ = self._try(line, "reserve")
                if hints.shapes(reply) & unknown:
                    break
                told = hints.verbs(reply).get(verb)
                if told and not found[verb]:
                    lines = (f"{verb} {hints.filled(told)}",)
                if lines and self._variants(scripts, (lines, ())):
                    return
                if self.late():
                    return
        if not self.notes:
            self.notes.append(f"aucune commande essayée ne réserve : {', '.join(reserves)}")

    # Questions without a menu

    def _from_questions(self, text: str) -> None:
        """Learn a client that asks what is to be reserved, and ends or asks again."""
        first = [asked for asked, _ in self.trail]
        lines = [line for _, line in self.trail]
        for number, line in enumerate(lines):  # what looked like a login belongs to the request
            role = hints.role(first[number], False, "{item}" in lines, "reserve")
            lines[number] = role or line
        question = hints.last_line(text)
        self.menu, self.menu_text = "\0", ""
        role = hints.role(question, False, "{item}" in lines, "reserve")
        if role != "{seats}" and not self.profile.seats:
            self.note(seats=_places(text, question, role))
        self.trail = [(asked, line) for asked, line in zip(first, lines, strict=True)]
        try:
            rest, said = self._follow(role, "reserve")
        except NotReadyError as error:
            self.notes.append(str(error).partition("\n")[0])
            self.client.kill()
            return
        lines += rest
        if self.over():
            self.login = ()
            self.note(style="once", login=())
        else:
            asked = [*first, question]
            loop = next((number for number, one in enumerate(asked) if one == hints.last_line(said)), 0)
            self.login = tuple(lines[:loop])
            lines = lines[loop:]
            self._at(said)
            self.note(style="menu", login=self.login)
        self._variants([], (tuple(lines), ()))

    # Requests on the command line

    def _by_arguments(self, text: str) -> None:
        """Learn a client that ends at once: what it says of its usage, and what its source does with arguments."""
        found: dict[str, tuple[str, ...]] = {}
        for verb, takes in hints.verbs(text).items():
            for kind, hint in (("reserve", hints.RESERVE), ("consult", hints.CONSULT)):
                if re.search(hint, verb, re.IGNORECASE) and kind not in found and verb.islower():
                    found[kind] = (verb, *hints.filled(takes).split())
        if "consult" in found and "reserve" in found:
            self.note(style="arguments")
            self.shows = [str(n) for n in (1, 2, 3, 4, 5, 0)]
            self._measure([(found["consult"], ())], (found["reserve"], ()))
            return
        program = self.client.program
        said = f"le client finit sans rien attendre ({ending(program) if program else ''}) : {hints.last_line(text)}"
        base = self.profile.client
        names = [one for one in self.profile.channel.names if self.profile.channel.kind == "fifo"]
        asked = re.search(r"(?<![\w-])(?:--help|--usage|-h)(?!\w)", text)
        if asked and not hints.usage(text):
            with contextlib.suppress(NotReadyError):
                text += self.start(asked[0])
        if self._by_usage(text):
            return
        for more in starting.arguments(self.built, text, self.text, "client", self.port, names)[:6]:
            if self.late():
                break
            fixed = tuple(word for word in more if word not in ("{item}", "{seats}"))
            self.note(client=(*base, *fixed))
            try:
                again = (
                    self.start(*self._filled(more[len(fixed) :], "1", 1)) if len(fixed) < len(more) else self.start()
                )
            except NotReadyError:
                self.client.kill()
                continue
            if not self.over():
                self.asks = True
                self._talk(again)
                return
            if len(fixed) < len(more) and more[: len(fixed)] == fixed:
                self.note(style="arguments")
                self.shows = ["1", "2", "0"]
                if self._variants([], (more[len(fixed) :], ())):
                    return
                self.note(style="menu", consult=(), reserve=())
        self.note(client=base)
        self.notes.append(said)

    def _by_usage(self, text: str) -> bool:
        """Learn a client whose usage takes what is to be reserved: "client SHOW [SEATS]". Say whether it does."""
        must: list[str] = []
        may: list[str] = []
        for word in hints.usage(text):
            if word.strip("[](){}").startswith("-"):
                return False
            fixed = hints.argument(word, "client", port=self.port)
            more = [*must, *may]
            found = fixed if fixed in (self.port, "127.0.0.1", "{pid}", "{client}") else ""
            if not found:
                found = hints.filled([*(["SHOW"] if "{item}" in more else []), word]).split()[-1]
            (may if word.startswith("[") else must).append(found)
        if "{seats}" not in must + may or self.late():
            return False
        consults: list[Script] = [(tuple(must), ())] if may and must else []
        self.note(style="arguments")
        if self._variants(consults, (tuple(must + may), ())):
            return True
        self.note(style="menu", consult=(), reserve=(), seats=())
        return False

    # What answers look like

    def _variants(self, consults: Sequence[Script], reserve: Script) -> bool:
        """Measure a way to reserve, and others that differ in what its questions may mean. Say whether one is right."""
        lines, more = reserve
        joined = " ".join(lines)
        spare = _by_reserving(reserve) if "{seats}" in joined else []
        if "{seats}" in joined and re.search(r"\{seat\d?\}", joined):  # so many seats, then each by its name: one
            lines = tuple(line.replace("{seats}", "1") for line in lines)
            joined = " ".join(lines)
        ways = [lines]

        def changed(**meant: str) -> tuple[str, ...]:
            return tuple(re.sub(r"\{(\w+)\}", lambda one: meant.get(one[1], one[0]), line) for line in lines)

        if "{item}" in joined and "{seats}" in joined:
            ways.append(changed(item="{seats}", seats="{item}"))
        if "{seats}" not in joined and "{item}" in joined and "{seat" not in joined:
            ways.append(changed(item="{seat}"))
        if "{seat}" in joined:
            ways += [changed(seat="{seats}"), tuple("" if line == "{seat}" else line for line in lines)]
        for number, way in enumerate(ways):
            if number and self.late():
                break
            if re.search(r"\{seat\d?\}", " ".join(way)) and not self.profile.seats:
                self.note(seats=("1-30",))
            try:
                if self._measure(consults, (way, more), spare):
                    return True
            except NotReadyError as error:
                self.notes.append(str(error).partition("\n")[0])
                self.client.kill()
                self.bench.until(self.over, 1.0)
        if not self.flush and self.profile.style == "menu" and not self.late():  # or the answers come a line late?
            self.flush = True
            return self._variants([((*one, ""), words_) for one, words_ in consults], ((*lines, ""), more))
        for way in ways:
            if self.late() or self.profile.left:
                break
            with contextlib.suppress(NotReadyError):
                if self._blind((way, more)):
                    return True
        if not self.profile.left:
            self.notes.append("le nombre de places restantes n'a pas été reconnu dans les réponses du client")
        if not self.profile.yes:
            self.notes.append("l'acceptation d'une réservation n'a pas été reconnue")
        return False

    def _measure(self, consults: Sequence[Script], reserve: Script, spare: Sequence[Script] = ()) -> bool:
        """Learn the patterns from a few requests whose effect is known. Say whether all is known then."""
        lines, more = reserve
        joined = " ".join((*lines, *more))
        some = "{seats}" in joined
        if not re.search(r"\{seat\d?\}", joined):
            self.note(seats=())
        self.note(reserve=lines, most_seats=0 if some else 1)
        named = [] if self.shows else self.stocked
        shows = list(dict.fromkeys([self.item, *self.shows, *named]))[:SHOWS] if "{item}" in joined else [self.item]
        asks = list(consults)
        for item in shows:
            for scripts in (asks, spare):
                if scripts and self._measured(scripts, reserve, item, some):
                    self._items(item)
                    return True
            if self.late():
                break
        return False

    def _measured(self, consults: Sequence[Script], reserve: Script, item: str, some: bool) -> bool:
        """Make requests for one show; note what tells that some seats less are left, and what means yes and no."""
        self.lost = False
        texts = [[self._request(one, item, 0)] for one in consults]
        taken = [0]
        accepted: list[str] = []
        seat = ""
        for count in (1, 2 if some else 1):
            seat = self.bench.seat()
            accepted.append(self._request(reserve, item, count, seat))
            for one, read in zip(consults, texts, strict=True):
                read.append(self._request(one, item, 0))
            taken.append(taken[-1] + count)
        chosen = -1
        for number, read in enumerate(texts):
            left, free = hints.left_pattern(read, taken, item)
            if left:
                chosen = number
                self.note(consult=consults[number][0], left=left.replace(SOMEBODY, r"\S+"), free=free)
                break
        if chosen < 0:
            return False
        if self.lost and self.profile.style == "menu":
            self.note(style="once")
        refused = ""
        try:
            if some:
                refused = self._request(reserve, item, FAR_TOO_MANY)
            elif self.profile.seats:
                refused = self._request(reserve, item, 1, seat)
            if refused:
                now = hints.seats_left(
                    self.profile.left, self.profile.free, item, self._request(consults[chosen], item, 0)
                )
                before = hints.seats_left(self.profile.left, self.profile.free, item, texts[chosen][-1])
                refused = refused if now == before else ""  # granted: for the checks to find
        except NotReadyError:  # a refusal that is never told: for the checks to find
            self.client.kill()
            self.bench.until(self.over, 1.0)
        others = [one for one in self.shows if one != item]
        more = list(accepted)
        if others and "{item}" in " ".join(reserve[0]) and not self.late():
            with contextlib.suppress(NotReadyError):
                more.append(self._request(reserve, others[0], 1))
        menu = {hints.shape(line) for line in self.menu_text.splitlines()}
        menu |= set() if refused else self.questions  # no refusal to tell an answer from what is always said
        for grants in (more, accepted):
            yes, no = hints.answer_patterns(grants, refused, menu)
            if yes:
                break
        self.note(yes=yes.replace(SOMEBODY, r"\S+"), no=no.replace(SOMEBODY, r"\S+"))
        self.first = texts[chosen][0]
        return bool(yes)

    def _blind(self, reserve: Script) -> bool:
        """Learn what means yes where nobody can ask what is left: what two reservations say, and not a refused one.

        That needs a refusal: of what has just been taken, or of far too many.
        """
        lines, _ = reserve
        joined = " ".join(lines)
        seated = re.search(r"\{seat\d?\}", joined) is not None
        some = "{seats}" in joined
        if not seated and not some:
            return False
        self.note(reserve=lines, most_seats=0 if some else 1, seats=self.profile.seats if seated else ())
        seat = self.bench.seat()
        accepted = [self._request(reserve, self.item, 1, seat), self._request(reserve, self.item, 1)]
        refused = self._request(reserve, self.item, 1 if seated else FAR_TOO_MANY, seat)
        yes, no = hints.answer_patterns(accepted, refused, {hints.shape(line) for line in self.menu_text.splitlines()})
        if not yes or not hints.has(hints.YES, yes) or hints.has(hints.NO, yes) or not hints.has(hints.NO, no):
            return False
        self.note(yes=yes.replace(SOMEBODY, r"\S+"), no=no.replace(SOMEBODY, r"\S+"), consult=(), left="", free="")
        self.note(items=(Item(self.item),))
        self.notes.append("personne ne peut demander ce qui reste : une réservation en tient lieu")
        return True

    def _items(self, item: str) -> None:
        """Note the shows, and how many seats each had: those told before anything was reserved, or asked."""
        left, free = self.profile.left, self.profile.free
        items = []
        for token in dict.fromkeys([item, *self.shows]):
            number = hints.seats_left(left, free, token, self.first) if "{item}" in left or token == item else None
            if number is not None and (number > 0 or token == item):
                items.append(Item(token, number))
        if len(items) == 1 and "{item}" in " ".join(self.profile.consult):
            others = [one for one in self.shows if one != item]
            for token in others[:ASKED]:
                with contextlib.suppress(NotReadyError):
                    number = hints.seats_left(left, free, token, self._request((self.profile.consult, ()), token, 0))
                    if number is not None and number > 0:
                        items.append(Item(token))  # one may have been reserved of it
            if self.profile.style != "arguments":  # there, tokens are guesses
                items += [Item(token) for token in others[ASKED:]]
        self.note(items=tuple(items))

    def _request(self, script: Script, item: str, seats: int, seat: str = "") -> str:
        """Make one request; return all that the client said, SOMEBODY in the place of its name."""
        lines, more = script
        if self.profile.style == "arguments":
            said = self.start(*self._filled(lines, item, seats, seat))
            return self._plain(said)
        fresh = self.profile.style == "once"
        if fresh and not self.over():
            self.client.kill()
            self.bench.until(self.over, 1.0)
        self.again(*self._filled(more, item, seats, seat))
        said = last = ""
        for line in self._filled(lines, item, seats, seat):
            if self.over():
                break
            self.client.type(line, self.client.waits_to_read())
            last = self.hear()
            said += hints.JOINT + last
        extra = 0
        while not self.over() and not fresh and not self.at_menu(last) and extra < 4:
            self.client.type("", self.client.waits_to_read())
            last = self.hear()
            said += hints.JOINT + last
            extra += 1
        if not self.over() and not fresh and not self.at_menu(last):
            self.lost = True
            self.client.kill()  # lost in the dialogue: the next one begins anew
            self.bench.until(self.over, 1.0)
        return self._plain(said)

    def _plain(self, said: str) -> str:
        return re.sub(rf"{self.client.name}\d*", SOMEBODY, said)


def _question(text: str) -> str:
    """Return what a client asks, menus by what they offer: "your choice?" may be the question of several."""
    options = hints.options(text)
    return " | ".join(label for _, label in options) if len(options) > 1 else hints.last_line(text)


def _by_reserving(reserve: Script) -> list[Script]:
    """Return consultations for a client that has none: a reservation of no seats, and one of far too many.

    Whatever it asks after that number is answered as in a reservation, and, where that does not do, not at all.
    """
    lines, more = reserve
    lines = tuple(line for line in lines if not re.search(r"\{seat\d?\}", line))
    last = next((number for number, line in enumerate(lines) if "{seats}" in line), len(lines))
    ways = [lines] if last >= len(lines) - 1 else [lines[: last + 1], lines]
    return [
        (tuple(line.replace("{seats}", seats) for line in way), more)
        for seats in ("0", str(FAR_TOO_MANY))
        for way in ways
    ]


def _lines(verb: str, takes: Sequence[str], otherwise: Sequence[str]) -> list[str]:
    """Return lines that may make a request of a command."""
    if takes:
        return [f"{verb} {hints.filled(takes)}".strip()]
    return [f"{verb} {rest}".strip() for rest in otherwise]


def _places(said: str, question: str, role: str) -> tuple[str, ...]:
    """Return names of seats, as a question or a map has them."""
    if role in ("{seat1} {seat2}", "{seat1}", "{seat2}"):
        if re.search(r"[\[(]?\b[A-Z]\s*-\s*[A-Z]\b|lett", question):
            return tuple(f"{row} 1-5" for row in "ABC")
        return ("1-5 1-5",)
    example = re.search(r"\b([A-Z])-?(\d{1,2})\b", question) or re.search(r"\[ *([A-Z])(\d{1,2}) *\]", said)
    if example:
        dash = "-" if f"{example[1]}-" in example[0] else ""
        return tuple(f"{row}{dash}{column}" for row in "ABC" for column in range(1, 6))
    return ("1-30",)
