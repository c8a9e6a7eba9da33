"""Patterns: expressions with holes, written like the code that they match.

    x, y = holes("x y")
    p, q = attributes("p q")
    op.exp(op.log(x))                       # matches %1 = log(%0)  %2 = exp(%1)
    op.transpose(op.transpose(x, axes=p), axes=q)

A pattern matches nodes with one result. A hole that occurs twice matches one value twice. Numbers
match constants of that value, broadcast or not; operands of commutative ops match in either order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nagraph.ir.constant import Constant
from nagraph.ir.graph import Node, Value
from nagraph.ir.op import REGISTRY
from nagraph.ir.operators import COMMUTATIVE

#: What holes stand for: a value, an attribute, or (for numerals) a NumPy scalar.
Bindings = dict[str, Any]
Producers = Mapping[Value, Node]
#: In place of the name of an op: that of a value which no node makes.
INPUT = ""
#: Ops through which the number of a constant is seen.
_NUMBERS = (Constant.name, "broadcast", "reshape")


class Pattern:
    """Base of patterns; operators on them make larger ones."""

    def match(self, value: Value, producers: Producers, bound: Bindings) -> Iterator[Bindings]:
        """Every way to match `value`, each as bindings that extend `bound`."""
        raise NotImplementedError

    def begins_with(self, name: str) -> bool:
        """Whether a value that an op of this name makes may match, by that name alone; INPUT for values that no op makes."""
        return True

    def __add__(self, other: Any) -> Apply:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Apply:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Apply:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Apply:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Apply:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Apply:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Apply:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Apply:
        return apply("divide", other, self)

    def __pow__(self, other: Any) -> Apply:
        return apply("power", self, other)

    def __neg__(self) -> Apply:
        return apply("negative", self)

    def __and__(self, other: Any) -> Apply:
        return apply("bitwise_and", self, other)

    def __or__(self, other: Any) -> Apply:
        return apply("bitwise_or", self, other)

    def __xor__(self, other: Any) -> Apply:
        return apply("bitwise_xor", self, other)

    def __invert__(self) -> Apply:
        return apply("invert", self)


@dataclass(frozen=True, eq=False)
class Hole(Pattern):
    """Matches any value; all its places must hold the same one."""

    name: str

    def match(self, value: Value, producers: Producers, bound: Bindings) -> Iterator[Bindings]:
        if self.name not in bound:
            yield {**bound, self.name: value}
        elif bound[self.name] is value:
            yield bound


@dataclass(frozen=True, eq=False)
class Number(Pattern):
    """Matches constants whose elements all equal one number: 0 is no -0.0, True is no 1."""

    value: Any

    def begins_with(self, name: str) -> bool:
        return name in _NUMBERS

    def match(self, value: Value, producers: Producers, bound: Bindings) -> Iterator[Bindings]:
        found = uniform(value, producers)
        if (found is not None and (found.dtype == np.bool_) == isinstance(self.value, bool) and found == self.value
                and _negative(found) == _negative(self.value)):
            yield bound


def _negative(x: Any) -> bool:
    """Whether a number has the sign bit: that of -0.0 as well."""
    return math.copysign(1.0, float(x)) < 0


@dataclass(frozen=True, eq=False)
class Numeral(Pattern):
    """Matches any constant whose elements are all equal, and binds that number."""

    name: str

    def begins_with(self, name: str) -> bool:
        return name in _NUMBERS

    def match(self, value: Value, producers: Producers, bound: Bindings) -> Iterator[Bindings]:
        found = uniform(value, producers)
        if found is not None and found.dtype != np.bool_ and (self.name not in bound or bound[self.name] == found):
            yield {**bound, self.name: found}


@dataclass(frozen=True)
class Attribute:
    """Stands for an attribute of an op; all its places must hold equal ones."""

    name: str


@dataclass(frozen=True, eq=False)
class Apply(Pattern):
    """The application of an op to patterns, with some of its attributes."""

    name: str
    operands: tuple[Pattern, ...]
    attributes: tuple[tuple[str, Any], ...] = ()

    def begins_with(self, name: str) -> bool:
        return name == self.name

    def may_match(self, names: tuple[str, ...]) -> bool:
        """Whether the pattern may match a node of its op, by the names of the ops that make the operands."""
        orders = [names, names[::-1]] if self.name in COMMUTATIVE else [names]
        return len(names) == len(self.operands) and any(all(p.begins_with(n) for p, n in zip(self.operands, order)) for order in orders)

    def match(self, value: Value, producers: Producers, bound: Bindings) -> Iterator[Bindings]:
        node = producers.get(value)
        if node is None or node.op.name != self.name or len(node.operands) != len(self.operands) or len(node.results) != 1:
            return
        for key, wanted in self.attributes:
            found = getattr(node.op, key)
            if not isinstance(wanted, Attribute):
                if found != wanted:
                    return
            elif wanted.name not in bound:
                bound = {**bound, wanted.name: found}
            elif bound[wanted.name] != found:
                return
        orders = [node.operands]
        if self.name in COMMUTATIVE and node.operands[0] is not node.operands[1]:
            orders.append(node.operands[::-1])
        for operands in orders:
            yield from _match_all(self.operands, operands, producers, bound)


def _match_all(patterns: tuple[Pattern, ...], values: tuple[Value, ...], producers: Producers, bound: Bindings) -> Iterator[Bindings]:
    if not patterns:
        yield bound
        return
    for found in patterns[0].match(values[0], producers, bound):
        yield from _match_all(patterns[1:], values[1:], producers, found)


def apply(name: str, *operands: Any, **attributes: Any) -> Apply:
    """The pattern of an op; numbers among the operands match constants."""
    if name not in REGISTRY:
        raise ValueError(f"a pattern names the op {name!r}, which does not exist")
    return Apply(name, tuple(map(as_pattern, operands)), tuple(attributes.items()))


class _Ops:
    """op.NAME(patterns, attribute=...) is the pattern of that op."""

    def __getattr__(self, name: str) -> Callable[..., Apply]:
        return partial(apply, name)


op = _Ops()


def as_pattern(x: Any) -> Pattern:
    return x if isinstance(x, Pattern) else Number(x)


def holes(names: str) -> tuple[Hole, ...]:
    return tuple(map(Hole, names.split()))


def numerals(names: str) -> tuple[Numeral, ...]:
    return tuple(map(Numeral, names.split()))


def attributes(names: str) -> tuple[Attribute, ...]:
    return tuple(map(Attribute, names.split()))


def uniform(value: Value, producers: Producers) -> Any:
    """The one number of a constant whose elements are all equal, through broadcasts and reshapes; None for other values."""
    node = producers.get(value)
    while node is not None and node.op.name in _NUMBERS[1:]:
        node = producers.get(node.operands[0])
    if node is None or not isinstance(node.op, Constant):
        return None
    array = node.op.array
    if array.size == 0 or array.size > 64:
        return None
    flat = array.reshape(-1)
    # By the bits: 0.0 and -0.0 are two numbers.
    return flat[0] if array.size == 1 or array.tobytes() == flat[:1].tobytes() * array.size else None
