"""Lowering: kernels mean what their graphs mean, and have the stages that one would write by hand."""

import numpy as np
import pytest

import nagraph as ng
from nagraph import choices
from nagraph.errors import VerifyError
from nagraph.ir.interpret import interpret
from nagraph.kernel.context import array_constants
from nagraph.kernel.form import Kernel, Load, Stage, Store
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.lower import lower
from nagraph.kernel.order import with_orders
from nagraph.kernel.sharing import may_share
from nagraph.kernel.verify import verify_kernel
from nagraph.ops.labels import CheckLabels
from nagraph.ops.sorting import Argsort, Sort
from nagraph.pipeline import Pipeline
from tests.ir.corpus import WITH_ATTRIBUTES
from tests.support import graph_of, own_ops

EXPANDED = Pipeline.parse("canonicalize,simplify,fold_constants,cse,dce,expand,canonicalize,simplify,fold_constants,cse,dce")
RNG = np.random.default_rng(0)
SAMPLES = [(op, i, operands) for op in [*(cls() for cls in own_ops().values() if not cls._fields()), *WITH_ATTRIBUTES]
           if not isinstance(op, (Sort, Argsort, CheckLabels)) for i, operands in enumerate(op.samples(np.random.default_rng(0)))]


def traced(fn, *shapes):
    return EXPANDED(ng.trace(fn, *(ng.spec(s, "float32") for s in shapes)))


def check(graph, arrays):
    """The kernel is well formed, and interpreted it gives what the graph gives."""
    kernel = lower(graph)
    arrays = [np.asarray(a, order="C") for a in arrays]
    constants = [graph.producers[v].op.array for v in array_constants(graph)]
    outputs = [np.zeros(v.shape, v.dtype) for v in graph.outputs]
    everything = [*arrays, *constants, *outputs]
    verify_kernel(kernel, {i: a.size for i, a in enumerate(everything)})
    interpret_kernel(kernel, everything[:len(everything) - len(outputs)], outputs)
    for got, want in zip(outputs, interpret(graph, arrays)):
        if want.dtype.kind == "f" or want.dtype.itemsize == 2:
            tolerance = {2: 1e-2, 4: 1e-5, 8: 1e-12}[want.dtype.itemsize]
            np.testing.assert_allclose(got.astype("f8"), want.astype("f8"), rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(got, want)
    return kernel


@pytest.mark.parametrize("op, i, operands", SAMPLES, ids=[f"{op}/{i}" for op, i, _ in SAMPLES])
def test_every_op(op, i, operands):
    arrays = [np.asarray(o) for o in operands]
    check(graph_of(op, arrays), arrays)


def test_softmax_is_two_folds_and_a_map_over_a_row():
    kernel = check(traced(lambda x: ng.nn.functional.softmax(x), (8, 32)), [RNG.normal(size=(8, 32)).astype("f4")])
    assert kernel.axes[:kernel.grid] == (8,)
    assert [[f.op.name for f in s.folds] for s in kernel.stages] == [["max"], ["sum"], []]
    # exp is computed once: kept in a tile beside its sum, read in the last stage.
    assert str(kernel).count("exp(") == 1 and [t.size for t in kernel.tiles].count(32) == 1


def test_numbers_of_a_whole_row_do_not_make_a_tile_worth_its_memory():
    """Cheap per element: x + y, less the row's sum. What follows from the sum alone is computed before the loop, however much it is."""
    def fn(x, y):
        total = np.sum(x + y, axis=1, keepdims=True)
        deviation = x + y - np.tanh(np.exp(total) + np.log(total) * np.sqrt(total) + 1) / total
        return deviation * np.sum(deviation, axis=1, keepdims=True)

    arrays = [RNG.uniform(1, 2, (8, 32)).astype("f4") / 32 for _ in range(2)]
    assert [t.size for t in check(traced(fn, (8, 32), (8, 32)), arrays).tiles] == [1, 1, 1]


def test_layer_norm_reads_its_row_and_stores_it_once():
    def fn(x, g, b):
        return ng.nn.functional.layer_norm(x, g, b)

    kernel = check(traced(fn, (6, 48), (48,), (48,)), [RNG.normal(size=s).astype("f4") for s in ((6, 48), (48,), (48,))])
    assert sum(len(s.stores) for s in kernel.stages) == 1


def test_a_product_is_a_fold_of_products_then_what_follows():
    kernel = check(traced(lambda x, w, b: np.tanh(x @ w + b), (8, 5), (5, 7), (7,)),
                   [RNG.normal(size=s).astype("f4") for s in ((8, 5), (5, 7), (7,))])
    product, after = kernel.stages
    assert product.folds[0].op is None and product.reduced == 1 and len(product.body) == 2
    assert len(after.stores) == 1 and not after.folds


def test_movement_is_nothing_but_an_index():
    def fn(x):
        return np.transpose(np.reshape(x, (4, 8, 2, 16)), (0, 2, 1, 3)) * 2

    kernel = check(traced(fn, (4, 8, 32)), [RNG.normal(size=(4, 8, 32)).astype("f4")])
    (stage,) = kernel.stages
    assert [i for i in stage.body if isinstance(i, Load)] == [Load(0, stage.body[0].index, stage.body[0].dtype)]


def test_axes_that_are_walked_as_one_become_one():
    kernel = check(traced(lambda x: np.exp(x) + 1, (4, 8, 32)), [RNG.normal(size=(4, 8, 32)).astype("f4")])
    assert kernel.axes == (4 * 8 * 32,)


@pytest.mark.parametrize("n", [1, 3, 16, 31])
def test_shapes_of_all_sizes(n):
    for fn, *shapes in [
        (lambda x, b: ng.nn.functional.softmax(x + b), (5, n), (n,)),
        (lambda x: x.sum((0, 2)), (7, n, 3)),
        (lambda x, y: np.einsum("bqd,bkd->bqk", x, y), (2, 4, n), (2, 5, n)),
        (lambda x: np.cumsum(x, 1), (3, n, 2)),
        (lambda x: np.pad(x, ((1, 2), (3, 0))) * 2, (n, 4)),
        (lambda x, y: np.concatenate([x, y, x], -1), (3, n), (3, 5)),
        (lambda x: x[:, ::-1][:, ::2] * 1.5, (3, n)),
    ]:
        check(traced(fn, *shapes), [RNG.normal(size=s).astype("f4") for s in shapes])


def test_a_running_sum_begins_where_a_row_does():
    """Other numbers of rows are refused, also when they are tried first."""
    graph = traced(lambda x: np.cumsum(x, axis=1), (4, 6))
    with choices.using("forbid=rows"):
        kernel = check(graph, [RNG.normal(size=(4, 6)).astype("f4")])
    assert kernel.axes[:kernel.grid] == (4,)


def test_a_result_may_stand_where_its_operand_stood_if_each_row_is_read_before_it_is_written():
    softmax = lower(traced(lambda x: ng.nn.functional.softmax(x), (8, 32)))
    shifted = lower(traced(lambda x: x[::-1] * 2, (8, 32)))
    product = lower(traced(lambda x, w: x @ w, (8, 8), (8, 8)))
    assert may_share(softmax, 0, 0)
    assert not may_share(shifted, 0, 0)
    assert not may_share(product, 0, 0)


def malformed(change):
    kernel = lower(traced(lambda x: ng.nn.functional.softmax(x), (8, 32)))
    return change(kernel)


@pytest.mark.parametrize("change, message", [
    (lambda k: Kernel(k.axes, k.grid, k.operands, k.outputs, k.tiles, k.stages[1:]), "reads tile 0 before it is written"),
    (lambda k: Kernel(k.axes, k.grid, k.operands, 0, k.tiles, k.stages), "stores into operand 1; outputs are 2"),
    (lambda k: with_orders(Kernel((8, 33), k.grid, k.operands, k.outputs, k.tiles, k.stages)), "there are 32 elements"),
    (lambda k: Kernel(k.axes, k.grid, k.operands, k.outputs, k.tiles, (Stage((), 0, k.stages[0].body, k.stages[0].folds),)),
     "axis 1, which it can't see"),
    (lambda k: Kernel(k.axes, k.grid, k.operands, k.outputs, k.tiles, (Stage((1, 1), 1, ()),)), "are not distinct"),
])
def test_malformed_kernels_are_refused(change, message):
    with pytest.raises(VerifyError, match=message):
        verify_kernel(malformed(change))


def test_a_store_beyond_its_operand_is_refused():
    kernel = lower(traced(lambda x: x + 1, (8, 32)))
    (stage,) = kernel.stages
    moved = Store(1, stage.stores[0].index._replace(offset=1), stage.stores[0].value)
    wrong = Kernel(kernel.axes, 1, kernel.operands, 1, (), (Stage((), 0, stage.body, (), (), (moved,)),))
    verify_kernel(kernel, {1: 256})
    with pytest.raises(VerifyError, match="runs from 1 to 256, but there are 256 elements"):
        verify_kernel(wrong, {1: 256})


def test_what_a_row_has_computed_is_padded_inside_the_row():
    def fn(x):
        y = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        return np.pad(y, ((0, 0), (3, 2))) + np.concatenate([y, np.zeros((4, 5), np.float32)], axis=-1)

    kernel = check(traced(fn, (4, 6)), [RNG.normal(size=(4, 6)).astype("f4")])
    assert kernel.axes[:kernel.grid] == (4,) and "sum" in str(kernel)
