"""Fast paths: calls like one before have their arrays taken out by functions made for their structure, and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph import arrays
from nagraph.compiler.flattening import Taker, taker
from nagraph.compiler.places import Transfers, crossings
from nagraph.compiler.signature import Call
from nagraph.tree import LEAF, Exact, Structure, builder

#: How many fast paths of a function are tried, the last used first.
MOST = 8


class FastPath:
    """A fast path runs the calls that have the form, structures and static values of one call.

    entry: the compiled signature that is run. plain: its executable, on arrays just as it wants them or as they came in that call.
    """

    def __init__(self, call: Call, entry: Any, transfers: Transfers):
        self.plain, self.entry, self.form = _plain(call, entry, transfers), entry, call.form
        self.stays = staying(call, entry)
        structure: Structure = entry.out_structure
        mask: Sequence[bool] = entry.out_mask
        self.count, self.names = call.form.count, call.form.names
        nones = iter([x is None for x in call.leaves])
        takers = {i: taker(child, nones) for i, child in zip(call.form.dynamic, call.structure.children)}
        takers |= {i: _same(x) for i, x in call.static.items()} | {i: _identical(x) for i, x in call.bound.items()}
        #: For each argument that is given, in the function's order: its number, and what takes its arrays.
        self._takers = [(number, takers[i]) for i, number in call.form.given()]
        #: Nothing but arrays, one argument each.
        self._flat = not self.names and len(call.leaves) == self.count and all(
            child is LEAF and x is not None for child, x in zip(call.structure.children, call.leaves))
        self._build = builder(structure)
        self._mask = None if all(mask) else tuple(mask)
        self._single = structure is LEAF and all(mask)

    @staticmethod
    def serves(call: Call, entry: Any) -> bool:
        """Whether calls like this one may go a fast path: the executable takes arrays as they are, and leaves are arrays or None.

        They are arrays of its kind; NumPy's are brought there.
        """
        kind = entry.array_kind
        return entry.executable.has_fast_path and all(
            x is None or type(x) is np.ndarray or kind is not arrays.HOST and arrays.kind_of(x) is kind for x in call.leaves)

    def is_of(self, call: Call, entry: Any) -> bool:
        """Whether it runs this entry for calls like this one."""
        return self.entry is entry and self.form is call.form and self.stays == staying(call, entry)

    def arrays(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """The arrays of a call; None if it is another one."""
        return self.more([], 0, args, kwargs)

    def more(self, leaves: list[Any], count: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """The arrays of a call whose first `count` arguments are these `leaves`, and whose others are `args` and `kwargs`."""
        if count + len(args) != self.count or tuple(kwargs) != self.names:
            return None
        if self._flat:
            return [*leaves, *args]
        given = (*args, *kwargs.values())
        found = leaves.copy()
        for number, take in self._takers[count:]:
            if not take(given[number - count], found):
                return None
        return found

    def first(self, args: tuple[Any, ...]) -> list[Any] | None:
        """The arrays of a call's first arguments; None if it is another one."""
        leaves: list[Any] = []
        fits = len(args) <= self.count and all([take(x, leaves) for x, (_, take) in zip(args, self._takers)])
        return leaves if fits else None

    def results(self, arrays: list[Any]) -> Any:
        """The tree of the results."""
        if self._single:
            return arrays[0]
        found = iter(arrays)
        return self._build(found if self._mask is None else iter([next(found) if m else None for m in self._mask]))


def staying(call: Call, entry: Any) -> tuple[bool, ...]:
    """For each array of a call whether it is where the executable computes; () where that is the CPU, and so for all."""
    kind = entry.array_kind
    return () if kind is arrays.HOST else tuple([arrays.kind_of(x) is kind for x in call.arrays()])


def _plain(call: Call, entry: Any, transfers: Transfers) -> Callable[[list[Any]], list[Any] | None]:
    """The executable's `plain`; where arrays crossed to it in this call, a function that brings those first."""
    plain: Callable[[list[Any]], list[Any] | None] = entry.executable.plain
    kind, stays = entry.array_kind, staying(call, entry)
    if all(stays):
        return plain
    types = [t for t in call.types if t is not None]
    large, one = crossings(call, call.arrays(), types, kind), stays.index(True) if any(stays) else None

    def brought(found: list[Any]) -> list[Any] | None:
        if tuple([arrays.kind_of(x) is kind for x in found]) != stays:
            return None
        for x, type, there in zip(found, types, stays):
            if not there and (x.__class__ is not np.ndarray or x.shape != type.shape or x.dtype is not type.dtype):
                return None
        device = kind.devices()[0] if one is None else kind.device(found[one])
        results = plain([x if there else kind.from_numpy(arrays.row_major(x), device) for x, there in zip(found, stays)])
        if results is not None:
            transfers.note(large, device, kind)
        return results

    return brought


def _same(value: Any) -> Taker:
    """For a static argument."""
    seen = Exact(value)
    return lambda x, leaves: seen.holds(x)


def _identical(value: Any) -> Taker:
    """For an argument that is bound until another object comes."""
    return lambda x, leaves: x is value
