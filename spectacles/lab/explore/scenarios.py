"""Scenarios: from a question and what its clients ask, from a file, from a command that forks by itself."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles.common.errors import UsageError, reason
from spectacles.common.spectacle import MAX_SPECTACLE, Spectacle, pack_table
from spectacles.lab.dossier.building import build
from spectacles.lab.dossier.profile import load
from spectacles.lab.programs import questions, reference
from spectacles.lab.programs.questions import Question
from spectacles.lab.schedules.profiles import of_profile
from spectacles.lab.schedules.scenario import Actor, Content, Scenario, Service

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIENTS = "reserve 5 1; reserve 5 1"
NAMES = "ABCDEFGH"
WARM = (sys.executable, "-m", "spectacles.lab.schedules.warm")  # ours, with what takes long done once
PORT = 5000  # of question 5, in a world of its own
ADDRESSES = ("--key", "1234", "--shm-key", "1235", "--sem-name", "/semaphore")  # likewise, where the original's will do


_OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None]] = {  # see Question; else ADDRESSES of both
    "q1_pipes": ((), None),
    "q5_sockets": (("--port", str(PORT)), None),
    "x1_sessions": (ADDRESSES[:4], ("--dir", ".", *ADDRESSES[:2])),
    "x2_basket": (("--port", str(PORT)), ("--port", str(PORT))),
}


def of_command(command: list[str], *, accesses: bool = True) -> Scenario:
    """Return the scenario of one program that makes its own processes: it must end, with exit code 0.

    Its folder, copied for each run, is that of the program where its name has one, else the current one.
    """
    path = Path(command[0])
    found = shutil.which(path.name) if path.is_absolute() else None
    if found is not None and path.is_file() and os.path.samefile(found, path):
        command, path = [path.name, *command[1:]], Path(path.name)  # the machine's: what lies beside it is nobody's
    folder = path.parent if "/" in command[0] else Path()
    words = [f"./{path.name}", *command[1:]] if "/" in command[0] else command
    if "/" in command[0] and not path.is_file():
        raise UsageError(f"{command[0]} : aucun programme de ce nom")
    return Scenario(
        _title(path.stem), (Actor(_title(path.stem), tuple(words)),), str(folder.resolve()), accesses=accesses
    )


def of_dossier(source: str, profile: str, into: str, *, accesses: bool = True) -> Scenario:
    """Build the program in the folder `source` into the empty folder `into`, and return the scenario of its profile.

    Blocks while it is built. Raises UsageError, and SpectaclesError where it cannot be built.
    """
    known = load(profile)
    if not Path(source).is_dir():
        raise UsageError(f"{source} : pas un dossier")
    return of_profile(known, str(build(source, into, known.build, known.files).folder), accesses=accesses)


def _title(text: str) -> str:
    """Return a name that a task may have."""
    text = re.sub(r"[^\w-]", "-", text, flags=re.ASCII).strip("-")
    return text if re.match(r"[A-Za-z]", text) else f"p{text}"


def of_question(
    name: str, folder: Path, clients: str, *, c: bool = False, seats: int | None = None, accesses: bool = True
) -> Scenario:
    """Return the scenario of one server and its clients, in a folder that is filled for it.

    clients: "reserve 5 1; consult 5". seats: of each show; None: one less than all reservations want together, and at
    least one. Raises UsageError, and SpectaclesError where the C programs cannot be built.
    """
    requests = [_request(text) for text in clients.split(";") if text.strip()]
    if not 1 <= len(requests) <= len(NAMES):
        raise UsageError(f"--clients : de 1 à {len(NAMES)} demandes, pas {len(requests)}")
    wanted = sum(int(words[2]) for words in requests if words[0] == "reserve")
    there = max(wanted - 1, 1) if seats is None else seats
    shows = {slot: Spectacle(slot + 1, f"Spectacle {slot}", "2027-01-15", there) for slot in range(MAX_SPECTACLE)}
    if c and name not in reference.CLIENTS:
        raise UsageError(f"--c : pas de référence en C de {name}")
    options, asking = _OPTIONS.get(name, (ADDRESSES, None))
    question = Question(name, c, options, WARM, asking)
    question.prepare(folder, pack_table(shows))
    env = {} if c else {**question.env, "SPECTACLES_NURSERY_LATER": "1", "PYTHONHASHSEED": "0"}
    actors = [Actor("server", tuple(question.server()), stays=True, env=env)]
    operations = {}
    for letter, words in zip(NAMES, requests, strict=False):
        actors.append(Actor(letter, tuple(question.client(*words, json=True)), env=env, code=None))
        operations[letter] = words
    initial = dict.fromkeys(range(MAX_SPECTACLE), there)
    service = Service(operations, initial, questions.ACCEPTED, questions.REFUSED, questions.LEFT)
    return Scenario(
        f"{name[:2]}{'-c' if c else ''}", tuple(actors), str(folder), service=service, accesses=accesses and c
    )


def _request(text: str) -> tuple[str, ...]:
    words = tuple(shlex.split(text))
    fits = {"reserve": 3, "consult": 2}.get(words[0] if words else "") == len(words)
    if not fits or not all(re.fullmatch(r"\d{1,6}", word) for word in words[1:]):
        raise UsageError(
            f"--clients : « {text.strip()} » n'est ni « reserve SPECTACLE PLACES » ni « consult SPECTACLE »"
        )
    if int(words[1]) >= MAX_SPECTACLE:
        raise UsageError(f"--clients : spectacle {words[1]}, de 0 à {MAX_SPECTACLE - 1}")
    return words


# A file


def of_file(path: Path, *, accesses: bool = True) -> Scenario:
    """Return the scenario that a TOML file describes (docs/explore.md). Raises UsageError, which names the entry."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path} : ni une question (1 à 5, x1, x2), ni un fichier de scénario qui soit là") from None
    except IsADirectoryError:
        raise UsageError(f"{path} : un dossier s'explore avec le profil de son programme, --profile") from None
    except OSError as error:
        raise UsageError(reason(error)) from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} : ce n'est pas un texte en UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} : ce n'est pas du TOML ({error})") from None
    try:
        return _scenario(data, path, accesses)
    except (ValueError, re.error) as error:
        raise UsageError(f"{path} : {error}") from None


def _scenario(data: dict[str, Any], path: Path, accesses: bool) -> Scenario:
    top = _Table(data, "")
    folder = path.parent / top.text("folder", ".")
    if not folder.is_dir():
        raise ValueError(f"folder : {folder} n'est pas un répertoire")
    actors = tuple(_actor(_Table(entry, f"program {number}")) for number, entry in enumerate(top.tables("program"), 1))
    contents = tuple(_content(_Table(entry, f"holds {number}")) for number, entry in enumerate(top.tables("holds"), 1))
    service = _service(_Table(data["service"], "service")) if isinstance(data.get("service"), dict) else None
    scenario = Scenario(
        _title(top.text("title", path.stem)),
        actors,
        str(folder.resolve()),
        before=tuple(tuple(shlex.split(line)) for line in top.texts("before")),
        contents=contents,
        service=service,
        accesses=accesses and top.flag("accesses", True),
    )
    top.done({"program", "holds", "service"})
    if service is not None and (lost := set(service.operations) - {actor.name for actor in actors}):
        raise ValueError(f"service.requests : pas de programme {', '.join(sorted(lost))}")
    return scenario


def _actor(table: _Table) -> Actor:
    command = table.data.get("command", "")
    words = tuple(shlex.split(command)) if isinstance(command, str) else tuple(map(str, command))
    if not words:
        raise ValueError(f"{table.name} : il manque « command »")
    code = table.data.get("code", 0)
    if code != "any" and (not isinstance(code, int) or isinstance(code, bool)):
        raise ValueError(f'{table.name} : code : un nombre, ou "any"')
    env = table.data.get("env", {})
    if not isinstance(env, dict):
        raise ValueError(f"{table.name} : env : une table de variables")
    actor = Actor(
        table.text("name", _title(Path(words[0]).stem)),
        words,
        tuple(table.texts("lines")),
        table.flag("stays", False),
        {str(name): str(value) for name, value in env.items()},
        None if code == "any" else code,
        tuple(table.texts("prints")),
        tuple(table.texts("never")),
        table.flag("last", False),
    )
    table.done({"command", "code", "env"})
    return actor


def _content(table: _Table) -> Content:
    content = Content(
        table.text("place", ""),
        table.text("pattern", ""),
        table.number("size"),
        table.text("layout", ""),
        table.number("offset") or 0,
        table.number("least"),
        table.number("most"),
    )
    if not content.place:
        raise ValueError(f"{table.name} : il manque « place »")
    re.compile(content.pattern)
    table.done(set())
    return content


def _service(table: _Table) -> Service:
    requests, initial = table.data.get("requests"), table.data.get("initial")
    if not isinstance(requests, dict) or not isinstance(initial, dict):
        raise ValueError("service : il faut les tables « requests » et « initial »")
    service = Service(
        {str(name): _request(str(text)) for name, text in requests.items()},
        _seats(initial),
        table.text("accepted", ""),
        table.text("refused", ""),
        table.text("seats", ""),
        table.text("file", ""),
    )
    for name in ("accepted", "refused", "seats"):
        re.compile(getattr(service, name))
    if not service.accepted or not service.refused:
        raise ValueError("service : il manque « accepted » ou « refused »")
    table.done({"requests", "initial"})
    return service


def _seats(initial: Mapping[str, Any]) -> dict[int, int]:
    try:
        return {int(show): int(seats) for show, seats in initial.items()}
    except (TypeError, ValueError):
        raise ValueError("service.initial : des places par numéro de spectacle, par exemple { 5 = 1 }") from None


class _Table:
    """A table of a TOML file: each value of the kind that is wanted, and nothing that nobody knows."""

    def __init__(self, data: Any, name: str) -> None:
        if not isinstance(data, dict):
            raise ValueError(f"{name} : une table est attendue")
        self.data: dict[str, Any] = data
        self.name = name
        self._asked: set[str] = set()

    def _get(self, key: str, kind: type, default: Any, said: str) -> Any:
        self._asked.add(key)
        value = self.data.get(key, default)
        if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise ValueError(f"{self._where(key)} : {said} est attendu")
        return value

    def _where(self, key: str) -> str:
        return f"{self.name} : {key}" if self.name else key

    def text(self, key: str, default: str) -> str:
        """Return a string."""
        return str(self._get(key, str, default, "un texte"))

    def number(self, key: str) -> int | None:
        """Return a whole number, None where there is none."""
        found: int | None = self._get(key, int, None, "un nombre entier")
        return found

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        return bool(self._get(key, bool, default, "true ou false"))

    def texts(self, key: str) -> list[str]:
        """Return a list of strings."""
        found = self._get(key, list, [], "une liste de textes")
        if not all(isinstance(one, str) for one in found):
            raise ValueError(f"{self._where(key)} : une liste de textes est attendue")
        return list(found)

    def tables(self, key: str) -> list[Any]:
        """Return a list of tables."""
        return list(self._get(key, list, [], "une liste de tables"))

    def done(self, others: set[str]) -> None:
        """Refuse what was never asked for."""
        if unknown := sorted(set(self.data) - self._asked - others):
            raise ValueError(f"{self._where(unknown[0])} : entrée inconnue")
