"""The profile of one of the five questions, ours or the C reference's: asked as anybody's program is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectacles.lab.dossier.profile import Item, Profile
from spectacles.lab.programs import questions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spectacles.lab.programs.questions import Question


def profile(question: Question, seats: Mapping[int, int], *, timeout: float = 5.0) -> Profile:
    """Return it. seats: of each show in the table. timeout: seconds for which a client waits for an answer."""
    return Profile(
        name=f"{question.name}{' en C' if question.in_c else ''}",
        server=tuple(question.server()),
        server_env=question.env,
        client=tuple(question.client("--timeout", f"{timeout:g}", json=True)),
        client_env=question.env,
        style="arguments",
        consult=("consult", "{item}"),
        reserve=("reserve", "{item}", "{seats}"),
        left=questions.LEFT,
        yes=questions.ACCEPTED,
        no=questions.REFUSED,
        items=tuple(Item(str(show), there) for show, there in seats.items()),
        clients=1 if question.name == "q1_pipes" else 0,
        question=int(question.name[1]),
    )
