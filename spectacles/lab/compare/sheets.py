"""The tables that say what a comparison has found, and the sentences they need: text, for terminal and page alike."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.compare.rows import CHECKED, LOCKLESS, POINTS, PYTHON, VERDICTS, C, grouped
from spectacles.lab.display.french import duration, megabytes, number
from spectacles.lab.judge.linearizability import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.compare.rows import Row
    from spectacles.lab.compare.workload import Workload

RATIOS = ["dem./s", "p50", "p99", "CPU", "chgts", "PSS"]
WHY_ESTIMATES_DIFFER = (
    "Multiplier le VmRSS du parent par le nombre de processus compte plusieurs fois les pages que fork() leur fait "
    "partager ; la PSS divise chaque page entre ceux qui l'utilisent, et peut donc être additionnée. Mesurée une fois "
    "les clients partis, car eux aussi partagent des pages de Python avec le serveur."
)


@dataclass(frozen=True)
class Sheet:
    """A table as text, for the terminal and for the page. bad: the lines that are red. The first column is left."""

    title: str
    headings: list[str]
    lines: list[list[str]]
    bad: list[bool]


def correctness(rows: Sequence[Row]) -> Sheet:
    """Return what comes first: is it right? One line for each question and variant, over all its measurements."""
    lines, bad = [], []
    for group in grouped(rows):
        verdicts = [row.linearizable for row in group]
        verdict = next((word for word in ("NON", "indécis") if word in verdicts), "oui")
        wrong = [row for row in group if not row.sum_is_right]
        checked, requests = sum(row.checked for row in group), sum(row.requests for row in group)
        known = all(row.left_in_file is not None and row.requests for row in wrong)
        off = sum((row.left_in_file or 0) + row.sold - row.initial for row in wrong)
        lines.append(
            [
                group[0].name,
                "JUSTE" if all(row.correct for row in group) else "FAUX",
                "exacte" if not wrong else f"{off:+d} places" if known and off else "FAUSSE" if known else "inconnue",
                number(sum(row.sold for row in group)),
                number(sum(row.refused for row in group)),
                verdict,
                f"{number(checked)} / {number(requests)}",
            ]
        )
        bad.append(not all(row.correct for row in group))
    headings = ["question", "résultat", "somme", "vendues", "refus", "linéarisable", "vérifiées"]
    return Sheet("Le résultat est-il juste ?", headings, lines, bad)


def footprint(rows: Sequence[Row]) -> Sheet:
    """Return what each takes up, under its largest number of clients; the start-up time is the median of its starts."""
    lines, bad = [], []
    for group in grouped(rows):
        row = group[-1]
        threads = str(row.threads) if row.threads == row.threads_at_rest else f"{row.threads_at_rest} → {row.threads}"
        lines.append(
            [
                row.name,
                str(row.processes),
                threads,
                " + ".join(megabytes(memory.rss) for memory in row.memory),
                megabytes(row.rss),
                megabytes(row.estimate),
                megabytes(row.pss),
                megabytes(row.private),
                f"{number(statistics.median(r.start_up for r in group) * 1000)} ms",
            ]
        )
        bad.append(not all(r.correct for r in group))
    headings = ["question", "proc.", "threads", "VmRSS", "somme", "estimée", "PSS", "privée", "départ"]
    return Sheet("Que prend-il ? (Mo)", headings, lines, bad)


def cost(rows: Sequence[Row]) -> Sheet:
    """Return what a request costs, one line for each measurement."""
    lines = []
    several = any(any(row.spread) for row in rows)
    for row in rows:
        points = row.latency.get("", {})
        lines.append(
            [
                row.name,
                str(row.clients),
                number(row.throughput),
                *([f"± {number(50 * (row.spread[1] - row.spread[0]) / (row.throughput or 1))} %"] if several else []),
                *(duration(points[point]) if points else "" for point, _ in POINTS),
                f"{number(row.cpu)} µs",
                number(row.switches, 1),
            ]
        )
    headings = ["question", "clients", "dem./s", *(["écart"] if several else [])]
    headings += [*(point.replace(".", ",") for point, _ in POINTS), "CPU", "chgts"]
    return Sheet("Que coûte une demande ?", headings, lines, [not row.correct for row in rows])


def by_kind(rows: Sequence[Row]) -> Sheet:
    """Return the latencies of consultations and reservations apart; no line where the load has only one of them."""
    lines, bad = [], []
    for row in rows:
        kinds = [row.latency[kind] for kind in ("consult", "reserve") if kind in row.latency]
        if len(kinds) == 2:
            cells = [duration(points[point]) for points in kinds for point in ("p50", "p99", "max")]
            lines.append([row.name, str(row.clients), *cells])
            bad.append(not row.correct)
    headings = [f"{kind} {point}" for kind in ("cons.", "rés.") for point in ("p50", "p99", "max")]
    title = "Combien attend une consultation, combien une réservation ?"
    return Sheet(title, ["question", "clients", *headings], lines, bad)


def python_over_c(rows: Sequence[Row]) -> Sheet:
    """Return what Python costs: each Python row over the C row of the same question and number of clients."""
    known = {(row.question, row.clients): row for row in rows if row.variant == C and row.requests}
    lines, bad = [], []
    for row in rows:
        reference = known.get((row.question, row.clients))
        if row.variant == PYTHON and row.requests and reference is not None:
            lines.append([row.question, str(row.clients), *_ratios(reference, row)])
            bad.append(not (row.correct and reference.correct))
    return Sheet("Que coûte Python ? (Python sur C)", ["question", "clients", *RATIOS], lines, bad)


def _ratios(before: Row, after: Row) -> list[str]:
    """Return the figures of `after` over those of `before`, as RATIOS names them."""
    pairs = [
        (before.throughput, after.throughput),
        *((before.latency[""][point], after.latency[""][point]) for point in ("p50", "p99")),
        (before.cpu, after.cpu),
        (before.switches, after.switches),
        (before.pss, after.pss),
    ]
    return [f"× {number(b / a, 2)}" if a else "" for a, b in pairs]


def gains(rows: Sequence[Row]) -> Sheet:
    """Return what each step of the course changed: the later question over the earlier one, under the most clients that
    both were measured with; no line where there is none."""
    lines, bad = [], []
    ours = sorted((row for row in rows if row.variant == PYTHON), key=lambda row: row.question)
    groups = [{row.clients: row for row in group} for group in grouped(ours)]
    for earlier, later in itertools.pairwise(groups):
        common = [count for count in earlier if count in later and earlier[count].requests and later[count].requests]
        if not common:
            continue
        before, after = earlier[max(common)], later[max(common)]
        lines.append(
            [
                f"{before.question[:2]} → {after.question[:2]}",
                str(before.clients),
                *_ratios(before, after),
                f"{before.processes} → {after.processes}",
                f"{before.threads} → {after.threads}",
            ]
        )
        bad.append(not (before.correct and after.correct))
    headings = ["passage", "clients", *RATIOS, "proc.", "threads"]
    return Sheet("Qu'a-t-on gagné d'une question à l'autre ?", headings, lines, bad)


def side_by_side(rows: Sequence[Row], others: Sequence[Row]) -> Sheet:
    """Return two runs next to each other: `others`, the earlier one, then `rows`."""
    lines, bad = [], []
    known = {(row.question, row.variant, row.clients): row for row in others}
    for row in rows:
        other = known.get((row.question, row.variant, row.clients))
        if other is None or not (other.throughput and row.throughput):
            continue
        lines.append(
            [
                row.name,
                str(row.clients),
                number(other.throughput),
                number(row.throughput),
                f"× {number(row.throughput / other.throughput, 2)}",
                *(duration(side.latency[""][point]) for point in ("p50", "p99") for side in (other, row)),
                *(megabytes(side.pss) for side in (other, row)),
            ]
        )
        bad.append(not (row.correct and other.correct))
    headings = ["question", "clients", "dem./s avant", "ici", "rapport"]
    headings += ["p50 avant", "ici", "p99 avant", "ici", "PSS avant", "ici"]
    return Sheet("Avant, et ici", headings, lines, bad)


def sheets(rows: Sequence[Row], before: Sequence[Row]) -> list[Sheet]:
    """Return the tables in the order in which they matter, those without a line left out. before: of an earlier run."""
    found = [correctness(rows), footprint(rows), cost(rows), by_kind(rows), gains(rows), python_over_c(rows)]
    if before:
        found.append(side_by_side(rows, before))
    return [sheet for sheet in found if sheet.lines]


def remarks(rows: Sequence[Row], work: Workload) -> list[str]:
    """Return the sentences that the figures need."""
    found = [WHY_ESTIMATES_DIFFER]
    variants = {row.variant for row in rows}
    known = {row.question: row for group in grouped(rows) for row in group[-1:] if row.variant == PYTHON}
    q2, q3 = known.get("q2_msq"), known.get("q3_threads")
    if q2 and q3 and q2.pss and q3.pss:
        found.append(
            f"De Q2 à Q3 : l'estimation donne {megabytes(q2.estimate)} Mo contre {megabytes(q3.estimate)} Mo "
            f"({number(q2.estimate / q3.estimate, 1)} fois), la PSS {megabytes(q2.pss)} Mo contre "
            f"{megabytes(q3.pss)} Mo ({number(q2.pss / q3.pss, 1)} fois). L'original avait estimé, en C, 4,8 Mo contre "
            "1,5 Mo (3,2 fois)."
        )
    if C in variants:
        found.append(
            "C enregistre comme l'original : à chaque réservation il tronque le fichier et le récrit en entier, sans "
            "jamais attendre le disque (ni fsync ni fdatasync). Python écrit un seul enregistrement"
            + (", et attend le disque avant d'acquitter." if work.fsync else ", sans attendre le disque lui non plus.")
        )
    if LOCKLESS in variants:
        found.append(
            "« sans verrou » hésite une demi-milliseconde entre regarder et prendre, pour que la faute se voie : sa "
            "vitesse ne dit rien du coût d'un verrou."
        )
    if "q1_pipes" in known and max(row.clients for row in rows) > 1:
        found.append("La question 1 ne sert qu'un client à la fois : elle n'est mesurée qu'avec un.")
    if any(any(row.spread) for row in rows):
        found.append("Chaque ligne est la mesure médiane ; écart : entre elle et les extrêmes, en moyenne.")
    else:
        found.append(
            "Une seule mesure par ligne, sur une machine qui fait aussi autre chose : avant de croire un petit écart, "
            "refaites-la (--rounds 3)."
        )
    if work.rate is not None:
        found.append("À cadence fixe, la latence compte depuis le départ prévu : attendre son tour en fait partie.")
        found += [
            f"{row.full_name} : cadence non tenue, {number(row.late)} demandes n'étaient pas "
            "parties au bout de deux fois la durée."
            for row in rows
            if row.late
        ]
    found.append(
        "estimée : VmRSS du parent × processus ; threads : au repos → le plus vu sous la charge ; CPU et chgts "
        "(changements de contexte) : du serveur, par demande ; vérifiées : demandes (les "
        f"{number(CHECKED)} premières de chaque mesure) dont l'histoire, vue des clients, a été vérifiée. Clients et "
        "serveur se partagent les mêmes cœurs."
    )
    return found


def verdict(rows: Sequence[Row]) -> str:
    """Return the result of it all in one sentence."""
    wrong = sum(not row.correct for row in rows)
    if wrong:
        return f"{wrong} mesure{'s' if wrong > 1 else ''} au résultat FAUX, en rouge."
    unknown = sum(row.linearizable != VERDICTS[Verdict.VALID] for row in rows)
    doubt = f" ({unknown} : le temps a manqué pour le dire)" if unknown else ""
    return (
        "Tous les résultats sont justes : les sommes sont exactes, aucune place perdue ni vendue deux fois, et les "
        f"histoires vérifiées sont linéarisables{doubt}."
    )
