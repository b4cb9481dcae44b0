"""Spectacle and its table, as bytes: properties."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectacles.common.spectacle import (
    DATE_SIZE,
    INT_MAX,
    NOM_SIZE,
    RECORD_SIZE,
    REFUSED,
    TABLE_SIZE,
    Spectacle,
    encode_text,
    pack_table,
    unpack_table,
)
from spectacles.common.table import SpectacleTable

INTS = st.integers(-INT_MAX - 1, INT_MAX)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80)


@given(st.text(max_size=120), st.integers(1, 60))
def test_text_is_cut_between_characters(text: str, size: int) -> None:
    """What is kept is the longest start that fits and leaves room for a NUL. (Fails with a cut at bytes.)"""
    kept = encode_text(text, size)
    assert len(kept) < size
    whole = text.encode("utf-8", "replace").decode()
    assert whole.startswith(kept.decode())
    rest = whole[len(kept.decode()) :]
    assert not rest or len(kept) + len(rest[0].encode()) >= size


@given(INTS, TEXTS, TEXTS, INTS)
def test_pack_and_unpack(id_: int, nom: str, date: str, places: int) -> None:
    record = Spectacle(id_, nom, date, places).pack()
    assert len(record) == RECORD_SIZE
    assert record[65:68] == b"\0\0\0"
    assert record[53] == record[64] == 0
    again = Spectacle.unpack(record)
    assert (again.id, again.places) == (id_, places)
    assert nom.startswith(again.nom)
    assert date.startswith(again.date)
    assert again == Spectacle(id_, nom, date, places)
    assert again.pack() == record


@given(st.binary(min_size=RECORD_SIZE, max_size=RECORD_SIZE))
def test_any_72_bytes_are_read(record: bytes) -> None:
    """C leaves anything after a NUL: reading never fails, and keeps what a NUL ends."""
    show = Spectacle.unpack(record)
    assert show.id == int.from_bytes(record[:4], "little", signed=True)
    assert "\0" not in show.nom + show.date
    assert repr(show)


@pytest.mark.parametrize("number", [INT_MAX + 1, -INT_MAX - 2])
def test_beyond_a_c_int(number: int) -> None:
    with pytest.raises(struct.error):
        Spectacle(number, "a", "b", 1).pack()


@given(st.dictionaries(st.integers(0, 9), st.builds(Spectacle, st.integers(1, INT_MAX), TEXTS, TEXTS, INTS)))
def test_table_of_any_shows(shows: dict[int, Spectacle]) -> None:
    table = pack_table(shows)
    assert len(table) == TABLE_SIZE
    assert unpack_table(table) == sorted(shows.items(), key=lambda item: item[0])
    assert NOM_SIZE + DATE_SIZE + 11 == RECORD_SIZE


def test_table_of_another_size() -> None:
    for size in (0, TABLE_SIZE - 1, TABLE_SIZE + 1):
        with pytest.raises(ValueError, match=str(size)):
            unpack_table(bytes(size))


class Memory:
    """A store that keeps the file in memory, and can be told to fail."""

    def __init__(self, table: bytes) -> None:
        self.data = bytearray(table)
        self.broken = False

    def load(self) -> bytes:
        return bytes(self.data)

    def write(self, offset: int, record: bytes) -> int:
        if self.broken:
            self.data[offset : offset + len(record) // 2] = record[: len(record) // 2]
            self.broken = False
            raise OSError(28, "No space left on device")
        self.data[offset : offset + len(record)] = record
        return 1

    def sync(self, ticket: int) -> None:
        pass


SHOWS = {0: Spectacle(1, "a", "b", 5), 3: Spectacle(4, "c", "d", 0), 9: Spectacle(10, "e", "f", INT_MAX)}


@given(
    st.lists(
        st.tuples(st.integers(-2, 12) | INTS, st.integers(-2, 7) | INTS, st.sampled_from([False, False, True])),
        max_size=30,
    )
)
def test_table_against_a_model(requests: list[tuple[int, int, bool]]) -> None:
    """Any requests, some with a write that fails half way: never more seats out than in, file and memory equal."""
    store = Memory(pack_table(SHOWS))
    table = SpectacleTable(bytearray(TABLE_SIZE), threading.Lock(), store)  # type: ignore[arg-type]
    model = {slot: show.places for slot, show in SHOWS.items()}
    for show, seats, broken in requests:
        possible = show in model and 0 < seats <= model[show]
        store.broken = broken and possible
        left = table.reserve(show, seats)
        if possible and not broken:
            model[show] -= seats
            assert left == model[show]
        else:
            assert left == REFUSED
        assert table.consult(show) == model.get(show, REFUSED)
        assert table.snapshot() == bytes(store.data)
    assert {slot: show.places for slot, show in unpack_table(table.snapshot())} == model


def test_release_lets_go_of_the_buffer() -> None:
    """Else shared memory could not be detached."""
    buffer = bytearray(TABLE_SIZE)
    table = SpectacleTable(buffer, threading.Lock(), Memory(pack_table(SHOWS)))  # type: ignore[arg-type]
    table.release()
    buffer.clear()  # a BufferError as long as somebody looks at it


def test_sample_is_where_the_documents_say(tmp_path: Path) -> None:
    from spectacles.common.catalogue import default_path

    assert Path(default_path(str(tmp_path))).name == "spectacles.toml"
    (tmp_path / "spectacles.toml").touch()
    assert Path(default_path(str(tmp_path))) == tmp_path / "spectacles.toml"
