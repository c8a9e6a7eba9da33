"""The kernel planner makes plans whose steps are kernels: movement is layout, a region is one step, kernels say what they may overwrite."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph import choices
from nagraph.analysis.axes import combined, permutation, relations
from nagraph.analysis.live_ranges import views
from nagraph.errors import MissingRuleError
from nagraph.fusion.legality import LARGEST_TILE
from nagraph.fusion.outline import halved
from nagraph.fusion.remark import Listener, Remark
from nagraph.ir.builder import Builder
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.types import TensorType
from nagraph.kernel.context import NotRowLocal, array_constants
from nagraph.kernel.contraction import makes_matrix
from nagraph.kernel.form import Kernel
from nagraph.kernel.layout import StridedLayout, row_major
from nagraph.kernel.lower import lower as lower_kernel
from nagraph.kernel.row_blocks import row_blocks
from nagraph.kernel.scatter import in_float32
from nagraph.kernel.sharing import may_share
from nagraph.kernel.update import lower_update
from nagraph.ops.movement import Broadcast
from nagraph.plan.placement import border, placements
from nagraph.plan.plan import Buffer, Plan
from nagraph.plan.planner import Planner
from nagraph.regions.calls import Call

#: Elements that one thread may compute alone.
SERIAL = 1 << 14


class KernelStep(NamedTuple):
    """A kernel step is a kernel, the values that it reads (whole ones, in the order of its operands), and the constants that it reads
    after them.
    """

    kernel: Kernel
    reads: tuple[Value, ...]
    constants: tuple[np.ndarray[Any, Any], ...]


#: Lowerings of regions' graphs, and their plans, by the identity of the graph and by what they change in place of inputs.
Inner = dict[tuple[Any, ...], tuple["KernelPlanner", Plan]]
#: What nodes were lowered to, by all that it follows from: kernels and the constants that they read, or why there is no kernel.
Lowered = dict[Hashable, tuple[Kernel, tuple[np.ndarray[Any, Any], ...]] | str]
#: What is known of a value that a kernel reads: where its elements are, or the one number that they all are.
Reading = tuple[TensorType, StridedLayout | Constant]
#: A value that is not changed in place is worth copying first if what changes is smaller by this factor.
SMALL = 2


class KernelPlanner(Planner):
    """A kernel planner makes a plan whose steps are kernels. `inner`: the planners and plans of regions. `lowered`: what nodes were
    lowered to, so that nodes that are equal, and read and write memory alike, have one kernel, which is made once.

    refused: values that are to be row-major, with nothing placed in them.
    """

    spreads = False

    def __init__(self, graph: Graph, donations: Mapping[int, int], refused: Collection[Value] = (), inner: Inner | None = None,
                 whole: bool = True, lowered: Lowered | None = None):
        self.refused = refused
        super().__init__(graph, dict(donations), whole)
        self.kernels: dict[Node, KernelStep] = {}
        self.updating: dict[Node, KernelStep | None] = {}
        self.inner: Inner = {} if inner is None else inner
        self.lowered: Lowered = {} if lowered is None else lowered

    def _roots(self) -> dict[Value, Value]:
        self.placed, self.joined = placements(self.graph, self.refused, self.constants)
        self.wholes = {p.whole for p in self.placed.values()}
        self.orders = {v: order for v, order in storage_orders(self.graph).items()
                       if v not in self.placed and v not in self.wholes and v not in self.refused}
        roots, shown = views(self.graph, self.orders, self.placed)
        self.layouts = {v: _layout(a) for v, a in shown.items()}
        return roots

    def step_of(self, node: Node) -> KernelStep | None:
        """The kernel of a node; None for loops, branches and ops without one."""
        op = node.op
        if node in self.joined:
            kernel = border(node, self.layouts.get(node.result, row_major(node.result.shape)))
            return None if kernel is None else KernelStep(kernel, (), ())
        if node not in self.kernels:
            if op.on_host or op.regions and not op.fused:
                return None
            try:
                self.kernels[node] = self._kernel(node)
            except MissingRuleError:
                return None
        return self.kernels[node]

    def refusals(self) -> dict[Node, NotRowLocal]:
        """The nodes that can't be one kernel, or can't write their results where these are placed; with the reasons."""
        found = {}
        for node in self.order:
            if node.op.view and self.roots[node.results[0]] is not node.results[0]:
                continue
            try:
                if self.step_of(node) is None and node.op.fused:
                    found[node] = NotRowLocal("one of its ops has no kernel")
            except NotRowLocal as error:
                found[node] = error
            except Exception as error:
                error.node = node  # type: ignore[attr-defined]
                raise
        return found

    def update_of(self, node: Node) -> KernelStep | None:
        """The kernel of a node that changes its operand where this has the result's bytes; None for other nodes."""
        if node not in self.updating:
            self.updating[node] = None
            if not node.op.regions and node.results and node.op.updates(0) is not None and choices.takes("update", True, str(node.op)):
                graph, layouts = _standalone(node, self._readings(node))
                kernel = lower_update(graph, layouts, self._layout(node.result))
                if kernel is not None:
                    self.updating[node] = KernelStep(kernel, self._reads(node), _constants_read(graph))
        return self.updating[node]

    def _layout(self, v: Value) -> StridedLayout:
        return self.layouts.get(v, row_major(v.shape))

    def _readings(self, node: Node) -> dict[Value, Reading]:
        """How the kernel of a node reads each of its operands."""
        found: dict[Value, Reading] = {}
        for v in node.operands:
            known = self.constants.get(v)
            if known is not None and known.size and (known.size == 1 or not any(known.strides)):
                found[v] = v.type, Constant.of(known.reshape(-1)[:1].reshape(()))
            else:
                found[v] = v.type, row_major(v.shape) if known is not None else self._layout(v)
        return found

    def _reads(self, node: Node) -> tuple[Value, ...]:
        """The whole values that the kernel of a node reads."""
        return tuple(v if v in self.constants else self.roots[v] for v, (_, at) in self._readings(node).items()
                     if isinstance(at, StridedLayout))

    def _kernel(self, node: Node) -> KernelStep:
        """The kernel of a node, which reads whole values by their layouts."""
        readings = self._readings(node)
        number = {v: i for i, v in enumerate(readings)}
        written = tuple(map(self._layout, node.results))
        placed = any(v in self.placed for v in node.results)
        key = node.op, tuple(number[v] for v in node.operands), tuple(readings.values()), written, placed
        if key not in self.lowered:
            try:
                self.lowered[key] = _lowered(node, readings, written, placed)
            except NotRowLocal as error:
                self.lowered[key] = str(error)
        found = self.lowered[key]
        if isinstance(found, str):
            raise NotRowLocal(found)
        return KernelStep(found[0], self._reads(node), found[1])

    def _place(self, t: int, v: Value) -> bool:
        whole = self.placed[v].whole if v in self.placed else v
        if whole not in self.wholes:
            return False
        if whole not in self.slot_of:
            self._new(whole, Buffer("arena", whole.type.nbytes, t, self.last[whole]))
        if v is not whole:
            self._share(v, self.slots[self.slot_of[whole]].buffer, part=self.placed[v].shown)
        return True

    def _joined(self, node: Node) -> bool:
        return node in self.joined

    # -- what depends on how nodes are computed ---------------------------------------------------------------

    def _row_split(self, node: Node) -> None:
        """None: a fused region is a kernel, which needs no row loop."""

    def _nested(self, t: int, node: Node, direct: dict[Value, int]) -> tuple[tuple[Plan, ...], None, dict[int, int]]:
        return (self._regions(node.op) if node.op.regions and not node.op.fused else ()), None, {}

    def _is_whole(self, v: Value) -> bool:
        return self.roots[v] is v and v not in self.wholes

    def _fits(self, x: Value, v: Value) -> bool:
        return x.type.nbytes == v.type.nbytes and x.dtype == v.dtype

    def _takes(self, node: Node, r: int, k: int) -> bool:
        x = node.operands[k]
        if node.op.regions and not node.op.fused:
            return super()._takes(node, r, k) and self._layout(x) == row_major(x.shape)
        if not all(v is x for v in node.operands if self.roots[v] is self.roots[x]):
            return False
        if k == node.op.updates(r) and self.update_of(node) is not None:
            return self._layout(x) == self._layout(node.results[r])
        step = self.step_of(node)
        return step is not None and may_share(step.kernel, step.reads.index(x), r)

    def _writes_over(self, node: Node, r: int, given: Value) -> bool:
        if given in node.operands and self._takes(node, r, node.operands.index(given)):
            return True
        step = self.step_of(node)
        if step is None:
            return not any(self.roots[x] is given for x in node.operands)
        return all(x is not given or may_share(step.kernel, i, r) for i, x in enumerate(step.reads))

    def _changed(self, node: Node, pairs: Mapping[int, int], direct: Mapping[Value, int]) -> int | None:
        if self.update_of(node) is None or node in self.joined or pairs.get(0, 0) != 0:
            return None
        x, update, *_ = node.operands
        small = SMALL * update.type.size <= x.type.size
        if 0 in pairs or self._over_donated(node, direct) or choices.takes("update", small, str(x.type), str(update.type)):
            return 0
        return None

    def _lowered(self, graph: Graph, donations: dict[int, int]) -> Plan:
        key = inner_key(graph, donations)
        if key not in self.inner:
            self.inner[key] = kernel_plan(graph, donations, inner=self.inner, whole=False, lowered=self.lowered)
        return self.inner[key][1]

    def _scratch_types(self, node: Node, nested: Sequence[Plan]) -> list[TensorType]:
        """What a loop needs anywhere, and memory for operands whose layout its regions, or the host, can't read."""
        if not nested and not node.op.on_host:
            return []
        types = super()._scratch_types(node, nested) if nested else []
        for v in node.operands:
            if v not in self.constants and v in self.layouts and self.layouts[v].strides != row_major(v.shape).strides:
                types.append(v.type)
        return types


def inner_key(graph: Graph, donations: Mapping[int, int]) -> tuple[Any, ...]:
    """The key of a region's planner: its graph, and which outputs take the bytes of inputs."""
    return id(graph), *sorted(donations.items())


def kernel_plan(
    graph: Graph, donations: Mapping[int, int], why: Listener | None = None, inner: Inner | None = None, whole: bool = True,
    lowered: Lowered | None = None,
) -> tuple[KernelPlanner, Plan]:
    """The planner of a graph by kernels, and its plan. A fused region that can't be one kernel is halved until each part can; `why`
    hears of it.

    inner, lowered: plans of regions, and kernels, that are known already. whole: whether the graph is that of a call, not of a region.
    """
    graph, refused = in_float32(graph), set[Value]()
    inner, lowered = {} if inner is None else inner, {} if lowered is None else lowered
    while True:
        planner = KernelPlanner(graph, donations, refused, inner, whole, lowered)
        refusals = planner.refusals()
        if not refusals:
            return planner, planner.plan()
        before = len(refused)
        for node in refusals:  # can they not be written there, or not well?
            refused |= {planner.placed[v].whole for v in node.results if v in planner.placed}
            refused |= {v for v in node.results if v in planner.orders}
        if len(refused) > before:
            continue
        calls = [node for node in refusals if node.op.fused]
        if not calls:
            raise next(iter(refusals.values()))
        if why:
            for node in calls:
                why(Remark((node,), False, str(refusals[node])))
        graph = halved(graph, calls)


def _standalone(node: Node, readings: Mapping[Value, Reading]) -> tuple[Graph, list[StridedLayout]]:
    """A node, or the body of a fused region, as a graph of its own; and where its inputs are."""
    layouts: list[StridedLayout] = []
    with Builder() as builder:
        given: dict[Value, Value] = {}
        for v, (_, at) in readings.items():
            if isinstance(at, Constant):
                (number,) = builder.emit(at, ())
                given[v] = number if not v.shape else builder.emit(Broadcast(v.shape), (number,))[0]
            else:
                given[v] = builder.input(v.type)
                layouts.append(at)
        operands = [given[v] for v in node.operands]
        if isinstance(node.op, Call):
            inner = dict(zip(node.op.body.inputs, operands))
            for n in node.op.body.nodes:
                inner.update(zip(n.results, builder.emit(n.op, tuple(inner[v] for v in n.operands))))
            results = [inner[v] for v in node.op.body.outputs]
        else:
            results = list(builder.emit(node.op, tuple(operands)))
        return builder.graph("kernel", results), layouts


def _lowered(node: Node, readings: Mapping[Value, Reading], written: Sequence[StridedLayout], placed: bool
             ) -> tuple[Kernel, tuple[np.ndarray[Any, Any], ...]]:
    """The kernel of a node, and the constants that it reads. placed: whether a result is a part of another value."""
    graph, layouts = _standalone(node, readings)
    # A region of one row would be computed by one thread: apart, its nodes are better off, unless it is small.
    large = isinstance(node.op, Call) and max(v.type.size for v in (*node.operands, *node.results)) > SERIAL
    kernel = lower_kernel(graph, layouts, written, 2 if large else 1, _check_matrices)
    if placed:
        plain = lower_kernel(graph, layouts, [row_major(v.shape) for v in node.results], 2 if large else 1, _check_matrices)
        if _points(plain) != _points(kernel):
            raise NotRowLocal("it would have other rows if its result were a part of another value")
    return kernel, _constants_read(graph)


def storage_orders(graph: Graph) -> dict[Value, tuple[int, ...]]:
    """The order of axes in which to store each value that all its readers transpose alike: then their transpositions cost nothing.

    Kernels that read them as they are may read them in that order as well, if the last axis stays the last. It is for results of
    kernels alone; arguments and results of the graph are row-major.
    """
    found: dict[Value, tuple[int, ...]] = {}
    for node in graph.nodes:
        if node.op.view or (node.op.regions and not node.op.fused):
            continue
        if not (node.op.has_element or node.op.regions) or node.op.effect:
            continue
        for v in node.results:
            shown = {u: permutation(u) for u in graph.uses[v]}
            orders = {order for order in shown.values() if order not in (None, tuple(range(v.ndim)))}
            if len(orders) != 1 or v in graph.output_values:
                continue
            (order,) = orders
            assert order is not None
            others = [u for u in graph.uses[v] if shown[u] != order]
            free = not others or (order[-1] == v.ndim - 1 and all(_reads_in_any_order(u) for u in others))
            legal = free and _writes_in(node, v, order)
            if legal and choices.takes("storage_order", True, len(found), order):
                found[v] = order
    return found


def _reads_in_any_order(node: Node) -> bool:
    """Whether a node reads by the strides of its operands: kernels do, and views that move nothing."""
    if node.op.view:
        return permutation(node) == tuple(range(node.operands[0].ndim))
    return not node.op.regions or node.op.fused


def _writes_in(node: Node, v: Value, order: tuple[int, ...]) -> bool:
    """Whether a kernel writes v in this order as well as in its own: the rows of a matrix product stay rows.

    A product alone may be computed the other way round, if its left operand has unit steps along what are its rows then.
    """
    if order[-1] == v.ndim - 1:
        return True
    nodes = node.op.body.nodes if isinstance(node.op, Call) else (node,)
    products = [n for n in nodes if n.op.contracts]
    if not products:
        return True
    x, given = products[0].operands[0], relations(products[0])
    return len(nodes) == 1 and v.ndim == 2 and order == (1, 0) and given is not None and x.ndim - 1 not in combined(given[0], x.ndim)


def _check_matrices(kernel: Kernel) -> None:
    """NotRowLocal if a kernel computes matrices of several rows at each point of its grid that are larger than memory there is for them."""
    large = any(t.size * t.dtype.itemsize > LARGEST_TILE for t in kernel.tiles)
    if large and any(map(makes_matrix, kernel.stages)) and row_blocks(kernel) is None:
        raise NotRowLocal("its matrices are too large to be computed whole, and do not go in blocks of rows")


def _constants_read(graph: Graph) -> tuple[np.ndarray[Any, Any], ...]:
    """The arrays of constants that the kernel of a graph reads beside its inputs."""
    return tuple(graph.producers[v].op.array for v in array_constants(graph))  # type: ignore[attr-defined]


def _points(kernel: Kernel) -> int:
    return math.prod(kernel.axes[:kernel.grid])


def _layout(shown: np.ndarray[Any, Any]) -> StridedLayout:
    """The layout of a view, from an array that shows it."""
    base: Any = shown
    while getattr(base, "base", None) is not None:  # through what `as_strided` puts between a view and its array as well
        base = base.base
    size = shown.dtype.itemsize
    offset = shown.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return StridedLayout(offset // size, tuple(s // size for s in shown.strides))
