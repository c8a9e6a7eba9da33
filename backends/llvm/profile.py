"""Profiles: the program walked through launch by launch, each timed by itself on one thread."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.backends.llvm.program import Commit, Decide, End, Instruction, Jump, Launch, Loop, Phase, Point, Swap
from nagraph.kernel.form import Kernel

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


@dataclass
class Row:
    """One kernel: its launches, seconds in all, floating-point operations of its products, bytes of its operands, its lines."""

    name: str
    calls: int
    seconds: float
    flops: float
    nbytes: float
    lines: tuple[str, ...]


class Profile(list[Row]):
    """Kernels by time, the longest first; as text a table."""

    @property
    def seconds(self) -> float:
        return sum(r.seconds for r in self)

    def __str__(self) -> str:
        total = self.seconds or 1.0
        lines = [f"{'ms':>9} {'share':>6} {'calls':>6} {'GFLOP/s':>8} {'GB/s':>7}  kernel"]
        for r in self:
            rate = f"{r.flops / r.seconds / 1e9:8.1f}" if r.flops else f"{'':>8}"
            where = f"   {', '.join(r.lines)}" if r.lines else ""
            speed = r.nbytes / r.seconds / 1e9
            lines.append(f"{r.seconds * 1e3:9.3f} {r.seconds / total:6.1%} {r.calls:6d} {rate} {speed:7.1f}  {r.name}{where}")
        lines.append(f"{total * 1e3:9.3f} ms on one thread")
        return "\n".join(lines)


def profile(program: Sequence[Instruction], table: Any, scratch: int, repeats: int) -> Profile:
    """The best time of each launch out of some runs. `table` holds the pointers, `scratch` is memory for one thread.

    Arrays that the call donates are updated once in each run.
    """
    best: dict[tuple[int, int], tuple[float, Launch]] = {}
    for _ in range(repeats):
        counts: dict[int, int] = {}
        for launch, seconds in _walk(program, table.copy(), scratch):
            key = (id(launch), counts.setdefault(id(launch), 0))
            counts[id(launch)] += 1
            if key not in best or seconds < best[key][0]:
                best[key] = (seconds, launch)
    rows: dict[str, Row] = {}
    for seconds, launch in best.values():
        name, flops, nbytes = _name(launch), _flops(launch.kernel), _nbytes(launch)
        row = rows.setdefault(name, Row(name, 0, 0.0, 0.0, 0.0, _lines(launch)))
        row.calls, row.seconds, row.flops, row.nbytes = row.calls + 1, row.seconds + seconds, row.flops + flops, row.nbytes + nbytes
    return Profile(sorted(rows.values(), key=lambda r: -r.seconds))


def _walk(program: Sequence[Instruction], table: Any, scratch: int) -> Any:
    """Run the program in Python; each launch with its seconds."""
    begins = {i.loop: (n, i.turns) for n, i in enumerate(program) if isinstance(i, Loop)}
    ends = {i.loop: n for n, i in enumerate(program) if isinstance(i, End)}
    turns: dict[int, int] = {}
    at = 0
    while at < len(program):
        i, at = program[at], at + 1
        match i:
            case Phase(launches=launches):
                for launch in launches:
                    slots = np.array(launch.slots, np.int64)
                    function, units = _KERNEL(launch.function.address), launch.function.emitted.units
                    start = time.perf_counter()
                    function(table.ctypes.data, slots.ctypes.data, 0, units, scratch)
                    yield launch, time.perf_counter() - start
            case Point():
                turn = turns.get(i.loop, 0)
                table[i.target] = table[i.source] + i.offset + i.step * (i.length - 1 - turn if i.reverse else turn)
            case Swap(a=a, b=b):
                table[[a, b]] = table[[b, a]]
            case Loop(loop=loop, turns=count):
                turns[loop] = 0
                at = at if count > 0 else ends[loop] + 1
            case End(loop=loop):
                turns[loop] += 1
                at = begins[loop][0] + 1 if turns[loop] < begins[loop][1] else at
            case Decide(slot=slot, otherwise=otherwise):
                at = at if ctypes.c_ubyte.from_address(int(table[slot])).value else otherwise
            case Jump(target=target):
                at = target
            case Commit():
                pass


def _name(launch: Launch) -> str:
    if launch.node is None:
        return "copy"
    label = getattr(launch.node.op, "label", "") or launch.node.op.name
    types = ", ".join(str(r.type) for r in launch.node.results[:2])
    return f"{label} -> {types}{', ...' if len(launch.node.results) > 2 else ''}"


def _flops(kernel: Kernel | None) -> float:
    """Two for each multiply-add of the products."""
    if kernel is None:
        return 0.0
    grid = math.prod(kernel.axes[:kernel.grid])
    return sum(2.0 * grid * math.prod(kernel.axes[a] for a in s.loops) for s in kernel.stages if any(f.op is None for f in s.folds))


def _nbytes(launch: Launch) -> float:
    if launch.node is None:
        return 0.0
    return float(sum(v.type.nbytes for v in (*launch.node.operands, *launch.node.results)))


def _lines(launch: Launch) -> tuple[str, ...]:
    """The lines of the user's code that the kernel came from."""
    if launch.node is None:
        return ()
    body = getattr(launch.node.op, "body", None)
    nodes = body.nodes if body is not None else (launch.node,)
    found = dict.fromkeys(str(n.location) for n in nodes if n.location)
    return tuple(list(found)[:3])
