"""The five questions as programs to be started: what is typed for a server and a client, ours or the C reference's.

Both are run in a folder that has been prepared; whoever runs them adds what else they are told.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common.storage import FILE_NAME
from spectacles.lab.programs import reference
from spectacles.lab.programs.world import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a client prints in JSON: regular expressions; of LEFT, the group is the number of seats.
ACCEPTED, REFUSED, LEFT = r'"ack": ?true', r'"ack": ?false', r'"places": ?(-?\d+)'


@dataclass(frozen=True)
class Question:
    """One of the ten servers, and its clients. name: "q2_msq". options: of both, where they find each other.

    asking: those of the client, the folder included, where they are others. python: what runs a module of ours. Command
    lines are for the prepared folder as the current one.
    """

    name: str
    in_c: bool = False
    options: tuple[str, ...] = ()
    python: tuple[str, ...] = (sys.executable, "-m")
    asking: tuple[str, ...] | None = None

    @property
    def env(self) -> Mapping[str, str]:
        """What must stand in the environment of both."""
        return {} if self.in_c else {"PYTHONPATH": str(ROOT)}

    def server(self, module: str = "") -> list[str]:
        """Return the command of the server. module: of another one in its place, ours alone."""
        own = [f"./{reference.server_name(self.name)}"]
        return [
            *(own if self.in_c else [*self.python, module or f"spectacles.{self.name}.server"]),
            "--dir",
            ".",
            *self.options,
        ]

    def client(self, *words: str, json: bool = False) -> list[str]:
        """Return the command of a client: of its menu, or of the request in `words`, and of more options there.

        json: whether a request is answered in JSON; the reference always does.
        """
        if self.in_c:
            own = [f"./{reference.CLIENTS[self.name]}"]
        else:
            own = [*self.python, f"spectacles.{self.name}.client", *(["--json"] if json else [])]
        options = ("--dir", ".", *self.options) if self.asking is None else self.asking
        return [*own, *options, *words]

    def prepare(self, folder: str | Path, table: bytes) -> None:
        """Put the table, and what is in C, compiled, into a folder. Blocks, about a second. Raises SpectaclesError."""
        Path(folder, FILE_NAME).write_bytes(table)
        if self.in_c:
            reference.build(folder, [self.name])
