"""A profile: how somebody's program is built, started and spoken to. Learnt, or written by hand in TOML.

What stands in command lines and in lines typed is replaced: {item} and {seats} of a request, {seat} the name of a place
that is free, {seat1} and {seat2} its words, {client} a name that no other client has, {run} a number that no other run
of a client has, {pid} the server's PID, {dir} the program's folder, {python} our Python, {read} what `reads` finds.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spectacles.common.errors import UsageError, reason

MOST_PLACES = 2000  # names of places that are written out
STOPS = ("ctrl-c", "term", "line")
STYLES = ("menu", "once", "arguments")
EXPECTATIONS = {
    "second_server": "un second serveur est refusé, et ne touche à rien de ce qu'a le premier",
    "durable": "ce qui est acquitté survit à un kill -9 du serveur",
    "restart": "le serveur repart après un kill -9",
    "clean_stop": "Ctrl-C arrête le serveur, qui retire ses objets",
    "piped_output": "la sortie du serveur paraît aussi dans un tube",
    "vanished_clients": "un client disparu n'empêche pas de servir les autres",
    "hostile_numbers": "les nombres sont vérifiés",
}


class ProfileError(UsageError):
    """A profile that cannot be used: the line, and why."""


@dataclass(frozen=True)
class Item:
    """Something that can be reserved. typed: what is typed for it. seats: at the start, None where that is random."""

    typed: str
    seats: int | None = None


@dataclass(frozen=True)
class Channel:
    """What was seen of the channel between client and server; a profile written by hand may leave it out.

    kind: "queue", "fifo", "tcp", "posix queue", "unix", "" unknown. names: keys, paths, ports as the gate calls them.
    sizes: bytes of each kind of message, by "call object" of who sends, as seen in one consult and one reserve.
    """

    kind: str = ""
    names: tuple[str, ...] = ()
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """Everything that must be known to run and to judge a program. Commands are words; an empty one: there is none.

    style: how requests are made. "menu": consult and reserve are lines typed, one whenever the client waits for one,
    and it comes back for more. "once": the same, but each run of the client is one request. "arguments": each run is
    one request, and consult and reserve are words added to its command. left: a regular expression with one group, the
    seats left, in which {item} stands for the item; yes, no: what an answer to a reservation holds. "" is: not known.
    free, sold: where the group of `left` is no number but a map or a list, what stands in it once for each place that
    is left, or taken. Without consult and left, nobody can ask what is left: see Profile.counts.
    """

    name: str = ""
    # build
    build: tuple[str, ...] = ()  # shell commands; none: Makefile, else cc
    files: tuple[str, ...] = ()  # that must exist before the start; made empty when they do not
    # server
    server: tuple[str, ...] = ()
    server_folder: str = "."
    server_env: Mapping[str, str] = field(default_factory=dict)
    server_lines: tuple[str, ...] = ()  # typed at its start, one whenever it waits for one
    stop: str = "ctrl-c"  # STOPS; "line": the lines of stop_lines alone
    stop_lines: tuple[str, ...] = ()  # typed after that, one whenever it waits for one
    client_first: bool = False
    # client
    client: tuple[str, ...] = ()
    client_folder: str = "."
    client_env: Mapping[str, str] = field(default_factory=dict)
    style: str = "menu"
    login: tuple[str, ...] = ()
    consult: tuple[str, ...] = ()
    reserve: tuple[str, ...] = ()
    consult_words: tuple[str, ...] = ()  # added to its command, of style once
    reserve_words: tuple[str, ...] = ()
    seats: tuple[str, ...] = ()  # names of places, where one reserves a certain one: "A1", "1-30", "1-5 1-8"
    quit: tuple[str, ...] = ()
    reads: str = ""  # a regular expression whose group, as a client has last printed it, is typed for {read}
    # answers
    left: str = ""
    free: str = ""  # counted in the group of left
    sold: str = ""  # the same
    yes: str = ""
    no: str = ""
    answers_file: str = ""  # where answers are, if not on the screen
    # what there is to reserve
    items: tuple[Item, ...] = ()
    # limits
    clients: int = 0  # most clients at a time; 0: as many as one likes
    most_seats: int = 0  # of one request; 0: no limit
    slow: float = 0.0  # seconds that an answer may take by design
    # expectations: names of EXPECTATIONS -> whether the teacher holds them
    expect: Mapping[str, bool] = field(default_factory=dict)
    points: Mapping[str, float] = field(default_factory=dict)  # number of a defect -> points it costs
    channel: Channel = field(default_factory=Channel)
    question: int = 0  # 1..5, which question of the subject it answers; 0: none
    notes: tuple[str, ...] = ()  # what learning it found worth saying
    pace: float = 0.0  # seconds, the longest that its client was seen to take for one line; not in files

    def expects(self, what: str) -> bool:
        """Say whether the teacher holds an expectation; those that the profile does not name are held."""
        return self.expect.get(what, True)

    @property
    def talks(self) -> bool:
        """Whether its client can be driven: its requests are known, and what their answers look like."""
        consults = bool(self.consult or self.consult_words)
        reserves = bool(self.reserve or self.reserve_words)
        return bool(self.client and reserves and self.yes and self.items) and consults == self.counts

    @property
    def counts(self) -> bool:
        """Whether a client can ask what is left. Else a reservation of one place is what stands for a consultation."""
        return bool(self.left)

    @property
    def named(self) -> bool:
        """Whether a reservation is of a certain place."""
        return bool(self.seats) and any(
            re.search(r"\{seat\d?\}", word) for word in (*self.reserve, *self.reserve_words)
        )

    @property
    def places(self) -> tuple[str, ...]:
        """The names of places, ranges written out; MOST_PLACES of them at most."""
        found: list[str] = []
        for name in self.seats:
            columns = [_range(word) for word in name.split()]
            found += map(" ".join, itertools.islice(itertools.product(*columns), MOST_PLACES - len(found)))
        return tuple(found)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return dataclasses.asdict(self)


# Words


def _range(word: str) -> list[str]:
    """Return what a range stands for: "7-9" is 7, 8, 9."""
    found = re.fullmatch(r"(\d+)-(\d+)", word)
    if not found:
        return [word]
    return list(map(str, range(int(found[1]), min(int(found[2]) + 1, int(found[1]) + MOST_PLACES))))


def fill(words: tuple[str, ...], **values: object) -> list[str]:
    """Return words with what stands in braces replaced; braces of other names stay."""
    known = {"python": sys.executable, **values}
    return [re.sub(r"\{(\w+)\}", lambda found: str(known.get(found[1], found[0])), word) for word in words]


def pattern(text: str, item: str = "") -> re.Pattern[str]:
    """Compile a pattern of a profile for one item."""
    return re.compile(text.replace("{item}", re.escape(item)), re.MULTILINE)


# TOML

# Where each field stands: section, key, comment.
_PLACES: tuple[tuple[str, str, str, str], ...] = (
    ("name", "", "name", "le nom du programme, dans les rapports"),
    ("question", "", "question", "question du sujet à laquelle il répond, 1 à 5 ; 0 : aucune"),
    ("build", "build", "commands", "commandes du shell ; aucune : make s'il y a un Makefile, sinon cc"),
    ("files", "build", "files", "fichiers qui doivent exister avant le départ (pour ftok, par exemple)"),
    ("server", "server", "command", "mots de la commande du serveur"),
    ("server_folder", "server", "folder", "dossier où il est lancé"),
    ("server_env", "server", "env", "variables d'environnement"),
    ("server_lines", "server", "lines", "lignes tapées à son départ, une chaque fois qu'il en attend une"),
    ("stop", "server", "stop", "comment on l'arrête : ctrl-c, term, ou line (seulement les lignes de stop_lines)"),
    ("stop_lines", "server", "stop_lines", "lignes tapées ensuite : Entrée est la ligne vide"),
    ("client_first", "server", "client_first", "true si le client peut être lancé avant le serveur, et l'attend"),
    ("client", "client", "command", "mots de la commande du client ; {pid} : PID du serveur, {client} : un nom"),
    ("client_folder", "client", "folder", "dossier où il est lancé"),
    ("client_env", "client", "env", "variables d'environnement"),
    ("style", "client", "style", "menu, once (une requête par exécution) ou arguments (de même, en arguments)"),
    ("login", "client", "login", "lignes tapées par chaque client avant tout"),
    ("consult", "client", "consult", "pour consulter : lignes tapées (ou mots de plus, si style = arguments) ; {item}"),
    ("reserve", "client", "reserve", "pour réserver : de même ; {item}, {seats}"),
    ("consult_words", "client", "consult_words", "pour consulter : mots de plus, si style = once"),
    ("reserve_words", "client", "reserve_words", "pour réserver : de même"),
    (
        "seats",
        "client",
        "seats",
        "noms des places libres, si l'on en choisit une : A1, 1-30, 1-5 1-8 ; {seat}, {seat1}",
    ),
    ("quit", "client", "quit", "pour quitter"),
    ("reads", "client", "reads", "expression régulière dont le groupe, affiché par le client, est tapé pour {read}"),
    ("left", "answers", "left", "expression régulière dont le groupe est le nombre de places restantes ; {item}"),
    ("free", "answers", "free", "ce qui, dans le groupe de left, y est une fois par place libre (un plan)"),
    ("sold", "answers", "sold", "ce qui y est une fois par place prise"),
    ("yes", "answers", "yes", "expression régulière d'une réservation acceptée"),
    ("no", "answers", "no", "expression régulière d'une réservation refusée"),
    ("answers_file", "answers", "file", "fichier où sont les réponses, si ce n'est pas à l'écran"),
    ("clients", "limits", "clients", "nombre de clients à la fois, 0 : sans limite"),
    ("most_seats", "limits", "seats", "places par requête, 0 : sans limite"),
    ("slow", "limits", "seconds", "secondes que peut durer une réponse, si c'est voulu"),
    ("expect", "expect", "", "ce que l'enseignant exige : false si ce n'est pas demandé"),
    ("points", "points", "", "numéro du défaut = points qu'il coûte"),
)
_HINTS = {one.name: one.type for one in dataclasses.fields(Profile)}


def load(path: str | Path) -> Profile:
    """Return the profile in a file. Raises ProfileError: one line that names the file, the line and the reason."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"profil {reason(error)}") from None
    except UnicodeDecodeError:
        raise ProfileError(f"profil {path} : ce n'est pas du texte en UTF-8") from None
    return parse(text, str(path))


def parse(text: str, where: str = "profil") -> Profile:
    """Return the profile in a text. where: what to call it. Raises ProfileError."""
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = f"ligne {found[1]}" if found else "à la fin"
        raise ProfileError(f"{where}, {line} : ce n'est pas du TOML ({_reason(str(error))})") from None
    values: dict[str, Any] = {}
    known: dict[str, set[str]] = {"items": set(), "channel": {"kind", "names", "sizes"}}
    for name, section, key, _ in _PLACES:
        known.setdefault(section, set()).add(key)
        place = read if not section else read.get(section, {})
        if section and not isinstance(place, dict):
            raise _problem(where, text, "", section, f"[{section}] doit être une table")
        if key and key in place:
            values[name] = _value(place[key], name, lambda why, s=section, k=key: _problem(where, text, s, k, why))
        elif not key and place:
            values[name] = _table(place, name, lambda k, why, s=section: _problem(where, text, s, k, why))
    for key, value in read.items():
        if key not in known.get("", set()) and key not in known:
            raise _problem(where, text, "", key, f"« {key} » n'est pas connu (parmi {_list(known)})")
        if key in known and key not in ("", "items", "expect", "points") and isinstance(value, dict):
            for inner in value:
                if inner not in known[key]:
                    raise _problem(where, text, key, inner, f"« {inner} » n'est pas connu (parmi {_list(known[key])})")
    values["items"] = _items(read.get("items", {}), lambda key, why: _problem(where, text, "items", key, why))
    values["channel"] = _channel(read.get("channel", {}), lambda key, why: _problem(where, text, "channel", key, why))
    profile = Profile(**values)
    _check(profile, lambda section, key, why: _problem(where, text, section, key, why))
    return profile


def _check(profile: Profile, problem: Any) -> None:
    """Raise what is wrong with a profile as a whole."""
    if not profile.server:
        raise problem("server", "command", 'il manque la commande du serveur : command = ["./serveur"]')
    if profile.stop not in STOPS:
        raise problem("server", "stop", f"« {profile.stop} » : {', '.join(STOPS)}")
    if profile.style not in STYLES:
        raise problem("client", "style", f"« {profile.style} » : {', '.join(STYLES)}")
    if not 0 <= profile.question <= 5:
        raise problem("", "question", "1 à 5, ou 0")
    for name, value in (("clients", profile.clients), ("seats", profile.most_seats), ("seconds", profile.slow)):
        if value < 0:
            raise problem("limits", name, "un nombre négatif n'a pas de sens")
    for name in ("left", "free", "sold", "yes", "no", "reads"):
        text, section = getattr(profile, name), "client" if name == "reads" else "answers"
        try:
            groups = pattern(text, "x").groups
        except re.error as error:
            raise problem(
                section, name, f"expression régulière mal formée ({error.msg}, colonne {error.pos})"
            ) from None
        if name == "reads" and text and groups != 1:
            raise problem(
                section, name, f"un groupe entre parenthèses est attendu, ce qui se tape ; il y en a {groups}"
            )
        if name == "left" and text and groups != 1:
            raise problem(
                "answers", name, f"un groupe entre parenthèses est attendu, le nombre de places ; il y en a {groups}"
            )
    for key in profile.expect:
        if key not in EXPECTATIONS:
            raise problem("expect", key, f"« {key} » n'est pas connu (parmi {_list(EXPECTATIONS)})")
    if profile.sold and any(item.seats is None for item in profile.items):
        raise problem(
            "answers", "sold", "le nombre de places de chaque [items] doit être connu, puisqu'on en soustrait"
        )
    for name, key in (("consult", "consult_words"), ("reserve", "reserve_words")):
        if getattr(profile, key) and profile.style != "once":
            raise problem("client", key, f'style = "once" est attendu ; pour « arguments », ils sont dans {name}')
    if not profile.seats and re.search(r"\{seat\d?\}", " ".join((*profile.reserve, *profile.reserve_words))):
        raise problem("client", "seats", 'il manque les noms des places libres : seats = ["1-30"]')
    if profile.client and profile.reserve and profile.most_seats != 1:
        typed = " ".join((*profile.reserve, *profile.reserve_words))
        if "{seats}" not in typed:
            raise problem(
                "client",
                "reserve",
                "{seats} n'y est pas ; s'il ne se réserve qu'une place à la fois, [limits] seats = 1",
            )
    for number in profile.points:
        if not number.isdigit() or not 1 <= int(number) <= 40:
            raise problem("points", number, "un numéro de défaut est attendu, 1 à 40")


def _list(words: Any) -> str:
    return ", ".join(sorted(word for word in words if word))


def _reason(english: str) -> str:
    """Say what tomllib says, without the place."""
    said = re.sub(r" \(at (line \d+, column \d+|end of document)\)", "", english)
    for words, french in (
        ("Invalid value", "valeur mal écrite"),
        ("Unclosed array", "liste qui n'est pas fermée"),
        ("Expected '=' after a key", "il manque le signe = après la clef"),
        ("Cannot overwrite a value", "clef donnée deux fois"),
        ("Cannot declare", "section donnée deux fois"),
        ("Unterminated string", "guillemets qui ne sont pas fermés"),
        ("Illegal character", "signe inattendu, ou guillemets qui ne sont pas fermés"),
        ("Unescaped '\\'", "barre oblique inversée : doublez-la, ou écrivez '...' au lieu de \"...\""),
        ("Expected newline or end of document", "fin de ligne attendue"),
        ("Invalid statement", "clef ou [section] attendue"),
        ("Expected ']'", "il manque un crochet fermant"),
    ):
        if said.startswith(words):
            return french
    return said


def _problem(where: str, text: str, section: str, key: str, why: str) -> ProfileError:
    """Return the error about a key, with its line where it has one."""
    at, number = "", 0
    for count, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*\[+\s*([\w.]+)\s*\]+", line)
        if head:
            at = head[1]
            if at == section or at.startswith(f"{section}."):
                number = number or count
            if not section and at == key:
                return ProfileError(f"{where}, ligne {count} : {why}")
        elif at == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return ProfileError(f"{where}, ligne {count} : {key} : {why}")
    name = f"[{section}] {key}" if section else key
    return ProfileError(f"{where}, ligne {number} : {name} : {why}" if number else f"{where} : {name} : {why}")


def _value(value: Any, name: str, problem: Any) -> Any:
    """Return a value of TOML as the field `name` wants it."""
    hint = str(_HINTS[name])
    if hint.startswith("tuple"):
        if isinstance(value, str) and name in ("server", "client"):
            return tuple(shlex.split(value))
        if not isinstance(value, list) or not all(isinstance(word, str | int) for word in value):
            raise problem('une liste de textes est attendue, ["...", "..."]')
        return tuple(str(word) for word in value)
    if hint.startswith("Mapping"):
        if not isinstance(value, dict):
            raise problem('une table est attendue, { NOM = "valeur" }')
        return {str(key): str(inner) for key, inner in value.items()}
    wanted: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}
    if not isinstance(value, wanted[hint]) or (isinstance(value, bool) and hint != "bool"):
        said = {
            "str": "un texte entre guillemets",
            "bool": "true ou false",
            "int": "un nombre entier",
            "float": "un nombre",
        }
        raise problem(f"{said[hint]} est attendu, pas {value!r}")
    return float(str(value)) if hint == "float" else value


def _table(value: Mapping[str, Any], name: str, problem: Any) -> dict[str, Any]:
    for key, inner in value.items():
        if name == "expect" and not isinstance(inner, bool):
            raise problem(key, f"true ou false est attendu, pas {inner!r}")
        if name == "points" and (isinstance(inner, bool) or not isinstance(inner, int | float)):
            raise problem(key, f"un nombre de points est attendu, pas {inner!r}")
    return dict(value)


def _items(value: Any, problem: Any) -> tuple[Item, ...]:
    if not isinstance(value, dict):
        raise problem(
            "items", "une table est attendue : [items], puis « ce que l'on tape » = places, -1 si c'est au hasard"
        )
    found = []
    for typed, seats in value.items():
        if isinstance(seats, bool) or not isinstance(seats, int):
            raise problem(typed, f"un nombre de places est attendu, ou -1 s'il est au hasard, pas {seats!r}")
        found.append(Item(str(typed), seats if seats >= 0 else None))
    return tuple(found)


def _channel(value: Any, problem: Any) -> Channel:
    if not isinstance(value, dict):
        raise problem("channel", "une table est attendue")
    sizes = value.get("sizes", {})
    if not isinstance(sizes, dict) or not all(
        isinstance(row, list) and all(isinstance(size, int) for size in row) for row in sizes.values()
    ):
        raise problem("sizes", "des listes de tailles en octets sont attendues")
    names = value.get("names", [])
    if not isinstance(names, list):
        raise problem("names", "une liste est attendue")
    return Channel(str(value.get("kind", "")), tuple(map(str, names)), {key: tuple(row) for key, row in sizes.items()})


# Writing


def dump(profile: Profile) -> str:
    """Return a profile as TOML with comments, which parse() reads back as the same."""
    lines = ["# Profil pour « spectacles check --profile » ; ce qui a été appris se corrige à la main."]
    lines += [f"# {note}" for note in profile.notes]
    sections = list(dict.fromkeys(section for _, section, _, _ in _PLACES))
    for section in sections:
        lines.append("" if not section else f"\n[{section}]")
        for name, at, key, comment in _PLACES:
            if at != section:
                continue
            value = getattr(profile, name)
            lines.append(f"# {comment}")
            if key:
                lines.append(f"{key} = {_toml(value)}")
            elif name == "expect":
                for what, french in EXPECTATIONS.items():
                    lines.append(f"{what} = {_toml(profile.expects(what))}  # {french}")
            else:
                lines += [f"{_toml(inner)} = {_toml(points)}" for inner, points in value.items()]
    lines.append("\n[items]\n# ce que l'on tape pour chacun = places au départ ; -1 : au hasard, on demande d'abord")
    lines += [f"{_toml(item.typed)} = {-1 if item.seats is None else item.seats}" for item in profile.items]
    if profile.channel.kind:
        lines.append("\n[channel]\n# ce qui a été vu ; sans effet sur le jugement du dialogue")
        lines.append(f"kind = {_toml(profile.channel.kind)}\nnames = {_toml(profile.channel.names)}")
        sizes = ", ".join(f"{_toml(name)} = {_toml(tuple(row))}" for name, row in profile.channel.sizes.items())
        lines.append(f"sizes = {{ {sizes} }}" if sizes else "sizes = {}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        if "\\" in value and "'" not in value and value.isprintable():
            return f"'{value}'"  # a regular expression, as one reads it
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + " }" if value else "{}"
        )
    return "[" + ", ".join(_toml(inner) for inner in value) + "]"
