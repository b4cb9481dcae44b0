"""What scripted clients do: `A: list; B: reserve 5 3 & A: reserve 5 99`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spectacles.common.cli import parse_integer
from spectacles.common.errors import UsageError
from spectacles.common.spectacle import INT_MAX

FORMS = "« A: list », « A: consult 5 », « B: reserve 5 3 »"
MOST = 100  # requests
DEFAULT = "A: list; B: reserve 5 3; A: reserve 5 99"
DEFAULT_PIPES = "A: consult 5; A: reserve 5 3; A: reserve 5 99"  # question 1 has one client
DEFAULT_BROKEN = "A: reserve 5 12 & B: reserve 5 12"


@dataclass(frozen=True)
class Request:
    """What one client asks. verb: "list", "consult", "reserve"; numbers: show, then seats."""

    client: str
    verb: str
    numbers: tuple[int, ...]
    text: str
    question: str


def parse(text: str, question: str) -> list[list[Request]]:
    """Return groups of requests, one after the other, those of a group at the same time. Raises UsageError."""
    groups = [[_request(one, question) for one in part.split("&")] for part in text.split(";") if part.strip()]
    if not groups:
        raise UsageError(f"--do : aucune demande ; par exemple {FORMS}")
    if sum(map(len, groups)) > MOST:
        raise UsageError(f"--do : plus de {MOST} demandes")
    clients = list(dict.fromkeys(request.client for group in groups for request in group))
    if question == "q1_pipes" and len(clients) > 1:
        raise UsageError(f"--do : question 1, un seul client à la fois, pas {' et '.join(clients)}")
    for group in groups:
        names = [request.client for request in group]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"--do : {twice} ne peut demander deux choses à la fois (« & »)")
    return groups


def _request(text: str, question: str) -> Request:
    found = re.fullmatch(r"\s*([A-Za-z]\w{0,15})\s*:\s*(\w+)((?:\s+\S+)*)\s*", text)
    if not found:
        raise UsageError(f"--do : « {text.strip()} » n'est pas une demande ; par exemple {FORMS}")
    client, verb, rest = found[1], found[2].lower(), found[3].split()
    wanted = {"list": 0, "consult": 1, "reserve": 2}.get(verb)
    if wanted is None:
        raise UsageError(f"--do : « {verb} » : list, consult ou reserve")
    if client.lower() == "serveur":
        raise UsageError("--do : « serveur » est le serveur ; un autre nom pour ce client")
    if len(rest) != wanted:
        raise UsageError(
            f"--do : « {text.strip()} » : {('aucun nombre', 'un spectacle', 'spectacle et places')[wanted]}"
        )
    numbers = [parse_integer(word) for word in rest]
    for word, number in zip(rest, numbers, strict=True):
        if number is None or not -INT_MAX - 1 <= number <= INT_MAX:
            raise UsageError(f"--do : « {word} » n'est pas un nombre du C")
    if verb == "list" and question == "q1_pipes":
        raise UsageError("--do : question 1, « consult SPECTACLE » au lieu de list : un tube ne porte qu'un nombre")
    return Request(client, verb, tuple(number for number in numbers if number is not None), text.strip(), question)
