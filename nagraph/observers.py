"""Observers hear what each pass of a pipeline did, and time, dump, compare or check it."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from nagraph.errors import PassError
from nagraph.ir.difference import difference
from nagraph.ir.interpret import interpret
from nagraph.ir.types import is_float, type_of
from nagraph.pipeline import Observation


class Timings:
    """Collects the seconds of each pass and the number of nodes after it."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, int]] = []

    def __call__(self, seen: Observation) -> None:
        self.rows.append((seen.step, seen.seconds, len(seen.after.nodes)))

    def __str__(self) -> str:
        return "\n".join(f"{step:<24} {seconds * 1e3:9.2f} ms {nodes:7d} nodes" for step, seconds, nodes in self.rows)


class Dump:
    """Writes 00_traced.ng, 01_canonicalize.ng, ... into a folder."""

    def __init__(self, folder: str | pathlib.Path):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, seen: Observation) -> None:
        if seen.index == 1:
            (self.folder / "00_traced.ng").write_text(f"{seen.before}\n")
        name = seen.step.partition("{")[0]
        (self.folder / f"{seen.index:02d}_{name}.ng").write_text(f"{seen.after}\n")


class Diffs:
    """Collects the difference in the text form for each pass that changed something."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def __call__(self, seen: Observation) -> None:
        if seen.before is seen.after:
            return
        self.texts.append((seen.step, difference(seen.before, seen.after, f"after {seen.step}")))


class Differential:
    """Runs the graph before and after each pass on the same inputs; a changed result names the pass.

    rtol: tolerance for floating outputs, relative to the output's largest entry; everything else is compared exactly.
    """

    def __init__(self, *arrays: Any, rtol: float = 1e-5):
        self.arrays = arrays
        self.rtol = rtol

    def __call__(self, seen: Observation) -> None:
        if seen.before is seen.after:
            return
        expected, got = (interpret(g, self.arrays) for g in (seen.before, seen.after))
        if len(expected) != len(got):
            raise PassError(f"pass {seen.step} changed the number of outputs of {seen.before.name} from {len(expected)} to {len(got)}")
        for i, (a, b) in enumerate(zip(expected, got)):
            difference = self._difference(a, b)
            if difference:
                raise PassError(f"pass {seen.step} changed output {i} of {seen.before.name}: {difference}")

    def _difference(self, a: Any, b: Any) -> str:
        """Where and how b differs from a, in words; "" if it does not."""
        if type_of(a) != type_of(b):
            return f"it was {type_of(a)} and is {type_of(b)}"
        if is_float(a.dtype):
            x, y = (z.astype(np.float64) for z in (a, b))
            size = float(np.abs(x[np.isfinite(x)]).max(initial=0))
            wrong = ~np.isclose(x, y, rtol=self.rtol, atol=self.rtol * size, equal_nan=True)
        else:
            wrong = np.asarray(a != b)
        if not wrong.any():
            return ""
        at = tuple(map(int, np.unravel_index(int(wrong.argmax()), wrong.shape)))
        return f"{int(wrong.sum())} of {wrong.size} entries, the first at {list(at)}: it was {a[at]} and is {b[at]}"
