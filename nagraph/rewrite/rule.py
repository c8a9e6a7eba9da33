"""Rules: two patterns and a name that reads as an equation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nagraph.errors import PassError, SizeError
from nagraph.ir.graph import Node, Value
from nagraph.ir.op import REGISTRY
from nagraph.ir.types import BOOL, FLOATS, INTEGERS, DType
from nagraph.ops.movement import broadcast_to
from nagraph.ops.rules import full
from nagraph.rewrite.pattern import Apply, Bindings, Hole, Number, Numeral, Pattern, Producers, as_pattern


class _Inexact:
    """Marks rules that change rounding or special values, the sign of zero among them: off unless asked for."""


inexact = _Inexact()


@dataclass(frozen=True)
class where:
    """A condition on what holes stand for, which it takes by name: where(lambda p, q: ...)."""

    holds: Callable[..., bool]


@dataclass(frozen=True)
class only:
    """The dtypes of the result for which a rule is stated."""

    dtypes: frozenset[DType]


integers, floats, booleans = only(INTEGERS), only(FLOATS), only(frozenset((BOOL,)))


@dataclass(frozen=True)
class example:
    """An example is what the soundness test puts into the holes: shapes for values, attributes and numerals as they are."""

    bindings: dict[str, Any]


def on(**bindings: Any) -> example:
    return example(bindings)


@dataclass(frozen=True)
class Rule:
    """A rule replaces left by right, under conditions. `right` is a pattern, a number, or a function of the holes by name."""

    name: str
    left: Apply
    right: Any
    exact: bool = True
    conditions: tuple[Callable[..., bool], ...] = ()
    dtypes: frozenset[DType] | None = None
    examples: tuple[dict[str, Any], ...] = field(default=(), compare=False)

    def apply(self, node: Node, producers: Producers) -> Value | None:
        """What the rule puts in place of the node's result, emitted into the active builder; None if it does not apply.

        A replacement that is only smaller by broadcasting is broadcast. Raises PassError for a rule whose condition or
        replacement fails, or gives another type: that is a fault of the rule, never of the graph.
        """
        result = node.results[0]
        if self.dtypes is not None and result.dtype not in self.dtypes:
            return None
        for bound in self.left.match(result, producers, {}):
            try:
                if not all(_call(c, bound) for c in self.conditions):
                    continue
                made = self._build(bound, result)
                if made.dtype == result.dtype:
                    made = broadcast_to(made, result.shape)
            except SizeError:  # whether it applies is not known before the sizes are
                continue
            except Exception as error:
                raise self._fault(node, f"{type(error).__name__}: {error}") from error
            if made.type != result.type:
                if result.type.symbolic:  # the same size written in another way
                    continue
                raise self._fault(node, f"it gives {made.type}")
            return made
        return None

    def _fault(self, node: Node, what: str) -> PassError:
        operands = ", ".join(str(v.type) for v in node.operands)
        return PassError(f"the rule {self.name!r} fails on {node.op} of {operands}, which gives {node.results[0].type}: {what}")

    def _build(self, bound: Bindings, result: Value) -> Value:
        right = self.right
        made = _call(right, bound) if not isinstance(right, Pattern) and callable(right) else build(as_pattern(right), bound)
        return made if isinstance(made, Value) else full(result.type, made)


def build(pattern: Pattern, bound: Bindings) -> Any:
    """The value of a pattern under bindings, emitted; numbers stay numbers, which take the dtype of what they meet."""
    if isinstance(pattern, Hole | Numeral):
        found = bound[pattern.name]
        return found.item() if isinstance(found, np.generic) else found
    if isinstance(pattern, Number):
        return pattern.value
    assert isinstance(pattern, Apply)
    return REGISTRY[pattern.name](**{k: bound[v.name] if hasattr(v, "name") else v for k, v in pattern.attributes})(  # type: ignore[operator]
        *(build(p, bound) for p in pattern.operands))


def _call(fn: Callable[..., Any], bound: Bindings) -> Any:
    """The result of fn on the holes that its parameters name."""
    return fn(*(bound[name] for name in _parameters(fn)))


def _parameters(fn: Callable[..., Any]) -> tuple[str, ...]:
    found = _PARAMETERS.get(fn)
    if found is None:
        found = _PARAMETERS[fn] = tuple(inspect.signature(fn).parameters)
    return found


_PARAMETERS: dict[Callable[..., Any], tuple[str, ...]] = {}


def rules(*table: tuple[Any, ...]) -> tuple[Rule, ...]:
    """Rules from rows (name, left, right, options...); options are `inexact`, `where`, `only`, `on`."""
    made = []
    for name, left, right, *options in table:
        exact = not any(isinstance(o, _Inexact) for o in options)
        conditions = tuple(o.holds for o in options if isinstance(o, where))
        dtypes = next((o.dtypes for o in options if isinstance(o, only)), None)
        examples = tuple(o.bindings for o in options if isinstance(o, example))
        made.append(Rule(name, left, right, exact, conditions, dtypes, examples))
    return tuple(made)
