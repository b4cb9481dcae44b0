"""The client for scripts: one answer and an exit code, the same in every question."""

from __future__ import annotations

from tests import helpers


def test_reserve(server: helpers.Servers, question: str) -> None:
    guichet = server(question)
    done = guichet.client("reserve", "0", "2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Réservation OK\n", "")
    assert helpers.places_in_file(guichet.directory, 0) == 118
