"""Layer A: what shows with the start commands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectacles.lab.check.model import Outcome, defect, ok
from spectacles.lab.check.registry import check
from spectacles.lab.dossier.driving import describe, ending

if TYPE_CHECKING:
    from spectacles.lab.check.case import Case


@check("ctrl-c", finds=(34,), layer="A", does="tape Ctrl-C au terminal du serveur, qui doit finir", rank=10)
def ctrl_c(case: Case) -> Outcome:
    """Ctrl-C reaches the whole group of the terminal; the server ends, and not by a crash."""
    with case.bench() as bench:
        server = bench.serve()
        done = "démarrer le serveur, puis taper Ctrl-C dans son terminal"
        server.send(b"\x03")
        if not bench.until(lambda: server.code is not None):
            return defect(
                34,
                "Le serveur ne s'arrête pas quand on tape Ctrl-C.",
                done=done,
                expected="il finit",
                seen=f"{case.patience:.1f} s après, il est encore là : {describe(bench.server_tasks())}",
            )
        if server.code in (-11, -6, -8, -7, -4):
            return defect(
                34,
                "Le serveur plante quand on tape Ctrl-C.",
                done=done,
                expected="il finit, de lui-même ou par SIGINT",
                seen=ending(server),
            )
        return ok(f"il finit : {ending(server)}", done=done)
