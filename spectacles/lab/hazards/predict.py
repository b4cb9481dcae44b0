"""What will happen? Asked before, remembered, compared after: whoever has said what he expects sees what he did not."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.display import terminal
from spectacles.lab.hazards.hazard import Hazard
from spectacles.lab.hazards.view import STUCK, Scene

if TYPE_CHECKING:
    from rich.console import Console

PLACES = "les places"  # what is left of them, where that is not the same
NAMES = {"broken": "le programme cassé", "sound": "le programme sain"}


@dataclass(frozen=True)
class Guess:
    """What somebody expects of one program."""

    program: str
    which: str
    answer: str
    truth: str


def ask(screen: Console, hazard: Hazard, *scenes: Scene) -> list[Guess]:
    """Ask how each program that the hazard is about will end, and what is left of the seats where that differs.

    No answers without a terminal, nor after Ctrl-D.
    """
    guesses: list[Guess] = []
    if not sys.stdin.isatty():
        return guesses
    named = [
        set(scene.hazard.signatures[scene.which].said) | set(hazard.signatures[scene.which].waits) for scene in scenes
    ]
    subjects: list[tuple[str, str, Callable[[Scene], str]]] = [
        (program, f"comment finira {program} ?", functools.partial(Scene.ending, name=program))
        for program in sorted(set.union(*named))
    ]
    if len({scene.outcome.seats for scene in scenes}) > 1:
        subjects.append((PLACES, "que restera-t-il des places ?", lambda scene: str(list(scene.outcome.seats))))
    for subject, question, truth in subjects:
        choices = sorted({truth(scene) for scene in scenes} | ({STUCK} if subject != PLACES else set()))
        for scene in scenes:
            terminal.say(screen, f"Dans {NAMES[scene.which]}, {question}", "bold")
            for number, choice in enumerate(choices, 1):
                screen.print(f"   {number}. {choice}", markup=False)
            answer = _choice(choices)
            if answer is None:
                return guesses
            guesses.append(Guess(subject, scene.which, answer, truth(scene)))
    screen.print()
    return guesses


def _choice(choices: list[str]) -> str | None:
    while True:
        try:
            text = input("   votre avis : ").strip()
        except EOFError:
            print()
            return None
        if text.isdecimal() and 1 <= int(text) <= len(choices):
            return choices[int(text) - 1]
        print(f"   un nombre, de 1 à {len(choices)}")


def compare(screen: Console, guesses: list[Guess]) -> None:
    """Say which guesses were right."""
    for guess in guesses:
        who = f"{guess.program}, dans {NAMES[guess.which]}"
        if guess.answer == guess.truth:
            terminal.say(screen, f"✓ {who} : « {guess.truth} », comme vous l'aviez dit.", "green")
        else:
            terminal.say(screen, f"✗ {who} : « {guess.truth} », et non « {guess.answer} ».", "yellow")
    if guesses:
        right = sum(guess.answer == guess.truth for guess in guesses)
        terminal.say(screen, f"{right} sur {len(guesses)}.")
