"""Op: one frozen dataclass in one place; its fields are its attributes, its methods all its rules.

Every rule that an op does not define raises MissingRuleError naming the op: there is no silent default.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast, dataclass_transform

import numpy as np

from nagraph.errors import MissingRuleError, TypeRuleError
from nagraph.ir.axes import AxisRelation
from nagraph.ir.cached import cached_property
from nagraph.ir.sizes import Dim, dims
from nagraph.ir.types import TensorType, too_large

if TYPE_CHECKING:
    from nagraph.ir.graph import Graph
    from nagraph.ir.node import Value

Array = np.ndarray[Any, Any]
#: A part of a tensor: on each axis from one index up to another.
Box = tuple[tuple[int, int], ...]


def whole(shape: Sequence[int]) -> Box:
    """The box that is all of a tensor."""
    return tuple((0, n) for n in shape)


class Cost(NamedTuple):
    """What one evaluation costs: arithmetic operations, and how many of them are transcendental."""

    flops: float = 0.0
    transcendental: float = 0.0


class ResidualForm(NamedTuple):
    """A way to differentiate an op that saves values: another op for the forward pass, a function for the backward pass.

    `forward` gives the op's results and then the residuals; `backward(residuals, cotangents, operands)` emits the cotangents
    of the operands.
    """

    forward: Op
    backward: Callable[[tuple[Value, ...], tuple[Value | None, ...], tuple[Value, ...]], tuple[Value | None, ...]]


def _no_reference(op: Op, *operands: Any) -> Any:
    raise MissingRuleError(f"op {op.name} has no NumPy reference")


class GraphAttribute:
    """The base of `Graph`, by which an op finds its attributes that are graphs. Graphs are made of ops, so no op can import them."""

    __slots__ = ()


class Op:
    """Base of all ops. A subclass is made by the decorator `@op` and found by its name.

    Rules: `infer` (type), `reference` (NumPy), `vjp` and `jvp` (derivative), `batch` (vmap),
    `cost`, `samples` (inputs for the tests). Rules are written with op functions on Values.
    Its `str` is its text, which `nagraph.ir.printer` writes.
    """

    name: ClassVar[str] = ""
    #: The version of its attributes, by the rule in docs/text-form.md: raised when their names, types or meaning change.
    version: ClassVar[int] = 1
    #: True where a node does more than compute its results.
    effect: ClassVar[bool] = False
    #: True where computing a node can end the call with an error that depends on data.
    can_fail: ClassVar[bool] = False
    #: True where programs compute it on the host, by its reference with whole arrays; None: where it has no rule for kernels.
    host: ClassVar[bool | None] = None
    #: True where data decides how often a region runs.
    loops_by_data: ClassVar[bool] = False
    #: True where the results may be views of the first operand.
    view: ClassVar[bool] = False
    #: Roughly the machine's instructions for one element of the result, operands apart: 0 where elements only move.
    weight: ClassVar[int] = 0
    #: Instructions beside these that are compiled, but run for few elements: the way of large angles.
    rare_weight: ClassVar[int] = 0
    #: False for ops whose attributes may be large, so that comparing them costs more than inferring their results' types.
    small: ClassVar[bool] = True
    #: True where an element of the result combines many of the operands': see `nagraph.ops.folding`.
    folds: ClassVar[bool] = False
    #: True where such an element is a sum of products, of which a matrix product may be made.
    contracts: ClassVar[bool] = False
    #: True where the result is to be in memory: what reads it does not compute it again.
    stores: ClassVar[bool] = False
    #: True where fusion ends: what reads the result shares no kernel with what makes it.
    ends_fusion: ClassVar[bool] = False

    @classmethod
    def upgraded(cls, attributes: dict[str, Any], version: int) -> dict[str, Any]:
        """The attributes as they are now, of an op that was written at an earlier version of them."""
        raise MissingRuleError(f"op {cls.name} can't read its attributes of version {version}; it has version {cls.version}")

    def infer(self, *operands: Any, **_: Any) -> TensorType | tuple[TensorType, ...]:
        """The result types for operands of these types; raises TypeRuleError."""
        raise MissingRuleError(f"op {self.name} has no type rule")

    def result_types(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """What `infer` gives, as a tuple, asked once for these types; TypeRuleError as well if there can be no array of such a type."""
        known = self._inferred
        types = known.get(operands)
        if types is None:
            found = self.infer(*operands)
            types = (found,) if isinstance(found, TensorType) else found
            if not isinstance(types, tuple) or not all(isinstance(t, TensorType) for t in types):
                raise TypeRuleError(f"{self.name}: its infer gives a TensorType, or a tuple of them, got {found!r}")
            for t in types:
                if not t.possible:
                    raise TypeRuleError(f"{self.name}: {too_large(t)}")
            keep(known, operands, types)
        return types

    @cached_property
    def _inferred(self) -> dict[tuple[TensorType, ...], tuple[TensorType, ...]]:
        """The results' types by those of operands; one dict for all equal ops, but for those that hold graphs or arrays."""
        if not self.small:
            return {}
        try:
            found = _INFERRED.get(self._key)
        except TypeError:
            shown = ", ".join(f"{name}={value!r:.60}" for name, value in self.attributes().items())
            raise TypeRuleError(f"{self.name}: attributes must be hashable (tuples in place of lists), got {shown}") from None
        if found is None:
            found = {}
            keep(_INFERRED, self._key, found)
        return found

    @cached_property
    def axis_facts(self) -> dict[tuple[TensorType, ...], Any]:
        """What `nagraph.analysis.axes` found out about the axes, by the types of operands."""
        return {}

    #: reference(*operands): the results computed by NumPy, one array or a tuple of arrays. A method or a ufunc.
    reference: ClassVar[Any] = _no_reference

    def evaluate(self, *arrays: Array) -> Any:
        """The results for these arrays, by the reference. Ops that are called as functions check the types and give the inferred dtypes."""
        return self.reference(*arrays)

    def shown(self, x: Array) -> Array:
        """The view of an array that the result of a view op is; no element is read."""
        view: Array = self.reference(x)
        return view

    def into(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Callable[..., Any]:
        """The reference as a function f(*operands, *results, *scratch) that writes into the arrays of its results.

        Here the reference and a copy; ops for which NumPy computes in place of a given array say so.
        """
        count, reference = len(operands), self.reference

        def write(*arrays: Array) -> None:
            found = reference(*arrays[:count])
            for result, y in zip(arrays[count:], found if isinstance(found, tuple) else (found,)):
                np.copyto(result, y, casting="unsafe")

        return write

    def scratch(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """Arrays that `into` wants for the time of its call, contents undefined."""
        return ()

    def in_place(self, count: int) -> Sequence[int]:
        """Which of `count` operands may share the bytes of the (one) result while `into` writes it."""
        return ()

    def axis_relations(self, *operands: Any, **_: Any) -> tuple[AxisRelation, ...] | None:
        """For operands of these types, how the axes of the (one) result come from those of each operand (`nagraph.ir.axes`).

        An axis of the result goes with an axis of an operand if their indices are always equal, and each index is treated alike.
        None: the op does not say so, and its nodes are parts of no fused region.
        """
        return None

    def with_sizes(self, result: TensorType, *operands: Any, **_: Any) -> Op:
        """The op for a result and operands of these types, in which axes that go with one another have another size than before.

        The op itself, unless its attributes say sizes. So fused regions run on a part of their rows.
        """
        return self

    def when_known(self) -> Op:
        """The op to stand for this one once its sizes are known: itself, unless it was but a place for them."""
        return self

    def in_order(self, order: tuple[int, ...]) -> Op | None:
        """The op for operands whose axes stand in this order (operands of fewer axes aligned as in broadcasting); None if it does not say.

        The axes of its result stand in that order too, but for those that it takes away.
        """
        return None

    def operand_shown(self, y: Array, x: TensorType) -> Array | None:
        """For views: how the operand, of type x, lies in memory if the result lies as y does; None if y does not tell."""
        return None

    def parts(self, *operands: Any, **_: Any) -> Sequence[Box] | None:
        """The boxes of the (one) result in which the operands stand as they are; None for ops that do more than to join and to pad.

        What none of them covers is `filling`.
        """
        return None

    @property
    def filling(self) -> float:
        """What fills the result beside its `parts`."""
        return 0.0

    def updates(self, result: int) -> int | None:
        """The operand that a result is, but for some of its elements: in the bytes of the operand these alone are written.

        None where there is no such operand.
        """
        return None

    def element(self, k: Any, operands: tuple[Value, ...], index: tuple[Any, ...]) -> int:
        """The instruction that gives the result's element at an index: how kernels are made (`nagraph.kernel.elements`)."""
        raise MissingRuleError(f"op {self.name} has no rule for one element, so no kernel can hold it")

    def scalar(self, s: Any, *operands: Any, **_: Any) -> Any:
        """The result for one element of each operand, written with the builder `s` (`nagraph.ir.scalar`)."""
        raise MissingRuleError(f"op {self.name} has no scalar form")

    def vjp(
        self, cotangents: tuple[Value | None, ...], results: tuple[Value, ...], operands: tuple[Value, ...]
    ) -> tuple[Value | None, ...]:
        """Cotangents of the operands (None is zero) from those of the results (None is zero)."""
        raise MissingRuleError(f"op {self.name} has no reverse derivative (vjp)")

    def residual_form(self, operands: tuple[TensorType, ...]) -> ResidualForm | None:
        """How reverse mode saves values of the forward pass; None where `vjp` needs none beside operands and results."""
        return None

    def plus(self, operands: tuple[Value, ...], other: Op, others: tuple[Value, ...]) -> Value | None:
        """The sum of cotangents that this op and `other` made of their operands, where it takes less than an addition; else None.

        A zero of the sum may have either sign.
        """
        return None

    def jvp(
        self, tangents: tuple[Value | None, ...], results: tuple[Value, ...], operands: tuple[Value, ...]
    ) -> tuple[Value | None, ...]:
        """Tangents of the results from those of the operands (None is zero)."""
        raise MissingRuleError(f"op {self.name} has no forward derivative (jvp)")

    def batch(self, size: int, operands: tuple[Value, ...], batched: tuple[bool, ...]) -> tuple[Value, ...]:
        """The results for `size` examples at once, stacked on axis 0; batched operands have theirs on axis 0."""
        raise MissingRuleError(f"op {self.name} has no batching rule (vmap)")

    def narrow(self, box: Box, *operands: Any) -> tuple[Op, Sequence[Box]] | None:
        """How a part of the (one) result is computed from parts of operands of these types: the op that does it, and their boxes.

        None where it takes the whole operands; that is so unless an op says more.
        """
        return None

    def narrow_results(self, boxes: Sequence[Box], *operands: Any) -> tuple[Op, Sequence[Box]] | None:
        """How parts of all results are computed from parts of the operands: `narrow` for ops of one result, None for others."""
        return self.narrow(boxes[0], *operands) if len(boxes) == 1 else None

    def cost(self, *operands: Any, **_: Any) -> Cost:
        """Operations of one evaluation."""
        raise MissingRuleError(f"op {self.name} has no cost")

    def samples(self, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
        """Tuples of operands for the tests that follow from the class."""
        raise MissingRuleError(f"op {self.name} has no samples")

    @cached_property
    def has_effect(self) -> bool:
        """Whether its nodes must stay, as many as they are and in their order, also where nobody uses their results.

        It is so if the op has an effect, or one in its regions has.
        """
        return self.effect or any(n.op.has_effect for g in self.regions.values() for n in g.nodes)

    @cached_property
    def may_end_the_call(self) -> bool:
        """Whether the op can fail, or one in its regions can."""
        return self.can_fail or any(g.may_end_the_call for g in self.regions.values())

    @cached_property
    def on_host(self) -> bool:
        """Whether programs compute it by its NumPy reference, as a step of their own between kernels."""
        return not (self.regions or self.has_element) if self.host is None else self.host

    @cached_property
    def may_raise(self) -> bool:
        """Whether computing it can raise an error, its own or, on the host, any: donated arguments are written after it."""
        return self.can_fail or self.on_host or any(g.may_raise for g in self.regions.values())

    @property
    def fused(self) -> bool:
        """Whether it is the call of a fused region."""
        return False

    @cached_property
    def has_element(self) -> bool:
        """Whether a kernel can compute any one element of the result, and so write the result by any strides."""
        return not self.host and (self.folds or type(self).element is not Op.element)

    # -- attributes ---------------------------------------------------------------------------

    def attributes(self) -> dict[str, Any]:
        """The fields by name, in the order of their definition."""
        return {f: getattr(self, f) for f in self._fields()}

    @classmethod
    @functools.cache
    def _fields(cls) -> tuple[str, ...]:
        return tuple(f.name for f in dataclasses.fields(cls))  # type: ignore[arg-type]

    @cached_property
    def regions(self) -> dict[str, Graph]:
        """The attributes that are graphs. Nobody may change this dict."""
        return {k: cast("Graph", v) for k, v in self.attributes().items() if isinstance(v, GraphAttribute)}

    @cached_property
    def dims(self) -> tuple[Dim, ...]:
        """The dimensions of sizes among its attributes, but for those of regions."""
        values = [getattr(self, f) for f in type(self)._fields()]
        return dims([v.shape if isinstance(v, TensorType) else v for v in values]) if values else ()

    def with_attributes(self, **changes: Any) -> Op:
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def key(self) -> tuple[Any, ...]:
        """The op's identity: its class and the bits of its attributes (0.0 is not -0.0, 1 is not True)."""
        return self._key

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return type(self), *[attribute_key(getattr(self, f)) for f in type(self)._fields()]

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Op) and self.key() == other.key())

    def __hash__(self) -> int:
        return hash(self.key())


def attribute_key(value: Any) -> Any:
    """A hashable that is equal for attributes equal in type and bits."""
    if isinstance(value, float):
        return (float, value.hex() if value == value else "nan")
    if isinstance(value, tuple):
        return (tuple, *[attribute_key(v) for v in value])
    return (type(value), value)


@functools.lru_cache(4096)
def shared(kind: Any, *attributes: Any) -> Any:
    """The op of a class with these attributes (Python's integers, dtypes, tuples of them), made once: so its types are inferred once."""
    return kind(*attributes)


def keep(known: dict[Any, Any], key: Any, value: Any, most: int = 1024) -> None:
    """Put what was found out into a dict of such things, which is emptied where it has grown large."""
    if len(known) >= most:
        known.clear()
    known[key] = value


REGISTRY: dict[str, type[Op]] = {}
_INFERRED: dict[tuple[Any, ...], dict[tuple[TensorType, ...], tuple[TensorType, ...]]] = {}

T = TypeVar("T", bound=type[Op])


@dataclass_transform(frozen_default=True, eq_default=False)
def op(cls: T) -> T:
    """Make an op of a class: freeze its fields, name it (`DotGeneral` is `dot_general`), register it."""
    made = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    if "name" not in cls.__dict__:
        made.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    if made.name in REGISTRY:
        raise ValueError(f"an op named {made.name} exists: {REGISTRY[made.name]}")
    REGISTRY[made.name] = made
    return made  # type: ignore[return-value]
