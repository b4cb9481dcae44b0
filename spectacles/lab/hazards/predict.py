"""What will happen? Asked before, remembered, compared after: whoever has said what he expects sees what he did not."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.display import terminal
from spectacles.lab.hazards.hazard import Hazard
from spectacles.lab.hazards.view import STUCK, Scene

if TYPE_CHECKING:
    from rich.console import Console

NAMES = {"broken": "le programme cassé", "sound": "le programme sain"}


@dataclass(frozen=True)
class Guess:
    """What somebody expects of one program."""

    program: str
    which: str
    answer: str
    truth: str


def ask(screen: Console, hazard: Hazard, *scenes: Scene) -> list[Guess]:
    """Ask how each program that the hazard is about will end. No answers without a terminal, nor after Ctrl-D."""
    guesses: list[Guess] = []
    if not sys.stdin.isatty():
        return guesses
    named = [
        set(scene.hazard.signatures[scene.which].said) | set(hazard.signatures[scene.which].waits) for scene in scenes
    ]
    for program in sorted(set.union(*named)):
        choices = sorted({STUCK, *(scene.ending(program) for scene in scenes)})
        for scene in scenes:
            terminal.say(screen, f"Dans {NAMES[scene.which]}, comment finira {program} ?", "bold")
            for number, choice in enumerate(choices, 1):
                screen.print(f"   {number}. {choice}", markup=False)
            answer = _choice(choices)
            if answer is None:
                return guesses
            guesses.append(Guess(program, scene.which, answer, scene.ending(program)))
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
