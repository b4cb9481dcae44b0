"""Profiles: what is written is read again, and what cannot be used is refused in one line that says where."""

from __future__ import annotations

import dataclasses

import pytest

from spectacles.lab.dossier import profile as profiles
from spectacles.lab.dossier.profile import EXPECTATIONS, Channel, Item, Profile, ProfileError

WHOLE = Profile(
    name="guichet « d'essai »",
    build=("make all",),
    files=("clef.txt",),
    server=("./serveur", "5 10"),
    server_env={"PORT": "5000"},
    server_lines=("10", "20"),
    stop="line",
    stop_lines=("q", ""),
    client=("./client", "{pid}"),
    style="once",
    login=("{client}", "1234"),
    consult=("1", "{item}"),
    reserve=("2", "{item}", "{seats}"),
    quit=("0",),
    reads=r"numéro (\d+)",
    left=r"^\[{item}\].*?(-?\d+) places",
    yes=r"Réservation OK \(\d+\)",
    no='dit "non"',
    items=(Item("0", 120), Item("Carmen", None)),
    clients=3,
    slow=1.5,
    expect={name: name != "durable" for name in EXPECTATIONS},
    points={"29": 2, "22": 0.5},
    channel=Channel("queue", ("queue 0x0000002a",), {"client msgsnd queue": (8, 16)}),
    question=2,
)


def test_what_is_written_is_read_again() -> None:
    """Every field, with quotes, backslashes and accents. (Seen to fail: with _toml() writing names as they are.)"""
    assert profiles.parse(profiles.dump(WHOLE)) == WHOLE
    bare = profiles.parse(profiles.dump(Profile(server=("./s",))))
    assert dataclasses.replace(bare, expect={}) == Profile(server=("./s",))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[server]\ncommand = [", "à la fin", "TOML"),
        ("[server\n", "ligne 1", "crochet"),
        ('[server]\ncommand = ["./s"]\n[client]\nstylo = "menu"', "ligne 4", "« stylo » n'est pas connu"),
        ('question = 9\n[server]\ncommand = ["./s"]', "ligne 1", "1 à 5"),
        ('question = "deux"\n[server]\ncommand = ["./s"]', "ligne 1", "nombre entier"),
        ('[server]\ncommand = ["./s"]\nstop = "plus"', "ligne 3", "ctrl-c"),
        ('[server]\ncommand = ["./s"]\n[answers]\nleft = "("', "ligne 4", "mal formée"),
        ('[server]\ncommand = ["./s"]\n[answers]\nleft = "places"', "ligne 4", "un groupe"),
        ('[server]\ncommand = ["./s"]\n[client]\nreads = "compte"', "ligne 4", "un groupe"),
        ('[server]\ncommand = ["./s"]\n[expect]\nvite = true', "ligne 4", "« vite »"),
        ('[server]\ncommand = ["./s"]\n[expect]\ndurable = 1', "ligne 4", "true ou false"),
        ('[server]\ncommand = ["./s"]\n[points]\n41 = 1', "ligne 4", "1 à 40"),
        ('[server]\ncommand = ["./s"]\n[items]\nCarmen = "douze"', "ligne 4", "nombre de places"),
        ('[server]\ncommand = ["./s"]\n[limits]\nclients = -1', "ligne 4", "négatif"),
        ('[client]\ncommand = ["./c"]', "", "commande du serveur"),
        ("serveur = 1", "ligne 1", "« serveur » n'est pas connu"),
        ('server = "./s"', "ligne 1", "table"),
    ],
)
def test_a_broken_profile_says_where(text: str, line: str, words: str) -> None:
    """In one line. (Seen to fail: with the line of the section told in the place of the key's.)"""
    with pytest.raises(ProfileError) as refused:
        profiles.parse(text, "f.toml")
    said = str(refused.value)
    assert said.startswith("f.toml")
    assert "\n" not in said
    assert line in said
    assert words in said, said


def test_words_are_filled_in() -> None:
    """{item} and its like are replaced, other braces stay; in patterns an item means itself."""
    assert profiles.fill(("{item}", "x{seats}", "{autre}"), item="3", seats=2) == ["3", "x2", "{autre}"]
    found = profiles.pattern(r"^{item} : (\d+)", "a.b").search("axb : 1\na.b : 2")
    assert found is not None
    assert found[1] == "2"
