"""Learns a program by watching it: which of a folder's programs is the server, how its client is spoken to.

Nothing here knows a language or a layout. The server is whoever comes to wait for requests after having made a queue,
FIFOs, a listening socket. A menu is lines that begin with a number or a letter; what leads where is told by a few words
in six languages, and then tried. What an answer looks like is learnt from what differs: the number that goes down by
what was reserved is what is left; the lines that come with it, and not with a request for far too many, mean yes.

What could not be learnt is left empty, and named in Profile.notes, for a person to fill in.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError
from spectacles.lab.dossier import profile as words
from spectacles.lab.dossier import tasks
from spectacles.lab.dossier.driving import (
    SETTLED,
    STARTING,
    STEP,
    Bench,
    Client,
    NotReadyError,
    describe,
    ending,
    last_line,
)
from spectacles.lab.dossier.profile import Channel, Item, Profile
from spectacles.lab.gate.events import Kind
from spectacles.lab.gate.supervisor import GateError
from spectacles.lab.programs.world import WorldError

if TYPE_CHECKING:
    from spectacles.lab.dossier.building import Built, Executable
    from spectacles.lab.gate.events import Event

FAR_TOO_MANY = 1_000_000  # seats, which no show has
ASKED = 5  # shows whose seats are asked one by one, beside the first
TRIES = 6  # lines typed in search of a menu, or of the end of a request
CONSULT = r"consult|list|affich|voir|view|show|dispo|display|see|check|rest|search|cherch"
CONSULT += r"|mostra|visualizz|elenc|ver\b|anzeig|libr"
RESERVE = r"r[ée]s[ea]?r[vw]|book|buy|achet|achat|purchas|prenot|compr|buch|order|prendre|commander"
QUIT = r"quit|exit|sort|esci|leave|salir|sair|ende|fin\b|bye|d[ée]connect|logout|terminer|fermer"
CANCEL = r"annul|cancel|delet|supprim|modif|cancell"
SEATS = r"place|seat|combien|quantit|how many|nombre|tickets?|billets?|posti|amount|count|qty|\bnb"
SEATS += r"|plazas|lugares|anzahl|nposti"
ITEM = r"spectacle|show|num[ée]ro|\bid\b|film|movie|event|[ée]v[ée]nement|vol\b|flight|train|item|index"
ITEM += r"|indice|spettacolo|concert|choix|choice|which|quel"
NAME = r"\bnom\b|name|login|user|pseudo|nome|identifiant|client"
SECRET = r"passe|password|pin\b|code"
YES = r"\bok\b|accept|confirm|succ|valid|r[ée]serv|booked|effectu|enregistr|done|true|bravo|merci|riuscit"
NO = r"nok|refus|impossible|erreur|[ée]chec|insuff|error|fail|not enough|pas assez|indispo|unavail|sorry"
NO += r"|d[ée]sol|false|invalid|complet"
_MADE = {"msgget": "queue", "mkfifo": "fifo", "bind": "tcp", "mq_open": "posix queue"}
_OPTION = re.compile(r"^[\s\W]*?(?:\[?\(?)(\d{1,2}|[A-Za-z])\s*[\])]?\s*[.):=\-–—>|]+\s*(\S.*)$", re.MULTILINE)
_PLACEHOLDER = r"(?:<[^<>\n]+>|\[[^\[\]\n]+\]|[A-ZÀ-Ý][A-ZÀ-Ý_0-9]+\b)"


def learn(built: Built, *, question: int = 0, known: Profile | None = None, patience: float = 5.0) -> Profile:
    """Return what can be learnt of a program. Blocks, for some seconds at most.

    known: what was written by hand: only what it leaves open is looked for. question: which of the subject's its
    programs answer, where a folder holds several. Raises NotReadyError when nothing can be started that serves.
    """
    profile = known or Profile()
    profile = dataclasses.replace(profile, name=profile.name or built.name, question=question or profile.question)
    profile, channel = _find_server(built, profile, patience)
    if not profile.talks:
        profile, seen = _find_client(built, profile, patience)
        channel = dataclasses.replace(channel, sizes=seen) if seen else channel
    if not profile.channel.kind:
        profile = dataclasses.replace(profile, channel=channel)
    if profile.talks and profile.style == "menu" and not profile.clients and profile.channel.kind == "fifo":
        profile = _alone(built, profile, patience)
    return profile


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


# Which one is the server


def _hint(program: Executable, wanted: str, question: int) -> int:
    """Return how much the name of a program looks like what is wanted, "server" or "client"."""
    name = program.path.lower()
    server = re.search(r"serv|srv|daemon|guichet|bank|gestion", name) is not None
    client = re.search(r"client|cli\b|user|agen|custom|achet|usager", name) is not None
    score = 2 * (server if wanted == "server" else client) - (client if wanted == "server" else server)
    if question:
        numbers = re.findall(r"q(?:uestion)?[_-]?(\d)", name)
        numbers += re.findall(r"(?:^|/)[a-z_]+(\d)(?:\.\w+)?$", name)
        score += 4 if str(question) in numbers else -4 if numbers else 0
        if wanted == "client" and question in (3, 4) and "2" in numbers:
            score += 6  # the point of these questions is that the client does not change
    return score


def _find_server(built: Built, profile: Profile, patience: float) -> tuple[Profile, Channel]:
    """Return the profile with a server command that has been seen to serve, and what it made to be spoken to."""
    if profile.server:
        return profile, _watch(built, profile, patience)[0]
    failures: list[str] = []
    found: list[tuple[int, Profile, Channel]] = []
    candidates = sorted(built.programs, key=lambda one: -_hint(one, "server", profile.question))
    for program in candidates[:8]:
        trial = dataclasses.replace(profile, server=program.words)
        for again in range(2):
            try:
                channel, terminal = _watch(built, trial, patience)
            except NotReadyError as error:
                usage = _arguments(str(error)) if not again else ()
                if usage:
                    trial = dataclasses.replace(trial, server=(*trial.server, *usage))
                    continue
                failures.append(f"{program.path} : {error}")
            except (WorldError, GateError) as error:
                failures.append(f"{program.path} : {error}")
            else:
                score = _hint(program, "server", profile.question) + (3 if channel.kind else 0) - (2 if terminal else 0)
                found.append((score, trial, channel))
            break
        if found and found[-1][0] >= 4:
            break
    if not found:
        raise NotReadyError("aucun programme ne sert : " + " ; ".join(failures[:3]))
    _, chosen, channel = max(found, key=lambda row: row[0])
    return chosen, channel


def _watch(built: Built, profile: Profile, patience: float) -> tuple[Channel, bool]:
    """Start a server alone, and return what it makes, and whether it waits for the keyboard. Raises NotReadyError."""
    with Bench(built.folder, profile, patience=min(patience, 2.0), gated=True) as bench:
        assert bench.gate is not None
        try:
            bench.serve()
        except NotReadyError as error:
            program = bench.server
            raise NotReadyError(f"{error}\n{program.output() if program is not None else ''}") from None
        gate, server = bench.gate, bench.serving
        if not any(one.serves for one in bench.server_tasks()):  # still busy: a virtual machine takes its time
            bench.until(lambda: bool(_channel(gate.events()).kind) or server.code is not None, STARTING)
        terminal = any(one.reads_terminal for one in bench.server_tasks())
        return _channel(gate.events()), terminal


def _channel(events: Iterable[Event]) -> Channel:
    """Return what a server has made to be spoken to by."""
    names: dict[str, list[str]] = {}
    for event in events:
        if event.kind is Kind.CALL and event.call in _MADE:
            if event.call == "msgget" and "IPC_CREAT" not in str(event.arguments.get("flags")):
                continue
            kind, name = _MADE[event.call], event.object
            if event.call == "bind":
                name = str(event.arguments.get("address"))
                port = re.fullmatch(r"[^@/].*:(\d+)", name)  # not of a socket with a path
                kind, name = ("tcp", f"port {port[1]}") if port else ("unix", name)
            names.setdefault(kind, []).append(name)
    for kind in ("queue", "posix queue", "fifo", "tcp", "unix"):
        if kind in names:
            return Channel(kind, tuple(dict.fromkeys(names[kind])))
    return Channel()


def _arguments(text: str) -> tuple[str, ...]:
    """Return arguments that satisfy a usage message, () if it asks for none that we know."""
    found: list[str] = []
    for line in text.splitlines():
        if re.search(r"usage|utilisation|uso|syntax", line, re.IGNORECASE):
            for word in re.findall(_PLACEHOLDER, line.partition(":")[2] or line):
                if re.search(r"port", word, re.IGNORECASE):
                    found.append("5000")
                elif re.search(r"addr|host|ip\b|h[ôo]te", word, re.IGNORECASE):
                    found.append("127.0.0.1")
                elif re.search(r"pid", word, re.IGNORECASE):
                    found.append("{pid}")
                elif re.search(NAME, word, re.IGNORECASE):
                    found.append("{client}")
                elif not word.startswith("["):
                    found.append("10")
            break
    return tuple(found)


# How the client is spoken to


def _find_client(built: Built, profile: Profile, patience: float) -> tuple[Profile, dict[str, tuple[int, ...]]]:
    """Return the profile with as much of the client's dialogue as could be learnt, and the sizes of messages."""
    if profile.client:
        commands = [profile.client]
    else:
        rest = [one for one in built.programs if one.words != profile.server[: len(one.words)]]
        near = _folder(profile.server)
        rest.sort(key=lambda one: (-_hint(one, "client", profile.question), _folder(one.words) != near))
        commands = [one.words for one in rest if _hint(one, "client", profile.question) > -2][:4]
    notes: list[str] = []
    for command in commands:
        trial = dataclasses.replace(profile, client=command)
        learnt = trial
        said: list[str] = []
        asks = False
        # Once more without the gate, which slows a program down, and slowly: on a busy machine some text may come late.
        for gated, settled in ((True, SETTLED), (False, 8 * SETTLED)):
            said = []
            try:
                with Bench(built.folder, trial, patience=patience, gated=gated) as bench:
                    bench.serve()
                    learner = _Learner(bench, settled)
                    learnt = learner.learn()
                    asks = asks or learner.asks
                    sizes = _sizes(bench.gate.events()) if bench.gate is not None else {}
            except (SpectaclesError, GateError) as error:
                said = [f"{command[-1]} : {error}"]
                continue
            if learnt.talks:
                return learnt, sizes
            said = list(learnt.notes)
        notes += said
        if not profile.client and learnt.consult:
            profile = dataclasses.replace(learnt, notes=profile.notes)
        elif not profile.client and asks:  # it waits for a line, whatever that should be: that much can be judged
            profile = dataclasses.replace(profile, client=learnt.client)
    if not commands:
        notes.append("aucun client trouvé")
    return dataclasses.replace(profile, notes=(*profile.notes, *notes)), {}


def _folder(command: Sequence[str]) -> str:
    return command[-1].rpartition("/")[0]


def _sizes(events: Sequence[Event]) -> dict[str, tuple[int, ...]]:
    """Return the sizes of what was sent, by who sends on what."""
    found: dict[str, list[int]] = {}
    fifos = {event.object for event in events if event.call == "mkfifo"}
    for event in events:
        if event.kind is not Kind.CALL or event.call not in ("msgsnd", "mq_send", "send", "write"):
            continue
        what = re.sub(r" #\d+$", "", event.object)
        if event.call == "write" and not what.startswith("connection") and what not in fifos:
            continue
        size = event.arguments.get("size")
        side = "client" if event.task.startswith("A") else "server"
        row = found.setdefault(f"{side} {event.call} {what}", [])
        if isinstance(size, int) and size not in row:
            row.append(size)
    return {name: tuple(row[:8]) for name, row in list(found.items())[:12]}


class _Learner:
    """Learns one client, whose server runs on the bench."""

    def __init__(self, bench: Bench, settled: float) -> None:
        self.bench = bench
        self.settled = settled
        self.pace = 0.0
        self.profile = bench.profile
        self.notes: list[str] = []
        self.asks = False  # whether the client has been seen to wait for a line
        self.count = 0
        self.client: Client = bench.client("A", gated=True)
        self.at = 0

    # The dialogue, line by line

    def start(self, *arguments: str) -> str:
        """Start a client; return what it says until it waits for a line or ends."""
        self.count += 1
        self.client = self.bench.client(f"A{self.count}", gated=True)
        self.client.start(arguments)
        self.at = 0
        return self.hear()

    def hear(self) -> str:
        """Return what it says until it waits for a line, or ends. Raises NotReadyError when it does neither."""
        client = self.client
        begun = time.monotonic()
        deadline = begun + self.bench.patience
        since = 0.0
        size = -1
        while True:
            assert client.program is not None
            if client.program.code is not None:
                client.program.wait(1.0)
                break
            if client.waits_to_read() is None:
                since = 0.0
            elif client.printed() != size or not since:
                size, since = client.printed(), time.monotonic()
            elif time.monotonic() - since > self.settled:
                break
            if time.monotonic() > deadline:
                doing = tasks.look(client.program.tree())
                raise NotReadyError(f"le client n'attend rien du clavier et ne finit pas : {describe(doing)}")
            time.sleep(STEP)
        self.pace = max(self.pace, time.monotonic() - begun - self.settled)
        text = client.text(self.at)
        self.at = client.printed()
        return text

    def say(self, line: str) -> str:
        """Type a line; return what it says then."""
        self.client.type(line, self.client.waits_to_read())
        return self.hear()

    def over(self) -> bool:
        """Whether it has ended."""
        return self.client.program is None or self.client.program.code is not None

    # Learning

    def learn(self) -> Profile:
        """Return the profile with what could be learnt."""
        text = self.start()
        self.asks = not self.over()
        learnt = self._from_menu(text) if self.asks else self._from_usage(text)
        return dataclasses.replace(learnt, notes=(*learnt.notes, *self.notes), pace=self.pace)

    def _from_menu(self, text: str) -> Profile:
        login: list[str] = []
        options = _options(text)
        while not _choose(options, RESERVE) and len(login) < TRIES and not self.over():
            line = _login_line(text)
            login.append(line)
            text = self.say(line.replace("{client}", self.client.name))
            options = _options(text)
        consult, reserve, leave = _choose(options, CONSULT), _choose(options, RESERVE), _choose(options, QUIT)
        if not reserve or self.over():
            self.notes.append(f"le menu du client n'est pas compris : {last_line(text)}")
            return self.profile
        if not consult:
            self.notes.append("le menu du client ne dit pas comment consulter")
            return self.profile
        self.menu = _prompt(text)
        self.menu_text = text
        self.login = login
        self.profile = dataclasses.replace(
            self.profile, login=tuple(login), quit=(leave,) if leave else (), style="menu"
        )
        tokens: list[str] = []
        lines, said = self._explore(consult, tokens, "1")
        if self.over():
            self.profile = dataclasses.replace(self.profile, style="once")
        tokens = _tokens(said) or _tokens(text) or ["1"]
        return self._measure(tuple(lines), lambda: self._explore_reserve(reserve, tokens), tokens)

    def _again(self) -> None:
        """Start a new client at its menu, if the last one has ended."""
        if self.over():
            self.start()
            for line in self.login:
                self.say(line.replace("{client}", self.client.name))

    def _explore(self, key: str, tokens: list[str], seats: str, kind: str = "consult") -> tuple[list[str], str]:
        """Follow an option of the menu until the menu comes back; return lines, as profiles have them, and the text."""
        lines = [key]
        said = text = self.say(key)
        while not self.over() and not self._at_menu(text) and len(lines) < TRIES:
            choice = tokens or _tokens(said) or ["1"]
            wants = _wanted(text, {"{seats}"} & set(lines) != set(), {"{item}"} & set(lines) != set(), kind)
            if wants == "?":  # no idea: what a person types to go on
                wants = ""
            lines.append(wants)
            typed = wants.replace("{item}", choice[0]).replace("{seats}", seats).replace("{client}", self.client.name)
            text = self.say(typed)
            said += text
        return lines, said

    def _at_menu(self, text: str) -> bool:
        return _prompt(text) == self.menu and len(_options(text)) >= len(_options(self.menu_text)) - 1

    def _explore_reserve(self, key: str, tokens: list[str]) -> tuple[str, ...]:
        self._again()
        lines, _ = self._explore(key, tokens, "1", "reserve")
        return tuple(lines)

    def _from_usage(self, text: str) -> Profile:
        """Learn a client whose requests are words of its command line, from what it says of its usage."""
        found: dict[str, tuple[str, ...]] = {}
        plain = re.sub(r"\x1b\[[\d;]*m", "", text)
        for verb, rest in re.findall(rf"\b([a-z][\w-]*)((?:\s+{_PLACEHOLDER})+)", plain):
            for kind, hint in (("reserve", RESERVE), ("consult", CONSULT)):
                if re.search(hint, verb, re.IGNORECASE) and kind not in found:
                    placeholders = re.findall(_PLACEHOLDER, rest)
                    said: list[str] = [verb]
                    for word in placeholders:
                        seats = re.search(SEATS, word, re.IGNORECASE) and "{item}" in said
                        said.append("{seats}" if seats or "{item}" in said else "{item}")
                    found[kind] = tuple(said)
        if "consult" in found and "reserve" in found:
            self.profile = dataclasses.replace(self.profile, style="arguments")
            return self._measure(found["consult"], lambda: found["reserve"], [str(n) for n in (1, 2, 3, 4, 5, 0)])
        more = _arguments(text)
        if more:
            self.profile = dataclasses.replace(self.profile, client=(*self.profile.client, *more))
            self.bench.profile = self.profile
            again = self.start()
            if not self.over():
                return self._from_menu(again)
        program = self.client.program
        self.notes.append(
            f"le client finit sans rien attendre ({ending(program) if program else ''}) : {last_line(text)}"
        )
        return self.profile

    # What answers look like

    def _measure(self, consult: tuple[str, ...], find: Callable[[], tuple[str, ...]], tokens: list[str]) -> Profile:
        """Learn the patterns from a few requests whose effect is known."""
        self.profile = dataclasses.replace(self.profile, consult=consult)
        left = yes = no = ""
        for item in tokens[:TRIES]:  # the first of which may not exist
            texts, taken = [self._request(consult, item, 0)], [0]
            if not self.profile.reserve:
                self.profile = dataclasses.replace(self.profile, reserve=find())
                if self.profile.style != "arguments":  # finding out has reserved one
                    texts.append(self._request(consult, item, 0))
                    taken.append(1)
            reserve = self.profile.reserve
            some = "{seats}" in " ".join(reserve)
            accepted: list[str] = []
            for count in (1, 2 if some else 1):
                accepted.append(self._request(reserve, item, count))
                texts.append(self._request(consult, item, 0))
                taken.append(taken[-1] + count)
            refused, dead = "", False
            try:
                refused = self._request(reserve, item, FAR_TOO_MANY) if some else ""
                texts.append(self._request(consult, item, 0))
                taken.append(taken[-1])
            except NotReadyError:  # a refusal that is never told: for the checks to find
                dead = True
            left = _left_pattern(texts, taken, item)
            yes, no = _answers(accepted, refused, self._menu_lines())
            if (left and yes) or dead:
                break
        before = texts[0]
        if not left:
            self.notes.append("le nombre de places restantes n'a pas été reconnu dans les réponses du client")
        if not yes:
            self.notes.append("l'acceptation d'une réservation n'a pas été reconnue")
        items = []
        if left:
            for token in dict.fromkeys([*tokens, item]):
                number = _number(words.pattern(left, token), before) if "{item}" in left else None
                if number:
                    items.append(Item(token, number))
            if not items:
                items = [Item(item, _number(words.pattern(left, item), texts[0]))]
                if "{item}" in " ".join(consult) and not dead:
                    others = [one for one in tokens if one != item]
                    for token in others[:ASKED]:
                        number = _number(words.pattern(left, token), self._request(consult, token, 0))
                        if number is not None and number > 0:
                            items.append(Item(token, number))
                    if self.profile.style != "arguments":  # there, tokens are guesses
                        items += [Item(token) for token in others[ASKED:]]
        return dataclasses.replace(
            self.profile, left=left, yes=yes, no=no, items=tuple(items), most_seats=0 if some else 1
        )

    def _menu_lines(self) -> set[str]:
        return {_shape(line) for line in getattr(self, "menu_text", "").splitlines()}

    def _request(self, lines: tuple[str, ...], item: str, seats: int) -> str:
        """Make one request; return all that the client said."""
        if self.profile.style == "arguments":
            return self.start(*words.fill(lines, item=item, seats=seats, client=f"A{self.count + 1}"))
        self._again()
        said = ""
        for line in words.fill(lines, item=item, seats=seats, client=self.client.name):
            if self.over():
                break
            said += "\n" + self.say(line)  # what answers a line begins one: no prompt gets into a pattern
        extra = 0
        while not self.over() and not self._at_menu(said) and extra < TRIES:
            said += "\n" + self.say("")
            extra += 1
        return said


def _options(text: str) -> list[tuple[str, str]]:
    """Return the options of a menu: what is typed, and what is said of it."""
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    return [(key, label) for key, label in _OPTION.findall(plain) if re.search(r"[^\W\d]{2}", label)]


def _choose(options: list[tuple[str, str]], hint: str) -> str:
    """Return the key of the option that a hint fits."""
    for key, label in reversed(options):
        if re.search(hint, label, re.IGNORECASE) and not re.search(CANCEL, label, re.IGNORECASE):
            if hint is CONSULT and re.search(RESERVE, label, re.IGNORECASE):
                continue
            return key
    return ""


def _prompt(text: str) -> str:
    """Return the last line that says something, without its numbers."""
    return _shape(last_line(text))


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line)).strip()


def _login_line(text: str) -> str:
    prompt = last_line(text)
    if re.search(SECRET, prompt, re.IGNORECASE):
        return "1234"
    if re.search(NAME, prompt, re.IGNORECASE) and not re.search(r"num", prompt, re.IGNORECASE):
        return "{client}"
    return "1"


def _wanted(text: str, seats: bool, item: bool, kind: str) -> str:
    """Return what a prompt asks for: {item}, {seats}, {client}, or "?"."""
    prompt = last_line(text)
    hits = [
        (found.start(), name)
        for name, hint in (("{seats}", SEATS), ("{item}", ITEM))
        if (found := re.search(hint, prompt, re.IGNORECASE))
    ]
    order = [name for _, name in sorted(hits)]
    if re.search(r"nombre de|combien|how many|number of|quantit", prompt, re.IGNORECASE) and kind == "reserve":
        order = ["{seats}", *order]
    for name in order:
        if (name == "{seats}" and not seats and kind == "reserve") or (name == "{item}" and not item):
            return name
    if re.search(NAME, prompt, re.IGNORECASE):
        return "{client}"
    if not item:
        return "{item}"
    if not seats and kind == "reserve":
        return "{seats}"
    return "?"


def _tokens(text: str) -> list[str]:
    """Return what shows are called in a list of them: the number that a line begins with."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        head = re.match(r"[\s\W]*?\[?(\d{1,3})\]?\s*[\])|:.\-–—]*\s*\S", line)
        if head and len(re.findall(r"\d+", line)) >= 2 and head[1] not in found:
            found[head[1]] = len(found)
    order = list(found)
    return [*order[1:], *order[:1]] if len(order) > 1 else order  # not the first: 0 is what an error looks like


def _escape(text: str) -> str:
    """Escape what a regular expression would take for more than itself, for people to read."""
    return re.sub(r"[\\.^$*+?()\[\]{}|]", r"\\\g<0>", text)


def _number(left: re.Pattern[str], text: str) -> int | None:
    found = left.search(text)
    return int(found[1]) if found else None


def _left_pattern(texts: list[str], taken: list[int], item: str) -> str:
    """Return a pattern whose number goes down in `texts` as `taken` goes up, "" if there is none."""
    first = texts[0].splitlines()
    for line in reversed(first):  # what answers comes last: before it, a list may be the client's own
        for number in re.finditer(r"-?\d+", line):
            start, end = number.span()
            for with_item in (True, False):
                for text in _patterns(line, start, end, item, with_item):
                    compiled = words.pattern(text, item)
                    seen = [_number(compiled, said) for said in texts]
                    if seen[0] == int(number[0]) and all(
                        value is not None and value + less == seen[0] for value, less in zip(seen, taken, strict=True)
                    ):
                        return text
    return ""


def _patterns(line: str, start: int, end: int, item: str, with_item: bool) -> Iterable[str]:
    """Return patterns for the number at start..end of a line, with what stands around it, those that say more first."""
    before, after = line[:start], line[end:]
    tail = re.match(r"\D{0,12}?(?:[^\W\d]+|[^\w\s]|$)", after)
    behind = _escape(tail[0]) if tail and tail[0].strip() else ""
    lead = re.search(r"(?:[^\W\d][^\d]{0,15}|[^\w\s]\s*)$", before)
    front = _escape(lead[0]) if lead and lead[0].strip() else ""
    number = r"(-?\d+)"
    if with_item:
        head = re.match(rf"(\W*){_escape(item)}(?!\d)", line)
        if head and head.end() <= start:
            open_ = _escape(head[1].strip())
            close = _escape(line[head.end() : head.end() + 1].strip())
            between = rf"^\W*?{open_}{{item}}(?!\d){close}.*?"
            for tail_ in (behind, ""):
                for head_ in ("", front):
                    yield between + head_ + rf"(?<!\d)(?<!\d-){number}(?!\d)" + tail_
            yield rf"^\W*?{open_}{{item}}(?!\d){close}.*\D{number}\D*$"
    else:
        for head_ in (front, ""):
            for tail_ in (behind, ""):
                if head_ or tail_:
                    yield head_ + (r"(?<![\d-])" if not head_ else "") + number + r"(?!\d)" + tail_


def _answers(accepted: list[str], refused: str, menu: set[str]) -> tuple[str, str]:
    """Return patterns for yes and no: lines that come with the ones, and not with the other."""
    common = set.intersection(*(_lines(text) for text in accepted)) - menu
    bad = _lines(refused) - menu
    yes = _best(common - bad, YES, [refused], accepted)
    no = _best(bad - set().union(*(_lines(text) for text in accepted)), NO, accepted, [refused]) if refused else ""
    return yes, no


def _lines(text: str) -> set[str]:
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    return {_shape(line) for line in plain.splitlines() if _shape(line)}


def _best(shapes: set[str], hint: str, without: list[str], within: list[str]) -> str:
    """Return a pattern for the most telling of some lines, which is in all of `within` and none of `without`."""
    for shape in sorted(shapes, key=lambda one: (not re.search(hint, one, re.IGNORECASE), -len(one), one)):
        text = _escape(shape).replace("#", r"\d+")
        compiled = words.pattern(text)
        if all(compiled.search(said) for said in within) and not any(compiled.search(said) for said in without):
            return text
    return ""
