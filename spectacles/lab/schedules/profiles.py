"""A scenario from what is known of somebody's program: how it is started, spoken to, and how its answers read.

Two clients ask for more together than there is, at the same time; then one who looks at what is left.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Protocol

from spectacles.lab.schedules.scenario import Actor, Scenario, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CLIENTS = ("A", "B")
LOOKER = "bilan"
NEVER = "(?!)"  # a pattern of what nobody prints


class Item(Protocol):
    """Something that can be reserved."""

    @property
    def typed(self) -> str: ...

    @property
    def seats(self) -> int | None: ...


class Profile(Protocol):
    """What a profile of the dossier says, as far as it is needed here; the words may hold {item} and {seats}."""

    @property
    def name(self) -> str: ...

    @property
    def server(self) -> Sequence[str]: ...

    @property
    def server_folder(self) -> str: ...

    @property
    def server_env(self) -> Mapping[str, str]: ...

    @property
    def server_lines(self) -> Sequence[str]: ...

    @property
    def client(self) -> Sequence[str]: ...

    @property
    def client_folder(self) -> str: ...

    @property
    def client_env(self) -> Mapping[str, str]: ...

    @property
    def style(self) -> str: ...

    @property
    def login(self) -> Sequence[str]: ...

    @property
    def consult(self) -> Sequence[str]: ...

    @property
    def reserve(self) -> Sequence[str]: ...

    @property
    def quit(self) -> Sequence[str]: ...

    @property
    def left(self) -> str: ...

    @property
    def yes(self) -> str: ...

    @property
    def no(self) -> str: ...

    @property
    def answers_file(self) -> str: ...

    @property
    def items(self) -> Sequence[Item]: ...

    @property
    def most_seats(self) -> int: ...


def of_profile(profile: Profile, folder: str, *, accesses: bool = True, refusals: bool = True) -> Scenario:
    """Return the scenario of a program that lies, built, in `folder`. Commands are run there.

    refusals: whether a refusal must have a reason; False for programs that may refuse whoever comes at a bad moment.
    Raises ValueError where the profile does not say how its clients are spoken to, or how many seats there are.
    """
    if profile.answers_file:
        raise ValueError(f"les réponses sont dans {profile.answers_file}, pas à l'écran : elles ne se suivent pas ici")
    if "{pid}" in " ".join((*profile.client, *profile.login, *profile.reserve)):
        raise ValueError("le client prend le PID du serveur, qui n'est pas connu d'avance")
    item = next((one for one in profile.items if one.seats), None)
    if item is None or not (profile.client and profile.reserve and profile.yes and (profile.no or not refusals)):
        raise ValueError(
            "le profil ne dit pas comment réserver, ou combien de places il y a : rien à explorer à deux clients"
        )
    there = item.seats or 0
    wanted = there // 2 + 1 if "{seats}" in " ".join(profile.reserve) else 1
    wanted = min(wanted, profile.most_seats) if profile.most_seats else wanted
    actors = []
    if profile.server:
        command = tuple(_fill(profile.server, {"dir": os.path.relpath(".", profile.server_folder)}))
        lines, env, within = tuple(profile.server_lines), profile.server_env, profile.server_folder
        actors.append(Actor("server", command, lines, stays=True, env=env, folder=within))
    operations: dict[str, tuple[str, ...]] = {}
    for name in CLIENTS:
        actors.append(_client(profile, name, profile.reserve, {"item": item.typed, "seats": wanted, "client": name}))
        operations[name] = ("reserve", "0", str(wanted))
    if profile.consult and profile.left:
        actors.append(_client(profile, LOOKER, profile.consult, {"item": item.typed, "client": LOOKER}, last=True))
        operations[LOOKER] = ("consult", "0")
    left = profile.left.replace("{item}", re.escape(item.typed))
    seen = left if LOOKER in operations else ""
    service = Service(operations, {0: there}, profile.yes, profile.no or NEVER, seen, "", refusals)
    title = re.sub(r"[^\w-]", "-", profile.name, flags=re.ASCII).strip("-") or "profil"
    return Scenario(title, tuple(actors), folder, service=service, accesses=accesses)


def _client(
    profile: Profile, name: str, request: Sequence[str], values: Mapping[str, object], *, last: bool = False
) -> Actor:
    values = {"dir": os.path.relpath(".", profile.client_folder), **values}
    words = _fill(profile.client, values)
    typed: list[str] = []
    if profile.style == "arguments":
        words += _fill(request, values)
    else:
        typed = _fill((*profile.login, *request, *profile.quit), values)
    return Actor(
        name, tuple(words), tuple(typed), env=profile.client_env, code=None, last=last, folder=profile.client_folder
    )


def _fill(words: Sequence[str], values: Mapping[str, object]) -> list[str]:
    known = {"python": sys.executable, **values}
    return [re.sub(r"\{(\w+)\}", lambda found: str(known.get(found[1], found[0])), word) for word in words]
