"""What a server asks of etcd: the table as it is, and a change on the condition that it still is so.

etcd keeps keys on several machines, which agree on every change by majority (Raft), and counts the changes: each key
carries the revision of its last one. Spoken to here by its HTTP gateway, JSON with keys and values in base64, with what
the standard library has: four requests do not deserve a binding, which would bring nine packages with it.

    PREFIX show/0 ... show/9           the records of the table, 72 bytes each, as in spectacles.dat
    PREFIX mark/IDENTITY/0 ... 9       the number of the last change of a show that one server has made

A change whose answer got lost may have been made, or may be yet. So each change of a show also writes the mark of
whoever makes it, both or neither: reading the mark says which of his changes of this show was the last that was made.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import socket
from typing import NamedTuple

from spectacles.common import log
from spectacles.common.errors import SpectaclesError, reason
from spectacles.common.spectacle import MAX_SPECTACLE, RECORD_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    Reply = TypeVar("Reply")

DEFAULT_PREFIX = "spectacles/"
ANSWER = 1.0  # seconds that a member gets to answer, before the next one is asked: an election takes about as long
_EMPTY = bytes(RECORD_SIZE)
_HEADERS = {"Content-Type": "application/json"}
_FRENCH = (  # what etcd says, by words in it
    ("no leader", "pas de chef : la majorité ne se voit pas"),
    ("leader changed", "le chef a changé"),
    ("timed out", "pas de réponse de la majorité"),
    ("space exceeded", "plus de place dans la base (--quota-backend-bytes ; après ménage : etcdctl alarm disarm)"),
    ("permission denied", "accès refusé"),
    ("user name is empty", "un utilisateur est exigé, ce que ce serveur n'a pas"),
    ("too many requests", "trop de demandes"),
    ("server stopped", "il s'arrête"),
    ("not found", "une version d'etcd sans /v3 : il faut 3.4 ou plus"),
    ("bad certificate", "un certificat est exigé : --etcd-cert, --etcd-key"),
    ("HTTP request to an HTTPS", "ce membre attend TLS : --etcd-ca"),
)


class UnavailableError(SpectaclesError):
    """etcd has not answered: no majority, nobody there, too late. What was asked may have been done, or may be yet."""


class Cluster(NamedTuple):
    """Where etcd is. places: of its members, the nearest first. prefix: of all keys. context: of TLS, None for none."""

    places: list[str]
    prefix: str
    context: ssl.SSLContext | None


class Kept(NamedTuple):
    """A show as etcd held it at one instant.

    record: 72 bytes. revision: of its last change, 0 if it was never written. mark: the number of the last change of it
    that whoever asks has made, "" for none.
    """

    record: bytes
    revision: int
    mark: str


class Change(NamedTuple):
    """What is to become of a show. basis: as it has to be still. record, mark: to write then; None, "": nothing."""

    basis: Kept
    record: bytes | None
    mark: str


def places(text: str) -> list[str]:
    """Convert "HOST:PORT,..." to a list, for argparse; a path (with a slash in it) is a UNIX socket."""
    found = []
    for place in text.split(","):
        plain = re.sub(r"^https?://", "", place.strip()).removesuffix("/") if "://" in place else place.strip()
        host, _, port = plain.rpartition(":")
        if "/" not in plain and not (host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise argparse.ArgumentTypeError(f"« {place} » : HÔTE:PORT est attendu, plusieurs séparés par des virgules")
        found.append(plain)
    return found


class Etcd:
    """A conversation with etcd, by whichever of its members answers; for one thread at a time.

    cluster: the first of its places is asked as long as it answers. identity: of the marks. Every method blocks, ANSWER
    seconds at most, or a little longer if names have to be looked up, and raises UnavailableError; the next one then
    asks the next member.
    """

    def __init__(self, cluster: Cluster, identity: str) -> None:
        self._places, prefix, self._context = cluster
        self._current = 0
        self._heard = False  # of anybody, ever: until then a cut says something about how to speak
        self._lost = False  # since then: said once
        self._connection: http.client.HTTPConnection | None = None
        self._shows = [f"{prefix}show/{slot}" for slot in range(MAX_SPECTACLE)]
        self._marks = [f"{prefix}mark/{identity}/{slot}" for slot in range(MAX_SPECTACLE)]
        # etcd (3.4) weighs what a transaction writes itself, not what those within it write: without this its limit of
        # space would let everything pass, until the disk is full.
        self._weight = _put(f"{prefix}mark/{identity}/weight", b"1")
        self._keys = list(zip(self._shows, self._marks, strict=True))
        self._all_shows = _all(f"{prefix}show/")
        self._all_marks = _all(f"{prefix}mark/{identity}/")

    def table(self, *, stale: bool) -> bytes:
        """Return the table as it was at one instant of this call; with `stale`, as the member asked knows it."""
        request = {**self._all_shows, "serializable": stale}
        return self._ask("range", request, lambda reply: b"".join(kept.record for kept in self._kept(reply, {})))

    def look(self) -> list[Kept]:
        """Return the ten shows as they were at one instant of this call."""
        both = [{"request_range": self._all_shows}, {"request_range": self._all_marks}]
        return self._ask("txn", {"success": both}, lambda reply: self._kept(*_ranges(reply)))

    def change(self, changes: Mapping[int, Change]) -> dict[int, tuple[Kept, bool]]:
        """Make those of the `changes` (by slot) whose show is still as its basis, all in one transaction.

        Returns of each what there is now, and whether it was made (or, with nothing to write, still so).
        UnavailableError leaves open which were, and which may be yet: each as long as its show stays as its basis.
        """
        steps = [self._weight, *({"request_txn": self._step(slot, change)} for slot, change in changes.items())]

        def outcome(reply: dict[str, Any]) -> dict[int, tuple[Kept, bool]]:
            now = int(reply["header"]["revision"])
            done = (one["response_txn"] for one in reply["responses"][1:])
            return {
                slot: self._after(slot, change, one, now)
                for (slot, change), one in zip(changes.items(), done, strict=True)
            }

        return self._ask("txn", {"success": steps}, outcome)

    def replace(self, known: Sequence[Kept], table: bytes) -> bool:
        """Write all of `table`, if every show is still as `known`; return whether. UnavailableError leaves it open."""
        compare = [_unchanged(key, kept.revision) for key, kept in zip(self._shows, known, strict=True)]
        records = (table[at : at + RECORD_SIZE] for at in range(0, len(table), RECORD_SIZE))
        put = [_put(key, record) for key, record in zip(self._shows, records, strict=True)]
        return self._ask("txn", {"compare": compare, "success": put}, lambda reply: bool(reply.get("succeeded")))

    def forget(self) -> None:
        """Remove the marks of this identity."""
        self._ask("deleterange", self._all_marks, dict)

    def _step(self, slot: int, change: Change) -> dict[str, object]:
        show, mark = self._shows[slot], self._marks[slot]
        put = [] if change.record is None else [_put(show, change.record), _put(mark, change.mark.encode())]
        look = [{"request_range": {"key": _base64(key)}} for key in (show, mark)]
        return {"compare": [_unchanged(show, change.basis.revision)], "success": put, "failure": look}

    def _after(self, slot: int, change: Change, reply: dict[str, Any], now: int) -> tuple[Kept, bool]:
        if not reply.get("succeeded"):
            return self._kept(*_ranges(reply))[slot], False
        return (change.basis if change.record is None else Kept(change.record, now, change.mark)), True

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, what: str, request: object, read: Callable[[dict[str, Any]], Reply]) -> Reply:
        place = self._places[self._current]
        try:
            if self._connection is None:
                self._connection = _connection(place, self._context)
            self._connection.request("POST", f"/v3/kv/{what}", json.dumps(request), _HEADERS)
            response = self._connection.getresponse()
            text = response.read()
            if response.status == http.client.OK:
                reply = read(json.loads(text))
                if self._lost:
                    log.warning("[INFO] etcd répond de nouveau, par %s", place)
                self._heard, self._lost = True, False
                return reply
            problem = _problem(response.status, text.decode("utf-8", "replace"))
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
            problem = self._explain(error)
        self.close()
        self._current = (self._current + 1) % len(self._places)
        if self._heard and not self._lost:
            self._lost = True
            log.warning("[INFO] etcd, %s : %s ; je m'adresse au membre suivant", place, problem)
        raise UnavailableError(f"etcd {place} : {problem}")

    def _explain(self, error: Exception) -> str:
        if self._context is not None:
            from spectacles.q5_sockets import tls

            guess = " : exige-t-il un certificat (--etcd-cert) ?" if not self._heard and tls.is_end(error) else ""
            return tls.explain(error, tls.SERVER) + guess
        if isinstance(error, TimeoutError):
            return f"pas de réponse en {ANSWER:g} s"
        if isinstance(error, OSError):  # RemoteDisconnected too
            guess = "" if self._heard else " : attend-il TLS (--etcd-ca) ?"
            return reason(error) if error.errno else f"connexion coupée{guess}"
        return "ce n'est pas etcd qui répond"

    def _kept(self, shows: dict[str, Any], marks: dict[str, Any]) -> list[Kept]:
        found = {one["key"]: one for one in [*shows.get("kvs", []), *marks.get("kvs", [])]}
        return [self._one(key, found.get(_base64(key), {}), found.get(_base64(mark), {})) for key, mark in self._keys]

    def _one(self, key: str, show: dict[str, Any], mark: dict[str, Any]) -> Kept:
        record = base64.b64decode(show.get("value", "")) if show else _EMPTY
        if len(record) != RECORD_SIZE:
            raise SpectaclesError(
                f"etcd, clef {key} : {len(record)} octets au lieu de {RECORD_SIZE} ; choisissez un autre --etcd-prefix"
            )
        number = base64.b64decode(mark.get("value", "")).decode("ascii", "replace")
        return Kept(record, int(show.get("mod_revision", 0)), number)


class _Local(http.client.HTTPConnection):
    """HTTP by the UNIX socket of that path."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER)
        self._path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        folder, name = os.path.split(os.path.abspath(self._path))
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{fd}/{name}")  # 108 bytes at most, unix(7), however deep the folder
        finally:
            os.close(fd)


def _connection(place: str, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if "/" in place:
        return _Local(place)
    host, _, port = place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if context is None:
        return http.client.HTTPConnection(host, int(port), timeout=ANSWER)
    return http.client.HTTPSConnection(host, int(port), timeout=ANSWER, context=context)


def _problem(status: int, text: str) -> str:
    known = next((french for words, french in _FRENCH if words.lower() in text.lower()), None)
    return known or f"refus {status} d'etcd ({text.strip()[:100]})"


def _ranges(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what two ranges of a transaction have found."""
    return [one["response_range"] for one in reply["responses"]]


def _base64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def _all(prefix: str) -> dict[str, str]:
    """Return the range of all keys that begin with `prefix`, which ends with a slash: up to the sign after that."""
    return {"key": _base64(prefix), "range_end": _base64(prefix[:-1] + "0")}


def _unchanged(key: str, revision: int) -> dict[str, object]:
    return {"key": _base64(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision}


def _put(key: str, value: bytes) -> dict[str, object]:
    return {"request_put": {"key": _base64(key), "value": _base64(value)}}
