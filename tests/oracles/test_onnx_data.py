"""ONNX models whose course or whose indices are data: loops, branches, random bits, reading and writing, orders, integers."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.export.to_onnx import registry
from tests.oracles.test_onnx import F32, agree, drawn, operators, ran

xp, F = ng.numpy, ng.nn.functional


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "m.onnx"


def inner(model: Any, operator: str) -> list[list[str]]:
    """The operators of the graphs that nodes of an operator hold."""
    graphs = (a.g for node in model.graph.node if node.op_type == operator for a in node.attribute if a.HasField("g"))
    return [[n.op_type for n in g.node] for g in graphs]


# -- loops and branches -------------------------------------------------------------------------------------


def running(x: Any, w: Any, reverse: bool) -> Any:
    """A scan that reads a value from around it, hands a carry through unchanged and one as a result, twice."""
    return ng.scan(lambda c, row: ((xp.tanh(c[0] @ w + row), c[1], row), (c[0], c[0], c[1])), (x[0], x[1], x[0]), x, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_a_scan(path: pathlib.Path, reverse: bool) -> None:
    model = agree(lambda x, w: running(x, w, reverse), path, [drawn(5, 3), drawn(3, 3)])
    assert "Scan" in operators(model) and "Loop" not in operators(model)
    assert "MatMul" in inner(model, "Scan")[0]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_scan_of_any_length_may_have_no_step(path: pathlib.Path, steps: int, reverse: bool) -> None:
    def over(start: Any, x: Any) -> Any:
        return ng.scan(lambda c, row: (c * 0.5 + row, c), start, x, reverse=reverse)

    model = agree(over, path, [drawn(3), drawn(steps, 3)], specs=(ng.spec((3,)), ng.spec((ng.Dim("n", min=0), 3))))
    assert "Loop" in operators(model)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_over_nothing_counts(path: pathlib.Path, reverse: bool) -> None:
    model = agree(lambda x: ng.scan(lambda c, _: (c * 2, c), x, None, length=3, reverse=reverse), path, [drawn(2)], optimised=False)
    assert "Loop" in operators(model)


def test_a_loop_runs_as_often_as_its_condition_says(path: pathlib.Path) -> None:
    def halves(x: Any, w: Any) -> Any:
        return ng.while_loop(lambda s: (s[0] > 1).any(), lambda s: (s[0] * 0.5 * w, s[1] + 1), (x, 0))

    for scale, steps in ((0, 0), (3, 2), (1000, 10)):
        x = np.array([scale, 0.5], F32)
        model = agree(halves, path, [x, np.asarray(F32(1))])
        assert ran(path, {"x": x, "w": np.asarray(F32(1))})[1] == steps
    assert "Loop" in operators(model)
    agree(lambda x: ng.while_loop(lambda s: s > 1, lambda s: s / 2, x, max_steps=3), path, [np.asarray(F32(1000))])


def test_branches_are_an_if_and_only_one_runs(path: pathlib.Path) -> None:
    def either(x: Any, n: Any) -> Any:
        return ng.cond(n > 0, lambda: (ng.cond(n > 1, lambda: x * 2, lambda: x), n), lambda: (x * x.sum(), n - 1))

    for n in (0, 1, 2):
        model = agree(either, path, [drawn(3), np.asarray(n)])
    assert operators(model).count("If") == 1 and any("If" in graph for graph in inner(model, "If"))


def test_derivatives_and_batches_of_loops(path: pathlib.Path) -> None:
    def loss(w: Any, x: Any) -> Any:
        return xp.sum(ng.scan(lambda c, row: (xp.tanh(c @ w + row), c), x[0], x)[1] ** 2)

    agree(ng.grad(loss), path, [drawn(3, 3), drawn(4, 3)])
    agree(ng.vmap(ng.grad(loss), in_axes=(None, 0)), path, [drawn(3, 3), drawn(2, 4, 3)])


# -- random bits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("shape", [(), (7,), (2, 3), (0, 2)])
def test_random_bits_are_the_same_bits(path: pathlib.Path, width: int, shape: tuple[int, ...]) -> None:
    keys = np.stack([ng.random.key(n) for n in (0, 2**63 + 5)])
    agree(lambda key: ng.random.bits(key[0], shape, width), path, [keys])
    agree(lambda key: (ng.random.split(key[1], 3), ng.random.fold_in(key[0], key[1, 0])), path, [keys])
    agree(ng.vmap(lambda key: ng.random.bits(key, shape, width)), path, [keys])


def test_masks_of_dropout_are_the_same_and_the_generator_is_one_function(path: pathlib.Path) -> None:
    def masked(x: Any, key: Any) -> Any:
        first, second = ng.random.split(key)
        return xp.where(ng.random.bernoulli(first, 0.9, x.shape), x, 0), xp.where(ng.random.bernoulli(second, 0.5, x.shape), x, 0)

    n = ng.Dim("n")
    model = agree(masked, path, [drawn(5, 9), np.asarray(ng.random.key(3))], specs=(ng.spec((n, 9)), ng.spec((2,), "u32")))
    assert [f.name for f in model.functions] == ["threefry"] and operators(model).count("threefry") == 3


# -- indices ------------------------------------------------------------------------------------------------


def test_indices_count_from_the_end_and_are_clipped(path: pathlib.Path) -> None:
    x = drawn(4, 5)
    for index in (np.array([0, -1, -4, 3, 9, -9]), np.array([200, 0], np.uint8), np.array([2**63 + 5, 1], np.uint64)):
        agree(lambda x, i: (xp.take(x, i, 0), xp.take(x, i, 1)), path, [x, index])
    agree(lambda x, i: xp.take_along_axis(x, i, 1), path, [x, np.array([[0, -1], [7, 2], [3, 3], [-8, 1]])])
    for start in (-3, 1, 99):
        agree(lambda x, s: (xp.dynamic_slice(x, (s, 0), (2, 3)), xp.dynamic_update_slice(x, x[:2, :3] * 2, (s, s))), path,
              [x, np.asarray(start)])


@pytest.mark.parametrize("mode", ["set_at", "add_at", "max_at", "min_at"])
def test_of_writes_to_one_place_the_last_one_counts(path: pathlib.Path, mode: str) -> None:
    write = getattr(xp, mode, None) or pytest.skip(f"there is no {mode}")
    index = np.array([2, 0, 2, -1, 2, 0])
    agree(lambda x, i, u: write(x, i, u), path, [drawn(4), index, drawn(6)])
    agree(lambda x, i, u: write(x, (slice(None), i), u), path, [drawn(2, 4, 3), index, drawn(2, 6, 3)])
    agree(lambda x, i, u: write(x, (i, i), u), path, [drawn(4, 4), index.reshape(2, 3), drawn(2, 3)])


def test_places_that_are_known_to_differ_are_written_at_once(path: pathlib.Path) -> None:
    known = agree(lambda x, u: xp.set_at(x, np.array([3, 0]), u), path, [drawn(4), drawn(2)])
    one = agree(lambda x, i: xp.set_at(x, i, 0.0), path, [drawn(4), np.asarray(2)])
    twice = agree(lambda x, u: xp.set_at(x, np.array([3, -1]), u), path, [drawn(4), drawn(2)])
    assert "Max" not in operators(known) + operators(one) and "Max" in operators(twice)


def test_orders(path: pathlib.Path) -> None:
    ties = np.array([[3, 1, 1, np.nan, -0.0], [np.inf, np.nan, 0, 0, -np.inf]], F32)
    agree(lambda x: (xp.sort(x), xp.argsort(x, 0)), path, [ties])
    agree(lambda x: xp.top_k(x, 3), path, [np.where(np.isnan(ties), 1, ties)])
    for dtype in ("bool", "uint64", "uint16", "int8"):
        agree(lambda x: (xp.sort(x), xp.argsort(x)), path, [np.array([2**63 % 251, 1, 0, 1]).astype(dtype)])
    agree(lambda x: xp.sort(x), path, [np.array([2**64 - 1, 5, 2**63, 0], np.uint64)])


# -- integers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint32"])
def test_division_rounds_down_and_never_ends_the_process(path: pathlib.Path, dtype: str) -> None:
    info = np.iinfo(dtype)
    x, y = (np.array(a, dtype) for a in np.meshgrid([info.min, info.min + 1, 0, 1, 7, info.max],
                                                    [info.min, 1, 2, 3, info.max, 0] + [-1, -3] * (info.min < 0)))
    agree(lambda x, y: (x // y, x % y, np.fmod(x, y), x * y - x, x + y), path, [x, y])
    known = agree(lambda x: (x // 3, x % 3), path, [x])
    assert operators(known).count("Div") == 1 and operators(known).count("Equal") <= 1  # nothing asks whether 3 is 0


def test_bits_and_shifts(path: pathlib.Path) -> None:
    x, y = np.array([-8, -1, 0, 5, 127], np.int8), np.array([0, 3, 7, 8, -1], np.int8)
    agree(lambda x, y: (x << y, x >> y, x & y, x | y, x ^ y, ~x), path, [x, y])
    agree(lambda x, y: (x & y, x | y, x ^ y, ~x), path, [x > 0, y > 0])
    agree(lambda x: (x % 2.0, x // 0.5, np.fmod(x, -1.5)), path, [drawn(9)])


# -- labels -------------------------------------------------------------------------------------------------


def test_a_label_that_is_no_class_ends_the_call(path: pathlib.Path) -> None:
    def loss(logits: Any, labels: Any) -> Any:
        return ng.nn.losses.cross_entropy(logits, labels)

    agree(loss, path, [drawn(3, 4), np.array([0, 3, 1])])
    for bad in (4, -1):
        with pytest.raises(Exception, match="check_labels"):
            ran(path, {"logits": drawn(3, 4), "labels": np.array([0, bad, 1])})


def test_no_op_has_two_translations_for_one_opset() -> None:
    registry.translated()
    for table in (registry._OPS, registry._COMPOSITES):
        for what, found in table.items():
            assert len({t.since for t in found}) == len(found), what




# -- what ONNX Runtime computes otherwise than ONNX says -----------------------------------------------------


def test_products_of_transposed_matrices_and_vectors(path: pathlib.Path) -> None:
    agree(lambda x, v, u: (x.T @ v, u @ x.T, v @ v, x.T @ x, v @ x), path, [drawn(3, 4), drawn(3), drawn(4)])


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "uint8"])
def test_sums_and_products_of_integers_wrap_around(path: pathlib.Path, dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(info.min, info.max, (3, 4, 5), dtype, endpoint=True)
    agree(lambda x: (xp.sum(x), xp.sum(x, (0, 2)), xp.prod(x, 1), xp.cumsum(x, 1), xp.max(x), xp.argmin(x, 0)), path, [x])


def test_operands_of_several_floats_are_promoted_as_the_composite_says(path: pathlib.Path) -> None:
    agree(lambda q, k: F.attention(q, k, k), path, [drawn(2, 3, 4).astype(np.float16), drawn(2, 3, 4)])


def test_empty_values_of_any_size_and_labels_of_any_number_of_classes(path: pathlib.Path) -> None:
    n = ng.Dim("n")
    agree(lambda x: x[:, :0] * 2, path, [drawn(3, 2)], specs=ng.spec((n, 2)))
    labels = np.array([0, 2])
    agree(ng.nn.losses.cross_entropy, path, [drawn(2, 3), labels], specs=(ng.spec((2, n)), ng.spec((2,), "i64")))
    with pytest.raises(Exception, match="check_labels"):
        ran(path, {"logits": drawn(2, 2), "labels": labels})
