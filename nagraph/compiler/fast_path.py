"""Fast paths: calls like one before have their arrays taken out by functions made for their structure, and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.compiler.flattening import Taker, taker
from nagraph.compiler.signature import Call
from nagraph.tree import LEAF, Exact, Structure, builder

#: How many fast paths of a function are tried, the last used first.
MOST = 8


class FastPath:
    """A fast path runs the calls that have the form, structures and static values of one call.

    plain: the executable on arrays just as it wants them. structure, mask: what is made of the results, and which of
    its leaves are results, the others being None. entry: the compiled signature that is run.
    """

    def __init__(self, call: Call, plain: Callable[[list[Any]], list[Any] | None], structure: Structure, mask: Sequence[bool],
                 entry: Any):
        self.plain, self.entry, self.form = plain, entry, call.form
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
    def serves(call: Call, executable: Any) -> bool:
        """Whether calls like this one may go a fast path: the executable takes arrays as they are, and leaves are arrays or None."""
        return executable.has_fast_path and all(x is None or type(x) is np.ndarray for x in call.leaves)

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


def _same(value: Any) -> Taker:
    """For a static argument."""
    seen = Exact(value)
    return lambda x, leaves: seen.holds(x)


def _identical(value: Any) -> Taker:
    """For an argument that is bound until another object comes."""
    return lambda x, leaves: x is value
