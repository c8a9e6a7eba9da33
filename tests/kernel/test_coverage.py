"""The proof that kernels write every element once and read what is there: it holds of all kernels that are made, and of no spoiled one."""

import dataclasses

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import VerifyError
from nagraph.kernel.affine import Affine
from nagraph.kernel.column_split import columns, split_columns
from nagraph.kernel.context import array_constants
from nagraph.kernel.counting import count_stores
from nagraph.kernel.coverage import Footprint, cover
from nagraph.kernel.form import Kernel, Load, Read, Stage, Store
from nagraph.kernel.index_sets import EMPTY, IndexSet, index_set
from nagraph.kernel.layout import row_major
from nagraph.kernel.lower import lower
from nagraph.nn import functional as F
from nagraph.pipeline import Pipeline
from tests.kernel.test_lower import SAMPLES
from tests.support import graph_of

EXPANDED = Pipeline.parse("expand,canonicalize,simplify,fold_constants,cse,dce")


def regions(values):
    return [Footprint(v.shape, *row_major(v.shape)) for v in values]


def made(graph):
    """The kernel of a graph, its operands and its results."""
    return lower(graph), regions([*graph.inputs, *array_constants(graph)]), regions(graph.outputs)


def of(fn, *shapes):
    return made(EXPANDED(ng.trace(fn, *(ng.spec(s, "float32") for s in shapes))))


def changed(kernel, number, **parts):
    """The kernel with other parts of one stage."""
    stages = [dataclasses.replace(s, **parts) if n == number else s for n, s in enumerate(kernel.stages)]
    return dataclasses.replace(kernel, stages=tuple(stages))


def spoiled(index):
    """Other indices that can't reach the same places, if there are several."""
    yield index._replace(offset=index.offset + 1)
    yield index._replace(offset=index.offset - 1)
    for n, (atom, c) in enumerate(index.terms):
        yield index._replace(terms=(*index.terms[:n], *index.terms[n + 1:]))
        yield index._replace(terms=(*index.terms[:n], (atom, c + 1), *index.terms[n + 1:]))


@pytest.mark.parametrize("op, i, operands", SAMPLES, ids=[f"{op}/{i}" for op, i, _ in SAMPLES])
def test_a_kernel_whose_store_is_moved_is_refused(op, i, operands):
    kernel, inputs, outputs = made(graph_of(op, [np.asarray(o) for o in operands]))
    assert cover(kernel, inputs, outputs) == []
    for number, stage in enumerate(kernel.stages):
        for n, store in enumerate(stage.stores):
            if any(a < 0 for a, _ in store.index.terms) or 0 in kernel.axes:
                continue
            for index in spoiled(store.index):
                stores = (*stage.stores[:n], dataclasses.replace(store, index=index), *stage.stores[n + 1:])
                with pytest.raises(VerifyError):
                    cover(changed(kernel, number, stores=stores), inputs, outputs)
            with pytest.raises(VerifyError, match="is never written"):
                cover(changed(kernel, number, stores=()), inputs, outputs)
            with pytest.raises(VerifyError, match="is written twice"):
                cover(changed(kernel, number, stores=(*stage.stores, store)), inputs, outputs)


KERNELS = {
    "softmax": (lambda x: F.softmax(x), (8, 33)),
    "layer norm": (lambda x, g, b: F.layer_norm(x, g, b), (6, 48), (48,), (48,)),
    "product": (lambda x, w, b: np.tanh(x @ w + b), (8, 5), (5, 7), (7,)),
    "padding": (lambda x: np.pad(np.tanh(x), ((1, 2), (0, 3))), (5, 6)),
    "windows": (lambda x: F.max_pool(x, 3, stride=2, padding=1), (2, 3, 9, 9)),
    "running": (lambda x: np.cumsum(x, 1), (3, 17, 2)),
    "joined": (lambda x, y: np.concatenate([x, np.exp(y), x], -1), (3, 4), (3, 5)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_reads_outside_of_operands_and_tiles_are_refused(name):
    kernel, inputs, outputs = of(*KERNELS[name])
    found = 0
    for number, stage in enumerate(kernel.stages):
        for n, i in enumerate(stage.body):
            if isinstance(i, (Load, Read)):
                for far in (-10**6, 10**6):
                    body = (*stage.body[:n], dataclasses.replace(i, index=i.index._replace(offset=far)), *stage.body[n + 1:])
                    with pytest.raises(VerifyError, match="but the elements are from"):
                        cover(changed(kernel, number, body=body), inputs, outputs)
                    found += 1
            if isinstance(i, Load) and i.mask is not None:
                body = (*stage.body[:n], dataclasses.replace(i, mask=None), *stage.body[n + 1:])
                with pytest.raises(VerifyError, match="but the elements are from"):
                    cover(changed(kernel, number, body=body), inputs, outputs)
    assert found


@pytest.mark.parametrize("name", ["softmax", "layer norm", "product"])
def test_tiles_are_written_whole_before_they_are_read(name):
    kernel, inputs, outputs = of(*KERNELS[name])
    for number, stage in enumerate(kernel.stages):
        for kind in ("folds", "writes"):
            if getattr(stage, kind):
                with pytest.raises(VerifyError, match="where no stage has written before"):
                    cover(changed(kernel, number, **{kind: ()}), inputs, outputs)


def by_hand(axes, grid, stores, size):
    """A kernel that stores one operand's first element at the given places."""
    body = (Load(0, Affine(), np.dtype("f4")),)
    stages = [Stage(loops, 0, body, stores=(Store(1, index, 0),)) for loops, index in stores]
    return cover(Kernel(axes, grid, (np.dtype("f4"),) * 2, 1, (), tuple(stages)), [Footprint((1,), 0, (1,))], [Footprint((size,), 0, (1,))])


def test_places_that_have_no_form_are_looked_at_one_by_one():
    assert by_hand((2, 3), 2, [((), Affine(0, ((0, 3), (1, 1))))], 6) == []
    assert by_hand((3, 2), 2, [((), Affine(0, ((0, 2), (1, 1))))], 6) == []
    with pytest.raises(VerifyError, match="meets a place 2 times"):
        by_hand((3, 3), 2, [((), Affine(0, ((0, 2), (1, 1))))], 7)
    with pytest.raises(VerifyError, match="is never written"):  # each place once, with a gap at 1
        by_hand((2, 2), 2, [((), Affine(0, ((0, 2), (1, 3))))], 6)


def test_several_stores_that_fill_a_result_together():
    even, odd = ((2,), Affine(0, ((2, 2),))), ((2,), Affine(1, ((2, 2),)))
    assert by_hand((1, 1, 4), 0, [even, odd], 8) == []
    with pytest.raises(VerifyError, match="place 1 is never written"):
        by_hand((1, 1, 4), 0, [even], 8)
    with pytest.raises(VerifyError, match="place 0 is written twice or more"):
        by_hand((1, 1, 4), 0, [even, even], 8)


def test_images_of_equal_places_are_equal():
    assert index_set(0, [(12, 2), (4, 3), (1, 4)]) == index_set(0, [(1, 24)]) == IndexSet(0, ((1, 24),))
    assert index_set(23, [(-1, 24)]) == index_set(0, [(1, 24)]) and index_set(5, [(3, 0), (1, 2)]) == EMPTY
    assert index_set(0, [(0, 2)]) is None and index_set(0, [(2, 3), (3, 3)]) is None and index_set(7, [(0, 1)]) == IndexSet(7, ())


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4)])
def test_a_result_in_any_order_and_inside_a_larger_value(shape):
    graph = ng.trace(lambda x: x * 2, ng.spec(shape, "float32"))
    for order in np.ndindex(*[len(shape)] * len(shape)):
        if len(set(order)) < len(shape):
            continue
        whole = np.zeros([n + 2 for n in shape]).transpose(order)
        strides = tuple(s // 8 for s in np.zeros([whole.shape[order.index(a)] for a in range(len(shape))]).transpose(order).strides)
        written = row_major(shape)._replace(offset=1, strides=strides)
        region = Footprint(shape, *written)
        if region.places is None:
            continue
        kernel = lower(graph, None, [written])
        assert cover(kernel, regions(graph.inputs), [region]) == []
        with pytest.raises(VerifyError):
            cover(kernel, regions(graph.inputs), [region._replace(offset=2)])


def test_kernels_in_panels_write_what_they_wrote():
    kernel, inputs, outputs = of(lambda x, w, b: F.relu(x @ w + b), (5, 7), (7, 24), (24,))
    for width in (1, 2, 3, 8, 12):
        assert columns(kernel) and cover(split_columns(kernel, width), inputs, outputs) == []


def test_places_that_are_data_are_counted():
    def update(x, u, i):
        return ng.numpy.add_at(x, i, u)

    graph = ng.trace(update, ng.spec((6, 5), "float32"), ng.spec((40, 5), "float32"), ng.spec((40,), "int8"))
    kernel, inputs, outputs = made(graph)
    assert cover(kernel, inputs, outputs) == []
    (counts,) = count_stores(kernel, [r.hull[1] for r in (*inputs, *outputs)])
    assert counts.sum() == 30 + 200 and counts.min() >= 1
    copy, walk = kernel.stages
    with pytest.raises(VerifyError, match="is never written"):
        cover(dataclasses.replace(kernel, stages=(walk,)), inputs, outputs)
    (store,) = walk.stores
    far = dataclasses.replace(store, index=store.index._replace(offset=store.index.offset + 1))
    spoiled_walk = dataclasses.replace(kernel, stages=(copy, dataclasses.replace(walk, stores=(far,))))
    assert any("is written" in line for line in cover(spoiled_walk, inputs, outputs)), "open, since no data are known"
    with pytest.raises(VerifyError, match="the kernel reads element 30 of operand 3, which has 30"):
        count_stores(spoiled_walk, [r.hull[1] for r in (*inputs, *outputs)])
