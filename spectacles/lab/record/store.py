"""A recorded run and its file: JSON lines, written as it happens.

    {"format": "spectacles/run", "version": 1, "when": ..., "commands": {...}, ...}      the head
    {"seq": 1, "time": 0.000031, "task": "serveur", "kind": "birth", ...}                an event of the gate
    {"task": "serveur.2", "named": "consultations"}                                      a task's own name
    {"ready": 164}, {"over": 320}                           what came before was preparation, what came after the end
    {"places": {"serveur+0x26ca": "serveur.c:42"}}                                       lines of source

A recorder that is killed loses at most the line it was writing: such an end is tolerated by load(), and said. All else
that is not as docs/trace.md has it makes the file unusable, in one line that says where.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from spectacles import __version__
from spectacles.common.errors import UsageError, reason
from spectacles.lab.gate.events import Event, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT = "spectacles/run"
VERSION = 1
BYTES = ("data", "buffer")  # arguments that are bytes: in the file, in hexadecimal
NAMED_WITHIN = 40  # calls of a task after its birth by which it has named itself, if it ever will
LONGEST = 1 << 20  # bytes of a line: far more than any event takes

_PLAIN: dict[str, type] = {"task": str, "call": str, "object": str, "errno": str, "of": int, "pid": int, "tid": int}
_DEFAULTS = {one.name: one.default for one in fields(Event)}


@dataclass
class Record:
    """What was recorded. Everything that is drawn is derived from it (derive.py)."""

    head: Mapping[str, Any] = field(default_factory=dict)  # format, version, when, commands, machine, versions
    events: list[Event] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # task -> what it called itself, comm in proc(5)
    places: dict[str, str] = field(default_factory=dict)  # "serveur+0x26ca" -> "serveur.c:42"
    ready: int = 0  # events up to this one are preparation: the server was ready then
    over: int = 0  # events after this one are the end that the recorder brought about; 0: it did not
    torn: bool = False  # the last line was not whole: whoever wrote it was killed
    failed: OSError | None = None  # why its file is not whole, which it names


def head(commands: Mapping[str, Sequence[str]], machine: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the head of a record made now. commands: task -> command line."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "when": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "commands": {task: [str(word) for word in words] for task, words in commands.items()},
        "machine": dict(machine),
        "versions": {"spectacles": __version__, "python": platform.python_version(), "kernel": platform.release()},
        **more,
    }


class Recorder:
    """Takes in the events of a gate as its sink, and writes them to a file as they come. A context manager.

    path: None keeps them in memory alone. Raises OSError, which names the file. A disk that is full later on does not
    stop the run: the record goes on in memory, and its `failed` says so.
    """

    def __init__(self, about: Mapping[str, Any], path: str | None = None) -> None:
        self.record = Record(about)
        self._path = path
        self._file: io.FileIO | None = None
        self._waiting: dict[str, int] = {}  # task -> calls within which it may still name itself

    def __enter__(self) -> Recorder:
        if self._path is not None:
            self._file = io.FileIO(self._path, "w")
        self._write(dict(self.record.head))
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def sink(self, event: Event) -> None:
        """Take in an event: for Gate(sink=...)."""
        self.record.events.append(event)
        self._write(_row(event))
        if event.kind == Kind.BIRTH:
            self._waiting[event.task] = NAMED_WITHIN
        elif event.kind == Kind.CALL and event.task in self._waiting:
            self._learn_name(event)

    def ready(self) -> None:
        """What has been recorded until now was preparation."""
        self.record.ready = self.record.events[-1].seq if self.record.events else 0
        self._write({"ready": self.record.ready})

    def over(self) -> None:
        """What will be recorded from now on is the end that we bring about."""
        self.record.over = self.record.events[-1].seq if self.record.events else 0
        self._write({"over": self.record.over})

    def places(self, found: Mapping[str, str]) -> None:
        """Note the lines of source of places in programs."""
        if found:
            self.record.places.update(found)
            self._write({"places": dict(found)})

    def _learn_name(self, event: Event) -> None:
        """Read what a task calls itself. It inherits its parent's name, and may take another some calls later."""
        self._waiting[event.task] -= 1
        if not self._waiting[event.task]:
            del self._waiting[event.task]
        try:
            with open(f"/proc/{event.tid}/comm", "rb") as file:
                name = os.fsdecode(file.read(64).rstrip(b"\n"))
        except OSError:
            return
        if self.record.names.get(event.task) != name:
            self.record.names[event.task] = name
            self._write({"task": event.task, "named": name})

    def _write(self, row: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        try:
            data = _line(row)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self.record.failed = OSError(error.errno, error.strerror, self._path)
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def save(record: Record, path: str) -> None:
    """Write a record to a file. Raises OSError, which names the file."""
    try:
        with open(path, "wb") as file:
            file.writelines(_line(row) for row in rows(record))
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def lines(record: Record) -> Iterator[str]:
    """Yield the lines of a record's file."""
    for row in rows(record):
        yield _line(row).decode()


def rows(record: Record) -> list[dict[str, Any]]:
    """Return the lines of a record's file."""
    found = [dict(record.head), *map(_row, record.events)]
    found += [{"task": task, "named": name} for task, name in record.names.items()]
    found += [{name: value} for name in ("ready", "over") if (value := getattr(record, name))]
    return found + ([{"places": record.places}] if record.places else [])


def load(path: str) -> Record:
    """Read a record. Raises UsageError: one line that says why it is none, or where it is damaged."""
    record = Record()
    try:
        with open(path, "rb") as file:
            number, raw = 1, file.readline(LONGEST)
            record.head = _head(raw, path)
            while raw := file.readline(LONGEST):
                number += 1
                try:
                    _take(record, raw)
                except (ValueError, TypeError, RecursionError) as error:
                    if not raw.endswith(b"\n") and not file.read(1):
                        record.torn = True
                        break
                    said = _said(error)
                    raise UsageError(f"{path}, ligne {number} : enregistrement abîmé ({said})") from None
    except OSError as error:
        raise UsageError(reason(error) if error.filename else f"{path} : {reason(error)}") from error
    return record


def _said(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "ce n'est pas du JSON"
    return str(error)


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def _row(event: Event) -> dict[str, Any]:
    row = {
        "seq": event.seq,
        "time": round(event.time, 6),
        "task": event.task,
        "kind": str(event.kind),
        "call": event.call,
    }
    for name in ("object", "arguments", "result", "errno", "of", "pid", "tid", "exact"):
        value = getattr(event, name)
        if value and name == "arguments":
            row[name] = {key: one.hex() if isinstance(one, bytes) else one for key, one in value.items()}
        elif name != "arguments" and value != _DEFAULTS[name]:
            row[name] = value
    return row


def _head(raw: bytes, path: str) -> Mapping[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UsageError(f"{path} : ce n'est pas un enregistrement de « spectacles trace »")
    version = found.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise UsageError(f"{path} : version {_short(version)} ; ce programme lit la version {VERSION}")
    for name in ("commands", "machine", "versions"):
        if not isinstance(found.get(name, {}), dict):
            raise UsageError(f"{path}, ligne 1 : enregistrement abîmé ({name} n'est pas un objet)")
    return found


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 20 else f"{text[:20]}…"


def _take(record: Record, raw: bytes) -> None:
    """Take in one line after the head. Raises ValueError, TypeError."""
    row = json.loads(raw)
    if not isinstance(row, dict):
        raise ValueError("pas un objet")
    if "seq" in row:
        record.events.append(_event(row, record.events[-1].seq + 1 if record.events else 1))
    elif "named" in row:
        record.names[_typed(row, "task", str)] = _typed(row, "named", str)
    elif "places" in row:
        places = _typed(row, "places", dict)
        if not all(isinstance(place, str) for place in places.values()):
            raise ValueError("places n'est pas fait de textes")
        record.places.update(places)
    elif "ready" in row:
        record.ready = _typed(row, "ready", int)
    elif "over" in row:
        record.over = _typed(row, "over", int)
    # Anything else: a kind of line that a later program of the same version has added.


def _typed(row: Mapping[str, Any], name: str, kind: type) -> Any:
    value = row.get(name)
    if type(value) is not kind:
        raise ValueError(f"{name} manque" if name not in row else f"{name} : valeur inattendue")
    return value


def _event(row: Mapping[str, Any], expected: int) -> Event:
    if _typed(row, "seq", int) != expected:
        raise ValueError(f"événement {_short(row['seq'])} là où vient le {expected}")
    time = row.get("time")
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e9:
        raise ValueError("time : valeur inattendue")
    kind = _typed(row, "kind", str)
    if kind not in Kind.__members__.values():
        raise ValueError(f"kind : « {_short(kind)} » inconnu")
    found: dict[str, Any] = {name: _typed(row, name, kind) for name, kind in _PLAIN.items() if name in row}
    if not 0 <= found.get("of", 0) < expected:
        raise ValueError("of : un événement qui n'est pas encore venu")
    result = row.get("result")
    if result is not None and type(result) is not int:
        raise ValueError("result : valeur inattendue")
    arguments = {**_typed(row, "arguments", dict)} if "arguments" in row else {}
    for name in BYTES:
        if name in arguments:
            arguments[name] = bytes.fromhex(_typed(arguments, name, str))
    for name in ("type", "size", "offset", "pid", "inside"):
        if type(arguments.get(name, 0)) not in (int, type(None)):
            raise ValueError(f"{name} : valeur inattendue")
    return Event(
        seq=expected,
        time=float(time),
        kind=Kind(kind),
        arguments=arguments,
        result=result,
        exact=row.get("exact", True) is True,
        **{"task": "", "call": "", **found},
    )
