"""Folding ops: each element of the result combines many elements of the operands, one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nagraph.errors import MissingRuleError
from nagraph.ir.graph import Value
from nagraph.ir.op import Op
from nagraph.ir.types import TensorType
from nagraph.ops.base import Primitive

if TYPE_CHECKING:
    from nagraph.ir.types import DType


class Folding(Primitive):
    """An op whose kernels loop. Its rules say over what, which values are combined, and how.

    State and values are tuples of scalars: one for most ops, an element and its index for argmax.
    """

    folds = True
    #: Whether every step of the fold is a result of its own (running sums).
    running: ClassVar[bool] = False
    #: Whether one loop nest may fold this op and others together.
    shares_loops: ClassVar[bool] = False

    def fold_extents(self, *operands: TensorType) -> tuple[int, ...]:
        """The sizes of the loops that an element of the result takes."""
        raise MissingRuleError(f"op {self.name} does not say what it folds over")

    def fold_terms(self, k: Any, operands: tuple[Value, ...], index: Sequence[Any], reduced: Sequence[Any]) -> tuple[int, ...]:
        """The values combined into element `index` of the result at point `reduced` of the loops; 16-bit floats are then widened."""
        raise MissingRuleError(f"op {self.name} does not say what it folds")

    @property
    def fold_op(self) -> Op | None:
        """What combines them: an op with `start` and `combine`; None for a sum of products."""
        return self

    def start(self, s: Any, dtypes: Sequence[DType]) -> tuple[Any, ...]:
        """The state before the first value."""
        raise MissingRuleError(f"op {self.name} has no start")

    def combine(self, s: Any, x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
        """Two states, or a state and values, as one; associative but for rounding."""
        raise MissingRuleError(f"op {self.name} has no combination")

    def most_rows(self, *operands: TensorType) -> int:
        """The largest number of rows that a kernel may cut the result into."""
        result = self.infer(*operands)
        assert isinstance(result, TensorType)
        return max(1, math.prod(result.shape))
