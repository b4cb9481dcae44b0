"""A counter-example of the judge, as a run: a lane for every client, and one for the desk that could not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectacles.lab.record.model import Action, Lane, LaneKind, Run, Step

if TYPE_CHECKING:
    from spectacles.lab.judge.linearizability import Counterexample, Operation

DESK = "guichet"


def run(example: Counterexample) -> Run:
    """Return the run of a counter-example: each operation from when it was asked to when it was answered.

    The rows are in the order of the clients' clock; what the desk did in between nobody saw.
    """
    moments = sorted(
        [(op.call, 1, place) for place, op in enumerate(example.operations)]
        + [(op.ret, 0, place) for place, op in enumerate(example.operations) if op.ret is not None]
    )
    seqs = {(place, kind): seq for seq, (_, kind, place) in enumerate(moments, 1)}
    start = moments[0][0] if moments else 0
    steps = []
    for place, op in enumerate(example.operations):
        client = str(op.client)
        called = (op.call - start) / 1e9
        until = seqs.get((place, 0), 0)
        ended = called if op.ret is None else (op.ret - start) / 1e9
        ended = max(ended, called)
        last = (moments[-1][0] - start) / 1e9
        steps.append(
            Step(
                seq=seqs[place, 1],
                until=until,
                time=called,
                ended=ended if until else last,
                task=client,
                action=Action.WAIT,
                object=DESK,
                call="réservation" if op.kind == "reserve" else "consultation",
                words=_words(op),
                detail={"spectacle": op.show, "places": op.seats, "réponse": op.result},
                blocked=True,
            )
        )
    clients = dict.fromkeys(str(op.client) for op in example.operations)
    born = {client: min(step.seq for step in steps if step.task == client) for client in clients}
    label = {client: f"client {client}" if client.isdigit() else client for client in clients}
    lanes = [Lane(client, LaneKind.PROCESS, label[client], born=born[client]) for client in clients]
    lanes.append(Lane(DESK, LaneKind.OTHER, f"guichet, spectacle {example.show}", born=1))
    title = f"spectacle {example.show} : ce qu'aucun ordre n'explique"
    steps.sort(key=lambda step: step.seq)
    end = len(moments) + 1
    told = " ".join(example.explain()[example.explain().rfind("\nAucun ") :].split())
    last = (moments[-1][0] - start) / 1e9 if moments else 0.0
    steps.append(Step(end, end, last, last, "", Action.NOTE, words=told))
    return Run(title, tuple(lanes), tuple(steps), (), (), {"contre-exemple": example.explain()})


def _words(op: Operation) -> str:
    if op.kind == "consult":
        return "consulte" if op.result is None else f"consulte : il reste {op.result}"
    asked = f"demande {op.seats} place{'s' if op.seats > 1 else ''}"
    return asked + ("" if op.result is None else " : accepté" if op.result else " : refusé")
