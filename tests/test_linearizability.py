"""Tests of the linearizability checker: known histories, and agreement with brute force."""

from __future__ import annotations

import io
import itertools
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from spectacles.lab.judge import linearizability as lin
from spectacles.lab.judge.linearizability import Operation, Report, Verdict, check, check_show, dump, load, search
from spectacles.lab.linearizability import main
from tests import helpers

SEEDS = range(400)


def consult(client: int | str, seen: int | None, call: int, ret: int | None, show: int = 0) -> Operation:
    return Operation(client, "consult", show, 0, seen, call, ret)


def reserve(client: int | str, seats: int, answer: bool | None, call: int, ret: int | None, show: int = 0) -> Operation:
    return Operation(client, "reserve", show, seats, answer, call, ret)


def brute_force(operations: Sequence[Operation], initial: int) -> bool:
    """Try every order of every choice of pending reserves; share nothing with the checker."""
    answered = [op for op in operations if op.ret is not None]
    pending = [op for op in operations if op.ret is None and op.kind == "reserve"]

    def explained(todo: list[Operation], seats: int) -> bool:
        if not todo:
            return True
        for op in todo:
            if any(other.ret is not None and other.ret < op.call for other in todo):
                continue
            if op.kind == "consult":
                left = seats if op.result == seats else None
            else:
                accepted = 0 < op.seats <= seats
                right = accepted if op.result is None else accepted == op.result
                left = (seats - op.seats if accepted else seats) if right else None
            if left is not None and explained([other for other in todo if other is not op], left):
                return True
        return False

    choices = itertools.chain.from_iterable(itertools.combinations(pending, size) for size in range(len(pending) + 1))
    return any(explained([*answered, *chosen], initial) for chosen in choices)


def simulate(rng: random.Random, clients: int, count: int, seats: int, most: int, lost: float) -> list[Operation]:
    """Make a valid history: a correct atomic server, one random instant inside each operation."""
    clock = [0] * clients
    planned = []
    for number in range(count):
        client = number % clients
        call = clock[client] + rng.randint(0, 4)
        ret = call + rng.randint(0, 12)
        clock[client] = ret
        planned.append((rng.uniform(call, ret), number, client, call, ret))
    history = []
    gone: set[int] = set()
    for _, number, client, call, ret in sorted(planned):
        name: int | str = client if client not in gone else f"{client}.{number}"
        if rng.random() < 0.45:
            history.append(consult(name, seats, call, ret))
            continue
        asked = rng.randint(-1 if rng.random() < 0.1 else 1, most)
        if rng.random() < lost:
            gone.add(client)
            if rng.random() < 0.5 and 0 < asked <= seats:
                seats -= asked
            history.append(reserve(f"lost{number}", asked, None, call, None))
            continue
        accepted = 0 < asked <= seats
        seats -= asked if accepted else 0
        history.append(reserve(name, asked, accepted, call, ret))
    return history


def mutate(rng: random.Random, history: list[Operation]) -> list[Operation]:
    """Change the result of one answered operation."""
    answered = [place for place, op in enumerate(history) if op.result is not None]
    if not answered:
        return history
    place = rng.choice(answered)
    op = history[place]
    assert op.result is not None
    result = not op.result if op.kind == "reserve" else op.result + rng.choice((-2, -1, 1, 2))
    return [*history[:place], replace(op, result=result), *history[place + 1 :]]


GOOD = {
    "an empty history": (50, []),
    "two overlapping consults may see the seats before and after a reserve that overlaps both": (
        50,
        [reserve(1, 3, True, 0, 100), consult(2, 47, 10, 20), consult(3, 50, 5, 90)],
    ),
    "of two overlapping reserves of the last seats, one is refused": (
        4,
        [reserve(1, 3, True, 0, 10), reserve(2, 3, False, 5, 15), consult(3, 1, 20, 30)],
    ),
    "a pending reserve took effect long after its call": (
        10,
        [reserve("k", 4, None, 0, None), consult(1, 10, 50, 60), consult(1, 6, 70, 80)],
    ),
    "a pending reserve never took effect": (
        10,
        [reserve("k", 4, None, 0, None), consult(1, 10, 50, 60), reserve(1, 10, True, 70, 80)],
    ),
    "a pending consult says nothing": (10, [consult("k", None, 0, None), consult(1, 10, 5, 6)]),
    "reserving no seat or less must be refused": (
        10,
        [reserve(1, 0, False, 0, 1), reserve(1, -5, False, 2, 3), consult(1, 10, 4, 5)],
    ),
    "a refusal may come from a pending reserve that took the seats": (
        5,
        [reserve("k", 3, None, 0, None), reserve(1, 3, False, 5, 6), reserve(1, 2, True, 7, 8)],
    ),
    "a return and a call at the same instant count as concurrent": (
        5,
        [reserve(1, 3, True, 0, 10), consult(2, 5, 10, 20)],
    ),
}

BAD = {
    "a stale read: the reserve was acknowledged before the consult was called": (
        50,
        [reserve(1, 3, True, 0, 10), consult(2, 50, 20, 30)],
    ),
    "oversell: more seats acknowledged than there were": (
        5,
        [reserve(1, 3, True, 0, 10), reserve(2, 3, True, 0, 10)],
    ),
    "a lost update: both reserves saw the same seats, one has no effect": (
        50,
        [reserve(1, 3, True, 0, 10), reserve(2, 3, True, 5, 12), consult(3, 47, 20, 30)],
    ),
    "a refusal though there were always seats enough": (
        50,
        [reserve(1, 3, True, 0, 10), reserve(2, 40, False, 5, 12)],
    ),
    "reads going backwards: seats never come back": (
        50,
        [reserve(1, 3, True, 0, 100), consult(2, 47, 10, 20), consult(3, 50, 30, 40)],
    ),
    "a consult that sees a reserve not yet called": (
        50,
        [consult(1, 47, 0, 10), reserve(2, 3, True, 20, 30)],
    ),
    "a pending reserve that takes effect and then does not": (
        10,
        [reserve("k", 4, None, 0, None), consult(1, 6, 50, 60), consult(1, 10, 70, 80)],
    ),
    "a pending reserve takes effect once, not twice": (
        10,
        [reserve("k", 4, None, 0, None), consult(1, 6, 5, 6), consult(1, 2, 7, 8)],
    ),
    "a pending reserve takes effect whole": (
        10,
        [reserve("k", 4, None, 0, None), consult(1, 8, 5, 6)],
    ),
    "an acknowledgement of a negative number of seats": (10, [reserve(1, -2, True, 0, 1)]),
    "an acknowledgement of no seat": (10, [reserve(1, 0, True, 0, 1)]),
    "two overlapping reads that impose opposite orders on two reserves": (
        10,
        [
            reserve(1, 1, True, 0, 100),
            reserve(2, 2, True, 0, 100),
            consult(3, 9, 10, 90),
            consult(4, 8, 10, 90),
        ],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_history(name: str) -> None:
    initial, history = GOOD[name]
    assert brute_force(history, initial)
    assert check_show(history, initial) is Verdict.VALID
    assert check(history, {0: initial}).counterexamples == ()


@pytest.mark.parametrize("name", BAD)
def test_bad_history(name: str) -> None:
    initial, history = BAD[name]
    assert not brute_force(history, initial)
    assert check_show(history, initial) is Verdict.INVALID
    assert_minimal(check(history, {0: initial}))


def assert_minimal(report: Report) -> None:
    assert report.verdict is Verdict.INVALID
    (example,) = report.counterexamples
    found = list(example.operations)
    assert example.minimal
    assert not brute_force(found, example.initial)
    for op in found:
        if op.ret is not None and not (op.kind == "reserve" and op.result):
            assert brute_force([other for other in found if other is not op], example.initial), op
    culprit = example.culprit
    assert brute_force([replace(op, result=None, ret=None) if op is culprit else op for op in found], example.initial)
    text = example.explain()
    assert "Aucun ordre séquentiel n'explique que" in " ".join(text.split())
    assert all(len(line) <= 100 for line in text.splitlines())


def random_history(rng: random.Random) -> tuple[list[Operation], int]:
    """Make any small history, most often inexplicable."""
    initial = rng.randint(0, 6)
    history = []
    for client in range(rng.randint(1, 4)):
        now = rng.randint(0, 6)
        for _ in range(rng.randint(1, 2)):
            ret = now + rng.randint(0, 10)
            if rng.random() < 0.2:
                history.append(reserve(client, rng.randint(0, 3), None, now, None))
                break
            if rng.random() < 0.5:
                history.append(consult(client, rng.randint(max(0, initial - 4), initial), now, ret))
            else:
                history.append(reserve(client, rng.randint(0, 3), rng.random() < 0.7, now, ret))
            now = ret + rng.randint(0, 3)
    return history, initial


@pytest.mark.parametrize("block", range(10))
def test_agrees_with_brute_force_on_any_history(block: int) -> None:
    verdicts = set()
    for seed in range(block * 400, block * 400 + 400):
        history, initial = random_history(random.Random(seed))
        expected = Verdict.VALID if brute_force(history, initial) else Verdict.INVALID
        assert check_show(history, initial) is expected, f"seed {seed}: {history} from {initial}"
        if expected is Verdict.INVALID:
            assert_minimal(check(history, {0: initial}))
        verdicts.add(expected)
    assert verdicts == {Verdict.VALID, Verdict.INVALID}


def small_valid(seed: int) -> tuple[list[Operation], int]:
    rng = random.Random(seed)
    initial = rng.randint(0, 8)
    history = simulate(rng, rng.randint(2, 4), rng.randint(3, 8), initial, 3, 0.15)
    # One client per operation weakens nothing: real time alone orders the operations.
    return [replace(op, client=number) for number, op in enumerate(history)], initial


@pytest.mark.parametrize("seed", SEEDS)
def test_simulated_atomic_server_is_valid(seed: int) -> None:
    history, initial = small_valid(seed)
    assert check_show(history, initial) is Verdict.VALID


@pytest.mark.parametrize("block", range(8))
def test_mutated_histories_agree_with_brute_force(block: int) -> None:
    faults = 0
    for seed in range(block * 250, block * 250 + 250):
        history, initial = small_valid(seed)
        mutated = mutate(random.Random(seed), history)
        expected = Verdict.VALID if brute_force(mutated, initial) else Verdict.INVALID
        assert check_show(mutated, initial) is expected, f"seed {seed}: {mutated} from {initial}"
        if expected is Verdict.INVALID:
            faults += 1
            assert_minimal(check(mutated, {0: initial}))
    assert faults > 20


def test_the_search_alone_agrees_with_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bounds that refute most faults early, the search must find them all."""
    monkeypatch.setattr(search, "out_of_bounds", lambda *_: False)
    for seed in range(3000):
        history, initial = random_history(random.Random(seed))
        if seed % 2:
            history, initial = small_valid(seed)
            history = mutate(random.Random(seed), history)
        expected = Verdict.VALID if brute_force(history, initial) else Verdict.INVALID
        assert check_show(history, initial) is expected, f"seed {seed}: {history} from {initial}"


def lockless(seed: int, clients: int, rounds: int, seats: int) -> tuple[list[Operation], int]:
    """Run clients on a table without lock: each reserve reads, is scheduled out, then writes."""
    rng = random.Random(seed)
    table = [seats]
    history: list[Operation] = []
    clock = itertools.count(1)

    def client(number: int) -> Iterator[None]:
        for _ in range(rounds):
            call = next(clock)
            yield
            seen = table[0]
            yield
            table[0] = seen - 1
            yield
            history.append(reserve(number, 1, True, call, next(clock)))
            yield

    running = [client(number) for number in range(clients)]
    while running:
        chosen = rng.choice(running)
        try:
            next(chosen)
        except StopIteration:
            running.remove(chosen)
    return history, table[0]


@pytest.mark.parametrize("seed", range(10))
def test_table_without_lock_is_found_out(seed: int) -> None:
    history, left = lockless(seed, 4, 20, 100)
    assert left > 20, "the scheduler made no race"
    report = check(history, {0: 100}, final={0: left})
    assert report.verdict is Verdict.INVALID
    text = " ".join(report.explain().split())
    assert f"l'état final compte {left} places" in text
    assert "il doit en rester 20." in text
    assert "Avant cela, 41 réservations" in text
    assert check(history, {0: 100}, final={0: 20}).verdict is Verdict.VALID


def test_final_state() -> None:
    history = [reserve(1, 3, True, 0, 10), reserve("k", 2, None, 5, None)]
    for left, verdict in ((7, Verdict.VALID), (5, Verdict.VALID), (6, Verdict.INVALID), (8, Verdict.INVALID)):
        assert check(history, {0: 10}, final={0: left}).verdict is verdict
    assert check([], {0: 10, 1: 4}, final={0: 10, 1: 3}).shows == {0: Verdict.VALID, 1: Verdict.INVALID}


def test_shows_are_independent() -> None:
    history = [
        reserve(1, 3, True, 0, 10, show=2),
        consult(2, 5, 20, 30, show=2),
        *lin.split_list(3, {0: 50, 1: 20}, 40, 50),
    ]
    report = check(history, {0: 50, 1: 20, 2: 5})
    assert report.shows == {0: Verdict.VALID, 1: Verdict.VALID, 2: Verdict.INVALID}
    assert report.verdict is Verdict.INVALID
    assert [example.show for example in report.counterexamples] == [2]
    assert report.operations == 4
    assert "Spectacle 2 (5 places au départ)" in report.explain()


def test_absent_show_refuses_every_reserve() -> None:
    refused = [reserve(1, 1, False, 0, 1, show=7), consult(1, -1, 2, 3, show=7), consult(1, 0, 4, 5, show=7)]
    assert check(refused, {}, absent={7}).verdict is Verdict.VALID
    assert check_show(refused, 0, absent=True) is Verdict.VALID
    acknowledged = check([reserve(1, 1, True, 0, 1, show=7)], {}, absent={7})
    assert acknowledged.verdict is Verdict.INVALID
    assert "ce spectacle n'existe pas" in " ".join(acknowledged.explain().split())
    assert check([consult(1, 3, 0, 1, show=7)], {}, absent={7}).verdict is Verdict.INVALID
    with pytest.raises(ValueError, match="absent"):
        check([], {7: 3}, absent={7})


def hard_history() -> list[Operation]:
    """Sixty pending reserves of distinct even numbers of seats, and an odd number of seats missing."""
    rng = random.Random(0)
    pending = [
        reserve(f"k{number}", 2 * n, None, number, None)
        for number, n in enumerate(rng.sample(range(10**9, 2 * 10**9), 60))
    ]
    return [*pending, consult(1, 10**13 - 60 * 10**9 - 1, 100, 110)]


def test_hard_history_is_unknown_when_time_runs_out() -> None:
    report = check(hard_history(), {0: 10**13}, time_limit=0.2)
    assert report.verdict is Verdict.UNKNOWN
    assert report.counterexamples == ()
    assert report.explain().startswith("Indécis faute de temps")


def test_counterexample_text() -> None:
    history = [
        reserve(1, 3, True, 1_000, 11_500),
        consult(3, 50, 2_000, 3_000),
        consult(2, 50, 21_000, 31_000),
        consult(2, 47, 40_000, 41_000),
    ]
    assert check(history, {0: 50}).explain().splitlines() == [
        "Spectacle 0 (50 places au départ) : historique non linéarisable. Contre-exemple : 1 consultation et",
        "1 réservation, sur 4 opérations.",
        "appel µs  retour µs  client    opération",
        "     0,0       10,5  client 1  réserve 3 → acquittée  [============]..........................",
        "    20,0       30,0  client 2  consulte → 50 vues     ..........................[============]",
        "Aucun ordre séquentiel n'explique que le client 2 ait vu 50 places : 3 places acquittées avant son",
        "appel, il en restait au plus 47.",
    ]


def test_text_stays_readable_whatever_the_names() -> None:
    history = [reserve("x" * 300 + "\n", 10**40, True, 0, 10**30), consult("\x1b[31m", 10**50, 10**31, 10**32)]
    text = check(history, {0: 10**45}).explain()
    assert all(len(line) <= 100 and line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("seed", range(3))
def test_long_history(seed: int) -> None:
    """Five thousand operations of eight overlapping clients, valid and then with one fault."""
    rng = random.Random(seed)
    history = simulate(rng, 8, 5000, 5000, 3, 0.0)
    assert check(history, {0: 5000}, time_limit=60).verdict is Verdict.VALID
    consults = [place for place, op in enumerate(history) if op.kind == "consult"]
    place = consults[len(consults) // 2]
    op = history[place]
    history[place] = replace(op, result=int(op.result or 0) + 100)
    report = check(history, {0: 5000}, time_limit=60)
    assert report.verdict is Verdict.INVALID
    (example,) = report.counterexamples
    assert sum(op.kind == "consult" for op in example.operations) == 1
    assert len(report.explain().splitlines()) < 60


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([consult(1, 5, 10, 9)], "précède"),
        ([consult(1, 5, 0, 10), consult(1, 5, 9, 12)], "chevauchent"),
        ([consult(1, 5, 0, 10), reserve(1, 1, True, 9, 12, show=1)], "chevauchent"),
        ([reserve(1, 5, None, 0, None), consult(1, 5, 9, 12)], "sans réponse"),
        ([replace(consult(1, 5, 0, 1), kind="cancel")], "genre inconnu"),  # type: ignore[arg-type]
        ([replace(consult(1, 5, 0, 1), result=True)], "nombre de places"),
        ([replace(reserve(1, 5, True, 0, 1), result=1)], "booléen"),
        ([replace(consult(1, 5, 0, 1), ret=None)], "ensemble"),
        ([replace(consult(1, 5, 0, 1), seats=2)], "seats doit valoir 0"),
        ([replace(consult(1, 5, 0, 1), call=0.5)], "call doit"),  # type: ignore[arg-type]
    ],
)
def test_malformed_history(history: list[Operation], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check(history, {0: 5, 1: 5})
    assert "Operation(" in str(caught.value)


def test_unknown_initial_seats_are_not_guessed() -> None:
    with pytest.raises(ValueError, match=r"initial inconnu pour : 3"):
        check([consult(1, 5, 0, 1, show=3)], {0: 5})
    with pytest.raises(ValueError, match=r"initial inconnu pour : 4"):
        check([], {0: 5}, final={4: 2})
    with pytest.raises(ValueError, match="initial -1"):
        check([], {0: -1})
    with pytest.raises(ValueError, match="un seul spectacle"):
        check_show([consult(1, 5, 0, 1), consult(1, 5, 2, 3, show=1)], 5)
    with pytest.raises(ValueError, match="durée"):
        check([], {}, time_limit=float("nan"))


def test_history_files_round_trip() -> None:
    for _, history in (*GOOD.values(), *BAD.values()):
        file = io.StringIO()
        dump(history, file)
        assert load(io.StringIO(file.getvalue())) == history
        assert load(io.BytesIO(file.getvalue().encode())) == history


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"client":1,"kind":"consult","show":0,"seats":0,"result":1,"call":5,"ret":4}',
        b'{"client":1,"kind":"consult","show":0,"seats":0,"result":1,"call":5,"ret":NaN}',
        b'{"client":1,"kind":"consult","show":0,"seats":0,"result":1,"call":5,"ret":6,"x":0}',
        b'{"client":[],"kind":{},"show":0,"seats":0,"result":1,"call":5,"ret":6}',
    ],
    ids=range(9),
)
def test_file_errors_name_the_line(line: bytes) -> None:
    good = b'{"client":"\xc3\xa9","kind":"consult","show":0,"seats":0,"result":1,"call":5,"ret":6}'
    with pytest.raises(ValueError, match=r"^ligne 3 : "):
        load([good, b"\n", line])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(history: Sequence[Operation], *options: str) -> tuple[int, str, str]:
        path = tmp_path / "history.jsonl"
        with path.open("w", encoding="utf-8") as file:
            dump(history, file)
        try:
            status = main([str(path), *options])
        except SystemExit as stop:
            status = int(stop.code or 0)
        out = capsys.readouterr()
        return status, out.out, out.err

    history = [reserve(1, 3, True, 0, 10), consult(2, 47, 20, 30)]
    assert run(history, "--initial", "0=50")[0] == 0
    status, out, _ = run(history, "--initial", "0=50,1=20", "--final", "0=46,1=20")
    assert status == 1
    assert "l'état final compte 46 places" in " ".join(out.split())
    for bad in ((), ("--initial", "0"), ("--initial", "0=5,0=6"), ("--initial", "0=50", "--time-limit", "-1")):
        status, out, err = run(history, *bad)
        assert (status, out) == (2, "")
        assert err
    assert main([str(tmp_path / "none.jsonl"), "--initial", "0=1"]) == 2
    assert run(hard_history(), "--initial", f"0={10**13}", "--time-limit", "0.1")[0] == 4
    assert run([reserve(1, 1, False, 0, 1)], "--absent", "0")[0] == 0


LONG = "9" * 4300  # the most digits that Python reads; the sum of two has one more


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("absent\n\x1b[2J.jsonl", None, ()),
        (".", None, ()),
        ("\udcff.jsonl", b"[" * 100_000, ()),
        ("h.jsonl", b"\xff", ()),
        ("h.jsonl", b'{"client":1,"kind":"consult","show":0,"seats":0,"result":1,"call":1e999,"ret":6}', ()),
        ("h.jsonl", b'{"client":1,"kind":"reserve","show":0,"seats":%s9,"result":true,"call":1,"ret":6}', ()),
        (
            "h.jsonl",
            b'{"client":%d,"kind":"reserve","show":0,"seats":%s,"result":true,"call":1,"ret":6}',
            ("--initial", "0=" + LONG),
        ),
        ("h.jsonl", b"", ("--initial", "0=" + LONG + "9")),
        ("h.jsonl", b"", ("--time-limit", "nan")),
        ("h.jsonl", b"", ("--absent", "\x1b")),
    ],
)
def test_command_says_what_is_wrong_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, options: tuple[str, ...]
) -> None:
    """Any file, any name, any option: one line and exit code 2.

    (With the report printed outside of the `try`, a sum too long to print is an internal error and 1; with argparse's
    own parser, an error takes three lines.)
    """
    if content is not None:
        lines = [content.replace(b"%s", LONG.encode()).replace(b"%d", b"%d" % client) for client in (1, 2)]
        (tmp_path / name).write_bytes(b"\n".join(lines if b"%d" in content else lines[:1]))
    command = [sys.executable, "-m", "spectacles.lab.linearizability", name]
    done = helpers.run([*command, *(options or ("--initial", "0=5"))], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Traceback" not in helpers.one_line(done)
    assert "\x1b" not in done.stderr
