"""What rules choose from: the values that a program has so far, and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nagraph.ir.types import BOOL, FLOATS
from nagraph.testing.draw import ORDERS, Array
from nagraph.testing.program import Input


class NoChoice(Exception):
    """No value of the program so far fits what a rule asks for."""


def is_float(x: Array) -> bool:
    return x.dtype in FLOATS


def is_int(x: Array) -> bool:
    return x.dtype.kind in "iu"


def is_bool(x: Array) -> bool:
    return x.dtype == BOOL


class Choice:
    """A choice draws at random among the values in `scope`; `made` are the inputs that rules have asked for."""

    def __init__(self, rng: np.random.Generator, scope: Mapping[str, Array], fresh_name: Callable[[], str], dtypes: Sequence[str]):
        self.rng, self.scope, self.dtypes = rng, scope, dtypes
        self._fresh_name = fresh_name
        self.made: list[Input] = []

    def one(self, options: Sequence[Any]) -> Any:
        """Any of the options, each as likely as the others."""
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def value(self, *tests: Callable[[Array], bool], rank: int = 0) -> str:
        """A value that passes the tests and has at least `rank` axes; later ones are likelier. Raises NoChoice."""
        fitting = [n for n, x in self.scope.items() if x.ndim >= rank and all(t(x) for t in tests)]
        if not fitting:
            raise NoChoice
        return str(self.one(fitting[-4:] if self.chance(0.6) else fitting))

    def beside(self, name: str, *tests: Callable[[Array], bool]) -> str:
        """A value that broadcasts with the one named."""
        shape = self.scope[name].shape

        def fits(x: Array) -> bool:
            return all(a == b or 1 in (a, b) for a, b in zip(reversed(x.shape), reversed(shape)))

        return self.value(fits, lambda x: x is not self.scope[name] or self.chance(0.3), *tests)

    def fresh(self, shape: str, dtype: str | None = None) -> str:
        """A new argument of the program; its shape is an expression over what there is. Its seed follows from its name."""
        name = self._fresh_name()
        self.made.append(Input(name, shape, dtype or self.one(self.dtypes), self.order(), self.number(0, 9999)))
        return name

    def order(self) -> str:
        return "C" if self.chance(0.5) else str(self.one(ORDERS))

    def axis(self, name: str) -> int:
        """An axis of the value, counted from either end. Raises NoChoice for rank 0."""
        rank = self.scope[name].ndim
        if not rank:
            raise NoChoice
        return self.number(-rank, rank - 1)

    def axes(self, name: str) -> str:
        """The text of an axis argument: one axis, several, or None."""
        rank = self.scope[name].ndim
        if not rank or self.chance(0.2):
            return "None"
        if self.chance(0.6):
            return str(self.axis(name))
        count = self.number(1, rank)
        return str(tuple(int(a) for a in sorted(self.rng.permutation(rank)[:count])))
