"""Choices say which of several legal ways the compiler takes: the profitable one, unless they are told otherwise.

Passes, plans, kernels and backends ask this object wherever profit decides, and it alone: a question names a decision, and says
what profit would answer. What is not legal is never asked. So each decision can be forced wherever it is legal, or forbidden, and
"chaos" answers at random; the results must agree, which is how code behind a threshold is tested. Sizes that modules hold as
constants (`nagraph.thresholds`) belong to decisions, and are set with them while something is compiled.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from nagraph import thresholds
from nagraph.errors import SignatureError
from nagraph.suggestions import suggestion
from nagraph.thresholds import Threshold

T = TypeVar("T")

#: The decisions by name, and what it is to take one.
DECISIONS = {
    "alternative": "a kernel runs by another legal schedule than the strategy chooses",
    "cse": "equal nodes become one",
    "cut": "a kernel is cut into small units",
    "direct": "a result of the graph is computed in the array that the call returns",
    "donate": "a result is computed in the very array of a donated argument, not copied there at the end",
    "expand": "a composite's body takes its place",
    "fold_constants": "a node of constants is computed by the compiler",
    "fold_control": "a branch that is known to be taken, or the one iteration of a loop, stands where it would run",
    "fuse": "two groups of nodes become one region",
    "gemm": "a loop that is a matrix product is computed by the routine for matrix products",
    "hoist": "what follows from constants is computed with the plan",
    "in_place": "a result takes the bytes of an operand that nobody reads any more",
    "index_values": "what follows from indices alone, such as a mask, is computed by every kernel that reads it",
    "licm": "what follows from a loop's consts alone is computed before the loop",
    "loop_split": "what is joined or padded is computed by a loop for each part",
    "narrow": "of a value that is read in part only the part is computed",
    "offsets": "buffers that do not live at one time share bytes of the arena",
    "place": "a result is computed where it is joined or padded",
    "prefetch": "a kernel that goes through its rows several times asks for the next ones",
    "pretranspose": "the second factor of a product is stored in the order in which the product reads it",
    "prune_regions": "what a loop or branch takes and gives though nobody needs it goes",
    "rematerialize": "readers compute a cheap value again",
    "row_blocks": "a kernel of whole matrices computes a block of their rows at a time",
    "row_sums": "a kernel sums the rows that it computes",
    "rows": "a kernel's grid runs over as many rows as it can",
    "schedule": "nodes run in the order that takes the least memory",
    "simplify": "a rule of algebra is applied",
    "split": "a long reduction is done in parts",
    "storage_order": "a result is stored with its axes in the order that its readers read",
    "tile": "a value that several stages of a kernel read is kept, not computed again",
    "tiled_transpose": "what is read along one axis and written along another is transposed in registers, tile by tile",
    "update": "of an array that is changed in part only the part is written",
}
#: Beyond every size.
ENDLESS = 1 << 60


@dataclass(frozen=True)
class Choices:
    """Choices answer each question of the compiler about profit: at random, as forced or forbidden, or by profit alone.

    chaos: a seed for legal choices at random; None for profitable ones. force, forbid: decisions that are always taken, or never.
    As text: "chaos=7,force=row_sums+split,forbid=in_place"; "" is profit alone. Equal choices make equal programs.
    """

    chaos: int | None = None
    force: frozenset[str] = frozenset()
    forbid: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in (*self.force, *self.forbid):
            if name not in DECISIONS:
                raise SignatureError(f"there is no decision {name!r}{suggestion(name, DECISIONS)}; there is {', '.join(DECISIONS)}")
        if both := self.force & self.forbid:
            raise SignatureError(f"decisions are forced or forbidden, not both: {', '.join(sorted(both))}")

    @classmethod
    def parse(cls, text: str) -> Choices:
        """The choices that a text says; SignatureError if it says none."""
        found: dict[str, str] = {}
        for part in filter(None, re.sub(r"\s", "", text).split(",")):
            key, _, value = part.partition("=")
            found[key] = value
        if not found.keys() <= {"chaos", "force", "forbid"} or not re.fullmatch(r"-?\d+|", found.get("chaos", "")):
            raise SignatureError(f"can't read the choices {text!r}; they read like \"chaos=7,force=row_sums+split,forbid=in_place\"")
        force, forbid = (frozenset(filter(None, found.get(key, "").split("+"))) for key in ("force", "forbid"))
        return cls(int(found["chaos"]) if found.get("chaos") else None, force, forbid)

    def __str__(self) -> str:
        parts = [] if self.chaos is None else [f"chaos={self.chaos}"]
        parts += [f"{key}={'+'.join(sorted(names))}" for key, names in (("force", self.force), ("forbid", self.forbid)) if names]
        return ",".join(parts)

    # -- questions: `about` tells apart what is asked; the same question has the same answer ---------------------------------

    def takes(self, decision: str, profitable: bool = True, *about: object) -> bool:
        """Whether to take a decision that is legal."""
        if decision in self.force:
            return True
        if decision in self.forbid:
            return False
        return profitable if self.chaos is None else self._random(decision, about).random() < 0.5

    def least(self, decision: str, size: int, *about: object) -> int:
        """The size from which on a decision is taken; any is legal."""
        if decision in self.force:
            return 1
        if decision in self.forbid:
            return ENDLESS
        return size if self.chaos is None else self._random(decision, (size, *about)).choice((1, 1, size))

    def most(self, decision: str, size: int, *about: object) -> int:
        """The size up to which a decision is taken; any is legal."""
        if decision in self.force:
            return ENDLESS
        if decision in self.forbid:
            return 0
        return size if self.chaos is None else self._random(decision, (size, *about)).choice((0, size, ENDLESS))

    def threshold(self, t: Threshold) -> Any:
        """The value of a constant that a decision follows from."""
        if t.decision in self.force or t.decision in self.forbid:
            return t.often if t.decision in self.force else t.rarely
        return t.own if self.chaos is None else self._random(t.decision, (t.module, t.name)).choice((t.often, t.often, t.own, t.rarely))

    def pick(self, decision: str, ways: Sequence[T], *about: object) -> T:
        """One of several ways, the most profitable first."""
        if self.chaos is None or decision in self.force:
            return ways[-1] if decision in self.forbid else ways[0]
        return ways[-1] if decision in self.forbid else self._random(decision, about).choice(ways)

    def shuffled(self, decision: str, things: Sequence[T], *about: object) -> list[T]:
        """Things that may come in any order, which is a good one."""
        if decision in self.forbid:
            return list(things)[::-1]
        found = list(things)
        if self.chaos is not None and decision not in self.force:
            self._random(decision, about).shuffle(found)
        return found

    def _random(self, decision: str, about: tuple[object, ...]) -> random.Random:
        return random.Random(f"{self.chaos} {decision} {about}")


PROFIT = Choices()
_CURRENT: ContextVar[Choices | None] = ContextVar("choices", default=None)


def current() -> Choices:
    """The choices in force here: those of `using`, else those that the environment's NAGRAPH_CHOICES says, else profit."""
    found = _CURRENT.get()
    if found is None:
        text = os.environ.get("NAGRAPH_CHOICES")
        return Choices.parse(text) if text else PROFIT
    return found


@contextlib.contextmanager
def using(choices: Choices | str | None) -> Iterator[Choices]:
    """What is jitted or compiled inside is compiled by these choices, also when it is called outside; None changes nothing.

    Thresholds are set for the whole process: nothing else should be compiled in other threads, unless by profit everywhere.
    """
    found = current() if choices is None else Choices.parse(choices) if isinstance(choices, str) else choices
    known = found == (_CURRENT.get() or PROFIT)
    token = _CURRENT.set(found)
    try:
        with contextlib.nullcontext() if known else thresholds.setting(found.threshold):
            yield found
    finally:
        _CURRENT.reset(token)


def takes(decision: str, profitable: bool = True, *about: object) -> bool:
    return current().takes(decision, profitable, *about)


def least(decision: str, size: int, *about: object) -> int:
    return current().least(decision, size, *about)


def most(decision: str, size: int, *about: object) -> int:
    return current().most(decision, size, *about)


def pick(decision: str, ways: Sequence[T], *about: object) -> T:
    return current().pick(decision, ways, *about)


def shuffled(decision: str, things: Sequence[T], *about: object) -> list[T]:
    return current().shuffled(decision, things, *about)
