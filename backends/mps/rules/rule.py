"""A rule: how MLX computes an op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Array = Any


class Rule(NamedTuple):
    """call(m, op, *operands) -> its result, or a list of them, by the calls of MLX that m makes (`nagraph.backends.mps.translate`).

    16-bit operands of ops that compute in float32 come in float32, and the result is rounded, unless `narrow`: MLX does so itself.
    """

    call: Callable[..., Any]
    narrow: bool = False


def named(function: str) -> Rule:
    """The function of MLX of this name, which computes the op as it is."""
    return Rule(lambda m, op, *xs: getattr(m, function)(*xs))
