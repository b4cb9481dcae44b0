"""Which receive took which send.

The order in which the gate saw calls is not the order in which the kernel carried them out: of two calls that overlap
either may have been first. Known of each is an interval, from when it was let go to when it was known to be over; two
that do not overlap have an order. So pairs are found by what was received, and by what each kind of object guarantees:

    messages    of one type (System V), of one priority (POSIX), leave a queue in the order in which they came in
    streams     bytes leave in the order in which they came in, cut and joined as it happens
    tokens      of a semaphore are all alike: the first that was put in is the first that was taken out

A pair is `sure` if no other would explain the same. Nothing here knows of programs, calls or bytes' meaning.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

MANY = 16  # reads at the same time, or explanations of one, that are told apart
AHEAD = 8  # reads that are looked at to tell them apart
FAR = 1000  # writes that are looked at for where a stream goes on after bytes that nobody saw
ATOMIC = 4096  # bytes of a write to a pipe that no other gets between, PIPE_BUF in pipe(7)


@dataclass(slots=True)
class Side:
    """One end of a transfer: a send, or a receive.

    begin, end: between which events it happened in the kernel; infinite where it was never seen to be over. data: the
    first bytes, size: all of them; of a receive whose size is not known (None), `data` is what the memory holds that it
    may have brought, and `room` how much it would have taken.
    """

    seq: int
    begin: int
    end: float
    data: bytes = b""
    size: int | None = 0
    key: Hashable = None  # of a message: type, priority
    room: int = 0
    cut: bool = False  # a message too long may have been cut: MSG_NOERROR
    most: int | None = None  # of a receive whose type nobody saw: up to this one, the lowest first; 0: any, the first


class Pair(NamedTuple):
    """What went from a send to a receive."""

    send: int
    receive: int
    size: int | None
    sure: bool


def messages(sends: Sequence[Side], receives: Sequence[Side]) -> list[Pair]:
    """Match whole messages."""
    alike: dict[Hashable, tuple[list[Side], list[Side]]] = {}
    for send in sends:
        alike.setdefault((send.key, send.size, send.data), ([], []))[0].append(send)
    odd = []
    for receive in receives:
        kind = (receive.key, receive.size, receive.data)
        if receive.size is None or (receive.cut and receive.size == receive.room and kind not in alike):
            odd.append(receive)
        elif kind in alike:
            alike[kind][1].append(receive)
    pairs: list[Pair] = []
    for some, others in alike.values():
        pairs += _one_by_one(some, others)
    if odd:
        taken = {pair.send for pair in pairs}
        left = sorted((send for send in sends if send.seq not in taken), key=lambda side: side.begin)
        pairs += _likely(left, odd)
    return pairs


def _one_by_one(sends: list[Side], receives: list[Side]) -> list[Pair]:
    """Match messages that are all the same: first come, first taken."""
    sends.sort(key=lambda side: side.begin)
    receives.sort(key=lambda side: side.end)
    chosen: list[tuple[Side, Side]] = []
    at = 0
    for receive in receives:
        if at < len(sends) and sends[at].begin < receive.end:
            chosen.append((sends[at], receive))
            at += 1
    # When each happened at the latest, and at the earliest, now that we know what it took.
    sent = [(send.begin, min(send.end, receive.end)) for send, receive in chosen]
    sent += [(send.begin, send.end) for send in sends[at : at + 1]]
    took = [(max(receive.begin, send.begin), receive.end) for send, receive in chosen]
    doubtful = _overlapping(sent), _overlapping(took)
    return [
        Pair(send.seq, receive.seq, receive.size, place not in doubtful[0] and place not in doubtful[1])
        for place, (send, receive) in enumerate(chosen)
    ]


def _overlapping(spans: Sequence[tuple[float, float]]) -> set[int]:
    """Return the places of spans that have a part in common with another."""
    found = set()
    last, end = -1, -math.inf
    for place, (begin, until) in sorted(enumerate(spans), key=lambda one: one[1]):
        if begin < end:
            found |= {place, last}
        if until > end:
            last, end = place, until
    return found


def _likely(sends: list[Side], receives: Iterable[Side]) -> list[Pair]:
    """Match receives of which it is not known how much they brought, or that were cut."""
    pairs = []
    for receive in sorted(receives, key=lambda side: side.end):
        there = []
        for send in sends:
            if send.begin >= receive.end:
                break
            if _fits(send, receive) and _agree(send.data, receive.data) and (send.size or 0) >= (receive.size or 0):
                there.append(send)
                if not receive.most:
                    break
        if there:
            send = min(there, key=_kind) if receive.most else there[0]
            pairs.append(Pair(send.seq, receive.seq, receive.size, False))
            sends.remove(send)
    return pairs


def _kind(send: Side) -> int:
    """Return the type of a message."""
    kind = send.key[1] if isinstance(send.key, tuple) else 0
    return kind if isinstance(kind, int) else 0


def _fits(send: Side, receive: Side) -> bool:
    if receive.most is None or not isinstance(send.key, tuple) or not isinstance(receive.key, tuple):
        return send.key == receive.key
    return send.key[0] == receive.key[0] and (receive.most == 0 or _kind(send) <= receive.most)


def _agree(one: bytes, other: bytes) -> bool:
    common = min(len(one), len(other))
    return one[:common] == other[:common]


# Streams


class _Fit(NamedTuple):
    """How a read can be explained: bytes of which writes, in order; what is then being read, and how far."""

    parts: tuple[tuple[int, int], ...]  # place of the write, bytes
    head: int | None
    at: int
    sure: bool  # False: a guess, or one of several


class _Option(NamedTuple):
    """What can have happened next: this read, so."""

    read: int  # place
    fit: _Fit


class _Stream:
    """Bytes written and bytes read, as far as they are not explained yet."""

    def __init__(self, writes: Iterable[Side], reads: Iterable[Side]) -> None:
        self.writes = sorted((write for write in writes if write.size), key=lambda side: side.begin)
        self.reads = sorted((read for read in reads if read.size != 0), key=lambda side: side.end)
        self.gone = [False] * len(self.writes)  # wholly read, or being read
        self.done = [False] * len(self.reads)
        self.head: int | None = None  # the write that is being read
        self.at = 0  # bytes of it that were
        self._low = [0, 0]  # writes, reads: all before are gone, are done
        # When the first of the reads from a place on began.
        self._earliest = list(itertools.accumulate((read.begin for read in reversed(self.reads)), min))[::-1]
        # Those that may interleave with another, as they are larger than what is written in one piece.
        crossing = _overlapping([(write.begin, write.end) for write in self.writes])
        self.doubtful = {place for place in crossing if (self.writes[place].size or 0) > ATOMIC}
        alike: dict[tuple[bytes, int | None], list[int]] = {}
        for place, write in enumerate(self.writes):
            alike.setdefault((write.data, write.size), []).append(place)
        for places in alike.values():
            if len(places) > 1:
                spans = [(self.writes[place].begin, self.writes[place].end) for place in places]
                self.doubtful |= {places[which] for which in _overlapping(spans)}

    def low(self, kind: int) -> int:
        """Return the first write (0) or read (1) that is still there."""
        flags = (self.gone, self.done)[kind]
        while self._low[kind] < len(flags) and flags[self._low[kind]]:
            self._low[kind] += 1
        return self._low[kind]

    def next_writes(self, taken: Sequence[int], before: float) -> list[int]:
        """Return the writes that may come next, once those `taken` are gone: none of the others was surely first."""
        found: list[int] = []
        earliest = math.inf
        for place in range(self.low(0), len(self.writes)):
            write = self.writes[place]
            if write.begin >= min(earliest, before):
                break
            if not self.gone[place] and place not in taken:
                earliest = min(earliest, write.end)
                found.append(place)
        return [place for place in found if self.writes[place].begin < earliest]

    def next_reads(self, finished: Sequence[int]) -> list[int]:
        """Return the reads that may have been next, once those `finished` are done."""
        found: list[int] = []
        first = math.inf
        for place in range(self.low(1), len(self.reads)):
            if self._earliest[place] >= first:
                break
            if self.done[place] or place in finished:
                continue
            first = min(first, self.reads[place].end)
            if self.reads[place].begin < first:
                found.append(place)
            if len(found) == MANY:
                break
        return found

    def options(self, head: int | None, at: int, taken: Sequence[int], finished: Sequence[int]) -> list[_Option]:
        """Return all that may have come next."""
        found = [_Option(read, fit) for read in self.next_reads(finished) for fit in self.fits(read, head, at, taken)]
        known = [option for option in found if self.reads[option.read].size is not None]
        return known or found[:1]

    def fits(self, read: int, head: int | None, at: int, taken: Sequence[int]) -> list[_Fit]:
        """Return all ways to explain a read, as things stand."""
        side = self.reads[read]
        if side.size is None:
            return self._guess(side, head, at, taken)
        return self._whole(side, 0, head, at, (), taken)

    def _whole(
        self,
        read: Side,
        start: int,
        head: int | None,
        at: int,
        parts: tuple[tuple[int, int], ...],
        taken: Sequence[int],
    ) -> list[_Fit]:
        done, sure = start, True
        assert read.size is not None
        while done < read.size:
            if head is None:
                choice = self.next_writes((*taken, *(place for place, _ in parts)), read.end)
                wanted = read.data[done:]
                agreeing = [place for place in choice if _agree(self.writes[place].data, wanted[: read.size - done])]
                if not agreeing:
                    return []
                alike = {(self.writes[place].data, self.writes[place].size): place for place in reversed(agreeing)}
                sure = sure and (len(agreeing) == 1 or bool(wanted))
                if len(alike) > 1 and wanted:
                    found = [
                        fit
                        for place in sorted(alike.values())
                        for fit in self._whole(read, done, place, 0, parts, taken)
                    ]
                    return found if sure else [fit._replace(sure=False) for fit in found]
                head, at = agreeing[0], 0
            size = self.writes[head].size or 0
            part = min(read.size - done, size - at)
            if not _agree(self.writes[head].data[at : at + part], read.data[done : done + part]):
                return []
            parts = (*parts, (head, part))
            done, at = done + part, at + part
            if at == size:
                head, at = None, 0
        return [_Fit(parts, head, at, sure)]

    def _guess(self, read: Side, head: int | None, at: int, taken: Sequence[int]) -> list[_Fit]:
        """Explain a read that brought nobody knows how much: as many writes as agree with what its memory holds."""
        parts: tuple[tuple[int, int], ...] = ()
        done = 0
        while done < read.room:
            if head is None:
                choice = self.next_writes((*taken, *(place for place, _ in parts)), read.end)
                seen = read.data[done:]
                agreeing = [place for place in choice if seen and _agree(self.writes[place].data, seen)]
                if not agreeing:
                    break
                head, at = agreeing[0], 0
            elif not _agree(self.writes[head].data[at:], read.data[done:]):
                break
            size = self.writes[head].size or 0
            part = min(read.room - done, size - at)
            parts = (*parts, (head, part))
            done, at = done + part, at + part
            if at == size:
                head, at = None, 0
        return [_Fit(parts, head, at, False)] if parts else []

    def ahead(self, option: _Option, taken: Sequence[int], finished: Sequence[int], depth: int) -> list[_Option] | None:
        """Return how it can have gone on from an option, with it, some reads ahead; None if it cannot."""
        taken = (*taken, *(place for place, _ in option.fit.parts))
        finished = (*finished, option.read)
        if not depth or not self.next_reads(finished):
            return [option]
        for one in self.options(option.fit.head, option.fit.at, taken, finished)[:MANY]:
            path = self.ahead(one, taken, finished, depth - 1)
            if path is not None:
                return [option, *path]
        return None

    def resume(self, read: int) -> _Option | None:
        """Bytes got lost, or were not seen: go on where a read agrees again; what lies before it is given up."""
        side = self.reads[read]
        if side.size is None or not side.data:
            return None
        low = self.low(0)
        for place in range(low, min(low + FAR, len(self.writes))):
            if self.writes[place].begin >= side.end:
                break
            if not self.gone[place] and _agree(self.writes[place].data, side.data):
                given_up = [earlier for earlier in range(low, place) if not self.gone[earlier]]
                fits = self._whole(side, 0, place, 0, (), given_up)
                if fits:
                    for earlier in given_up:
                        self.gone[earlier] = True
                    return _Option(read, fits[0]._replace(sure=False))
        return None


def stream(writes: Sequence[Side], reads: Sequence[Side]) -> list[Pair]:
    """Match the bytes of a FIFO, a pipe, one direction of a connection.

    A write may be read in several pieces, a read may bring several writes. Where several explanations agree with what
    was read, what was read next decides.
    """
    flow = _Stream(writes, reads)
    chosen: list[_Option] = []
    others: list[_Option] = []  # what may have happened as well
    while (first := flow.low(1)) < len(flow.reads):
        options = flow.options(flow.head, flow.at, (), ())
        if len(options) > 1:
            paths = [path for one in options[:MANY] if (path := flow.ahead(one, (), (), AHEAD)) is not None]
            options = [path[0] for path in paths] or options[:1]
            others += [one for path in paths[1:] for one in path]
        option = options[0] if options else flow.resume(first)
        if option is None:
            flow.done[first] = True
            continue
        chosen.append(option)
        flow.done[option.read] = True
        for place, _ in option.fit.parts:
            flow.gone[place] = True
        flow.head, flow.at = option.fit.head, option.fit.at
    explained = {option.read: option.fit.parts for option in chosen}
    reads_in_doubt = {one.read for one in others if explained.get(one.read) != one.fit.parts}
    for one in others:
        if one.read in reads_in_doubt:
            flow.doubtful |= {place for place, _ in {*one.fit.parts} ^ {*explained.get(one.read, ())}}
    return [
        Pair(
            flow.writes[place].seq,
            flow.reads[option.read].seq,
            size,
            option.fit.sure and place not in flow.doubtful and option.read not in reads_in_doubt,
        )
        for option in chosen
        for place, size in option.fit.parts
    ]


# Tokens


def tokens(posts: Sequence[tuple[Side, int]], takes: Sequence[tuple[Side, int]], start: int | None) -> list[Pair]:
    """Match each take of a semaphore with the post whose token it got. posts, takes: with how many tokens.

    start: how many there were before, None where that was not seen: then the least that explains the takes.
    """
    given = sorted((side.begin, side.seq, count) for side, count in posts)
    got = sorted((side.end, side.seq, count) for side, count in takes)
    if start is None:
        start = 0
        put = [0]
        for _, _, count in given:
            put.append(put[-1] + count)
        begins = [begin for begin, _, _ in given]
        used = 0
        for end, _, count in got:
            used += count
            start = max(start, used - put[bisect.bisect_left(begins, end)])
    pairs: list[Pair] = []
    heap: list[tuple[float, int]] = []  # tokens by when they came; those of the start have no post
    for _ in range(min(start, sum(count for _, _, count in got))):
        heapq.heappush(heap, (-1, 0))
    at = 0
    spans: dict[int, tuple[float, float]] = {side.seq: (side.begin, side.end) for side, _ in (*posts, *takes)}
    for end, seq, count in got:
        while at < len(given) and given[at][0] < end:
            for _ in range(given[at][2]):
                heapq.heappush(heap, given[at][:2])
            at += 1
        for _ in range(count):
            if heap:
                _, post = heapq.heappop(heap)
                if post:
                    pairs.append(Pair(post, seq, None, True))
    return _doubt(pairs, spans)


def _doubt(pairs: list[Pair], spans: dict[int, tuple[float, float]]) -> list[Pair]:
    """Say of which pairs the other way round would do as well: takes that may have been asleep at the same post."""
    took = [(max(spans[pair.receive][0], spans[pair.send][0]), spans[pair.receive][1]) for pair in pairs]
    doubtful = _overlapping(took)
    return [pair._replace(sure=place not in doubtful) for place, pair in enumerate(pairs)]
