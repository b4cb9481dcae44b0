"""Shapes of dialogue that students write, each with a small sound program of ours: learnt without a profile.

The numbers are those of the box office in shapes/guichet.py. Every one was seen to fail with its mechanism off; which
one that is stands beside it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from spectacles.lab.dossier import building, learning
from spectacles.lab.dossier.profile import Profile

SHAPES = Path(__file__).with_name("shapes")


@dataclass(frozen=True)
class Shape:
    """A client, its server, and what is to be learnt. off: with what off it was seen to fail."""

    client: str
    off: str
    consult: tuple[str, ...]
    reserve: tuple[str, ...]
    server: str = "serveur"
    style: str = "menu"
    login: tuple[str, ...] = ()
    seats: int | None = 40  # of the show that was tried
    more: tuple[str, ...] = ()  # arguments of the client
    lines: tuple[str, ...] = ()  # typed to the server


WHOLE = (
    Shape(
        "comptes",
        "_to_menu() without `told`: the number stays unread",
        ("1",),
        ("2", "{item}", "{seats}"),
        login=("2", "{client}{run}", "1234", "1", "{read}", "1234"),
    ),
    Shape(
        "sous_menus",
        "at_menu() that looks at the prompt alone: two menus with one prompt are taken for one",
        ("a", "2"),
        ("b", "{item}", "{seats}", "o", "2"),
        login=("2",),
    ),
    Shape("commandes", "_kind() without commands", ("LISTE",), ("RESERVER {item} {seats}",)),
    Shape(
        "formulaire",
        "_by_reserving() empty: nobody can be asked what is left",
        ("{client}{run}", "{item}", "0"),
        ("{client}{run}", "{item}", "{seats}"),
        style="once",
    ),
    Shape("plan", "hints._maps() empty", ("1",), ("2", "{seat1}", "{seat2}"), seats=24),
    Shape("retard", "_follow() without the empty line", ("1", ""), ("2", "{item}", "{seats}", ""), seats=25),
    Shape(
        "options",
        "starting.arguments() empty",
        ("1",),
        ("2", "{item}", "{seats}"),
        server="serveur_arguments",
        more=("127.0.0.1", "5000"),
        seats=None,
    ),
    Shape(
        "sous_menus",
        "starting._answer() that types nothing",
        ("a", "2"),
        ("b", "{item}", "{seats}", "o", "2"),
        server="serveur_questions",
        login=("2",),
        lines=("5", "5"),
        seats=None,
    ),
)


def learnt(shape: Shape, folder: Path) -> Profile:
    """Hand a shape in, build it, learn it."""
    source, into = folder / "remise", folder / "construit"
    source.mkdir()
    into.mkdir()
    folder.chmod(0o755)
    for name in ("guichet", "poste"):
        shutil.copy(SHAPES / f"{name}.py", source)
    shutil.copy(SHAPES / f"{shape.server}.py", source / "serveur.py")
    shutil.copy(SHAPES / f"{shape.client}.py", source / "client.py")
    return learning.learn(building.build(source, into))


@pytest.mark.parametrize("shape", WHOLE, ids=[f"{one.client}-{one.server}" for one in WHOLE])
def test_a_shape_is_learnt(shape: Shape, tmp_path: Path) -> None:
    """Who serves and how it is started, what is typed, what is left. (Seen to fail: see Shape.off.)"""
    profile = learnt(shape, tmp_path)
    assert profile.talks, profile
    assert (profile.server[:2], profile.client) == (("python3", "serveur.py"), ("python3", "client.py", *shape.more))
    assert profile.server_lines == shape.lines
    assert (profile.style, profile.login) == (shape.style, shape.login)
    assert (profile.consult, profile.reserve) == (shape.consult, shape.reserve)
    if shape.seats is not None:
        assert shape.seats in [item.seats for item in profile.items]
