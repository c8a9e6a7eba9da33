"""Offsets place buffers in one arena: dynamic storage allocation, solved greedily in several orders.

Finding the smallest arena is NP-hard; placing the buffers one after another, each at the lowest
offset where it meets nothing that lives at the same time, comes close when large ones go first.
Source: Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nagraph import choices, sanitizing
from nagraph.analysis.live_ranges import LiveRange, live_bytes
from nagraph.plan.plan import aligned

#: Above this many buffers the small ones are placed in order of time, which is nearly linear.
MANY = 1000
#: Orders tried by moving the buffers at the top of the arena to the front.
ROUNDS = 24
CLOSE = 1.02
ENDLESS = np.iinfo(np.int64).max


def peak_bytes(ranges: Sequence[LiveRange]) -> int:
    """The largest sum of (aligned) bytes that live at one step."""
    steps = max((last for _, _, last in ranges), default=0) + 1
    return max(live_bytes((LiveRange(aligned(nbytes), first, last) for nbytes, first, last in ranges), steps))


def assign_offsets(ranges: Sequence[LiveRange]) -> tuple[list[int], int]:
    """An offset for each range, and the bytes of the arena."""
    if sanitizing.is_on():
        return _apart(ranges)
    if len(ranges) > MANY:
        return _assign_many(ranges)
    n = len(ranges)
    choice = choices.current()
    if not choice.takes("offsets", True, n):
        return _place([LiveRange(nbytes, 0, 0) for nbytes, *_ in ranges], choice.shuffled("offsets", range(n)))
    by_size = sorted(range(n), key=lambda i: (-ranges[i][0], ranges[i][1], i))
    by_area = sorted(range(n), key=lambda i: (-ranges[i][0] * (ranges[i][2] - ranges[i][1] + 1), i))
    by_length = sorted(range(n), key=lambda i: (ranges[i][1] - ranges[i][2], -ranges[i][0], i))
    by_time = sorted(range(n), key=lambda i: (ranges[i][1], -ranges[i][0], i))
    goal = peak_bytes(ranges) * CLOSE
    best: tuple[list[int], int] | None = None
    order = by_size
    for candidate in (by_size, by_area, by_length, by_time):
        found = _place(ranges, candidate)
        if best is None or found[1] < best[1]:
            best, order = found, candidate
        if best[1] <= goal:
            return best
    assert best is not None
    found = best
    for _ in range(ROUNDS):
        top = [i for i in order if found[0][i] + aligned(ranges[i][0]) >= found[1]]
        rest = set(top)
        order = top + [i for i in order if i not in rest]
        found = _place(ranges, order)
        if found[1] < best[1]:
            best = found
        if best[1] <= goal:
            break
    return best


def _apart(ranges: Sequence[LiveRange]) -> tuple[list[int], int]:
    """Each range in bytes of its own, between red zones."""
    offsets, top = [], sanitizing.RED_NBYTES
    for nbytes, *_ in ranges:
        offsets.append(top)
        top += aligned(nbytes) + sanitizing.RED_NBYTES
    return offsets, top


def _place(ranges: Sequence[LiveRange], order: Sequence[int]) -> tuple[list[int], int]:
    """Each range, one after another, at the lowest free offset: in the smallest gap that holds it, else on top."""
    n = len(ranges)
    offsets = [0] * n
    placed = np.empty((4, n), np.int64)  # first, last, start, end of those placed so far
    tops = np.zeros(n + 1, np.int64)
    count = total = 0
    for i in order:
        nbytes, first, last = ranges[i]
        size = aligned(nbytes)
        if not size:
            continue
        meets = (placed[0, :count] <= last) & (placed[1, :count] >= first)
        starts, ends = placed[2, :count][meets], placed[3, :count][meets]
        sorting = np.argsort(starts, kind="stable")
        tops[1:len(starts) + 1] = np.maximum.accumulate(ends[sorting])  # of what begins no later, behind the bottom of the arena
        gaps = starts[sorting] - tops[:len(starts)]
        gaps[gaps < size] = ENDLESS
        smallest = int(gaps.argmin()) if len(gaps) else 0
        offset = int(tops[smallest if len(gaps) and gaps[smallest] < ENDLESS else len(gaps)])
        offsets[i] = offset
        placed[:, count] = first, last, offset, offset + size
        count += 1
        total = max(total, offset + size)
    return offsets, total


def _assign_many(ranges: Sequence[LiveRange]) -> tuple[list[int], int]:
    """Offsets of very many ranges: the largest by size, the small ones in a part of their own, in order of time with free lists by
    size.
    """
    by_size = sorted(range(len(ranges)), key=lambda i: (-ranges[i][0], ranges[i][1], i))
    large, small = by_size[:MANY], by_size[MANY:]
    found, base = assign_offsets([ranges[i] for i in large])
    offsets = [0] * len(ranges)
    for i, offset in zip(large, found):
        offsets[i] = offset
    events = sorted([(ranges[i][1], 1, i) for i in small] + [(ranges[i][2] + 1, 0, i) for i in small])
    free: dict[int, list[int]] = {}
    top = base
    for _, begins, i in events:
        size = aligned(ranges[i][0])
        if not begins:
            free.setdefault(size, []).append(offsets[i])
        elif free.get(size):
            offsets[i] = free[size].pop()
        else:
            offsets[i] = top
            top += size
    return offsets, top
