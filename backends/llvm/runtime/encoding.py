"""Encoding: a program's instructions as the 64-bit words that the driver reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nagraph.backends.llvm.program import Commit, Decide, End, Instruction, Jump, Launch, Loop, Phase, Point, Swap
from nagraph.backends.llvm.runtime import context

#: The work of a chunk, in nanoseconds: long beside the cost of handing it out, short beside what a call takes.
CHUNK_NS = 15_000
#: A launch is cut into no more chunks than this.
MOST_CHUNKS = 256


class Encoded(NamedTuple):
    """The instructions' words, and the operands' numbers that launches point to."""

    code: np.ndarray  # type: ignore[type-arg]
    arguments: np.ndarray  # type: ignore[type-arg]


def grain(launch: Launch) -> int:
    """Units of a chunk: by the kernel alone, never by a number of threads."""
    units, cost = launch.function.emitted.units, launch.function.emitted.unit_ns
    wanted = max(1, round(CHUNK_NS / max(cost, 0.01)))
    return min(units, max(wanted, -(-units // MOST_CHUNKS)))


def encode(program: Sequence[Instruction]) -> Encoded:
    starts, at = [], 0
    for i in program:
        starts.append(at)
        at += 3 + 5 * len(i.launches) if isinstance(i, Phase) else _LENGTH[type(i)]
    starts.append(at)
    ends = {i.loop: n for n, i in enumerate(program) if isinstance(i, End)}
    begins = {i.loop: (n, i.turns) for n, i in enumerate(program) if isinstance(i, Loop)}
    words: list[int] = []
    arguments: list[int] = []
    for i in program:
        match i:
            case Phase(launches=launches):
                words += _phase(launches, arguments)
            case Point():
                words += [context.POINT, i.target, i.source, i.offset, i.step, max(i.loop, 0), i.length, int(i.reverse)]
                if i.loop < 0:
                    words[-4:-2] = [0, 0]
            case Swap(a=a, b=b):
                words += [context.SWAP, a, b]
            case Loop(loop=loop, turns=turns):
                words += [context.LOOP, loop, turns, starts[ends[loop] + 1]]
            case End(loop=loop):
                begin, turns = begins[loop]
                words += [context.END, loop, turns, starts[begin + 1]]
            case Decide(slot=slot, otherwise=otherwise):
                words += [context.DECIDE, slot, starts[otherwise]]
            case Jump(target=target):
                words += [context.JUMP, starts[target]]
            case Commit():
                words += [context.COMMIT]
    return Encoded(np.array([*words, context.HALT], np.int64), np.array(arguments or [0], np.int64))


_LENGTH: dict[type, int] = {Point: 8, Swap: 3, Loop: 4, End: 4, Decide: 3, Jump: 2, Commit: 1}


def _phase(launches: Sequence[Launch], arguments: list[int]) -> list[int]:
    words, total = [], 0
    for x in launches:
        units, size = x.function.emitted.units, grain(x)
        chunks = -(-units // size)
        words += [x.function.address, units, size, chunks, len(arguments)]
        arguments += x.slots
        total += chunks
    return [context.PHASE, len(launches), total, *words]
