"""Products on GPUs: every variant from its real CUDA text on this CPU, against float64, at the house's tolerance."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.gpu.products.block_form import block_form
from nagraph.backends.gpu.products.choose import choose
from nagraph.backends.gpu.products.form import FMA, MMA, TF32, BlockLoops, BlockSchedule, ProductTile
from nagraph.backends.gpu.products.verify import problem_of
from nagraph.backends.gpu.target import gpu_target
from nagraph.kernel.form import Kernel
from nagraph.kernel.lower import lower
from nagraph.kernel.sharing import may_share
from nagraph.nn import functional as F
from tests.gpu.blocks import Blocks
from tests.kernel.machines import run_on

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
TARGET = gpu_target("sm_90")
PASSES = ng.Pipeline.parse("expand,canonicalize,simplify,fold_constants,cse,dce")
BF16 = np.dtype(ml_dtypes.bfloat16)


class Case(NamedTuple):
    """A kernel with a schedule, operands, and what it is to give, in float64 and as NumPy has it."""

    kernel: Kernel
    schedule: BlockSchedule
    operands: list[Array]
    function: Any


def normal(*shape: int, dtype: Any = np.float32) -> Array:
    return RNG.normal(size=shape).astype(dtype)


def kernel_of(function: Any, *operands: Array) -> Kernel:
    return lower(PASSES(ng.trace(function, *operands)))


def case(function: Any, *operands: Array, **changes: Any) -> Case:
    kernel = kernel_of(function, *operands)
    schedule = choose(kernel, TARGET)
    assert schedule is not None
    return Case(kernel, replace(schedule, **changes), list(operands), function)


def tiled(function: Any, *operands: Array, tile: ProductTile, rows: int = 0, columns: int = 0) -> Case:
    """A case whose product has this tile, in blocks of as many rows and columns unless others are given."""
    kernel = kernel_of(function, *operands)
    form = block_form(kernel)
    assert form is not None
    stages = tuple(tile if n in form.products else BlockLoops() for n in range(len(form.kernel.stages)))
    return Case(kernel, BlockSchedule(rows or tile.rows, columns or tile.columns, 0, tile.threads, (), stages), list(operands), function)


def linear(x: Array, w: Array, b: Array) -> Array:
    return F.gelu(x @ w + b)


def sized(m: int, k: int, n: int, dtype: Any = np.float32) -> tuple[Array, Array]:
    return normal(m, k, dtype=dtype), normal(k, n, dtype=dtype)


SMALL, WIDE = ProductTile(16, 16, 16, 2, 4, FMA), ProductTile(64, 64, 16, 8, 8, FMA)
CORES = ProductTile(32, 32, 32, 16, 16, MMA)


def window_product(x: Array, w: Array) -> Array:
    return F.conv2d(x, w)


def every_case() -> dict[str, Callable[[], Case]]:
    later, found = functools.partial, dict[str, Callable[[], Case]]()
    for m, k, n in ((2, 1, 2), (4, 1, 37), (2, 5, 7), (37, 53, 29), (64, 64, 64), (33, 70, 50), (5, 600, 6), (8, 1100, 24)):
        found[f"plain {m} {k} {n}"] = later(tiled, np.matmul, *sized(m, k, n), tile=SMALL)
    found["wide"] = later(tiled, np.matmul, *sized(70, 40, 130), tile=WIDE)
    found["not transposed, transposed"] = later(tiled, lambda a, b: a @ b.T, normal(20, 24), normal(36, 24), tile=SMALL)
    found["transposed, not transposed"] = later(tiled, lambda a, b: a.T @ b, normal(24, 20), normal(24, 36), tile=SMALL)
    found["both transposed"] = later(tiled, lambda a, b: a.T @ b.T, normal(24, 20), normal(36, 24), tile=SMALL)
    found["float64"] = later(tiled, np.matmul, *sized(19, 33, 21, np.float64), tile=SMALL)
    found["batch"] = later(tiled, np.matmul, normal(3, 2, 18, 20), normal(3, 2, 20, 12), tile=SMALL)
    found["one matrix for all"] = later(tiled, lambda a, b: a @ b, normal(3, 18, 20), normal(20, 12), tile=SMALL)
    found["bias and gelu"] = later(tiled, linear, *sized(35, 24, 40), normal(40), tile=SMALL)
    found["residual"] = later(tiled, lambda x, w, b, r: r + (x @ w + b), *sized(35, 24, 40), normal(40), normal(35, 40), tile=SMALL)
    found["gelu before"] = later(case, lambda x, w: F.gelu(x) @ w, *sized(21, 20, 18))
    found["two results"] = later(tiled, lambda x, w, r, s: ((x @ w) * r, x @ w - s * r), *sized(35, 24, 40), normal(35, 40), normal(35, 40),
                                 tile=SMALL)
    found["terms along two axes"] = later(tiled, functools.partial(np.einsum, "bti,tbj->ij"), normal(2, 520, 8), normal(520, 2, 12),
                                         tile=SMALL)
    found["gathered rows"] = later(case, lambda x, i, w: x[i] @ w, normal(30, 20), RNG.integers(-30, 30, 25), normal(20, 24))
    found["two sums"] = later(tiled, lambda a, b, c, d: a @ b + c @ d, *sized(20, 24, 16), *sized(20, 9, 16), tile=SMALL)
    for name, dtype in (("float16", np.float16), ("bfloat16", BF16)):
        for how, f, shapes in (("", np.matmul, ((40, 48), (48, 32))), (" A transposed", lambda a, b: a.T @ b, ((48, 40), (48, 32))),
                               (" B transposed", lambda a, b: a @ b.T, ((40, 48), (32, 48))), (" odd", np.matmul, ((37, 19), (19, 23)))):
            found[f"{name}{how}"] = later(tiled, f, *(normal(*s, dtype=dtype) for s in shapes), tile=CORES)
        found[f"{name} long"] = later(tiled, np.matmul, *sized(17, 1100, 9, dtype), tile=ProductTile(16, 16, 32, 16, 8, MMA))
        found[f"{name} by fma"] = later(tiled, np.matmul, *sized(20, 24, 16, dtype), tile=SMALL)
    found["bfloat16 bias and gelu"] = later(tiled, linear, *sized(40, 48, 32, BF16), normal(32, dtype=BF16), tile=CORES)
    found["tf32"] = later(tiled, np.matmul, *sized(40, 44, 24), tile=ProductTile(32, 32, 16, 16, 8, TF32))
    found["softmax"] = later(case, lambda x, w: F.softmax(x @ w), *sized(40, 24, 70))
    found["layer norm"] = later(case, lambda x, w, b, s, t: F.layer_norm(x @ w + b, s, t), *sized(40, 24, 64), *(normal(64) for _ in "bst"))
    found["loss"] = later(case, lambda x, w: np.log(np.exp(x @ w).sum(-1)), *sized(24, 20, 90))
    for causal in (False, True):
        attention = functools.partial(F.attention, causal=causal)
        found[f"attention, causal {causal}"] = later(case, attention, *(normal(2, 70, 16) for _ in "qkv"))
    return found


CASES = every_case()
#: The cases that run unless NAGRAPH_GPU_PRODUCTS=all is in the environment.
CUT = (
    "plain 2 1 2", "plain 37 53 29", "plain 64 64 64", "plain 8 1100 24", "both transposed", "float64", "batch", "bias and gelu",
    "two results", "gelu before", "gathered rows", "terms along two axes", "float16", "float16 by fma", "bfloat16 A transposed",
    "bfloat16 B transposed", "bfloat16 odd", "bfloat16 long", "tf32", "layer norm", "attention, causal True",
)
NAMES = tuple(CASES) if os.environ.get("NAGRAPH_GPU_PRODUCTS") == "all" else CUT


@functools.cache
def cases() -> dict[str, Case]:
    return {name: CASES[name]() for name in NAMES}


@functools.cache
def compiled() -> tuple[Blocks, dict[str, str]]:
    """All texts, and the name of each case's."""
    blocks = Blocks(os.environ.get("NAGRAPH_GPU_CHECK", "watch"))
    return blocks, {name: blocks.add(found.kernel, found.schedule) for name, found in cases().items()}


def launch(name: str, **how: Any) -> list[Array]:
    """The outputs of a case's kernel, run in one way or another (`Blocks.run`)."""
    (blocks, names), found = compiled(), cases()[name]
    graph = PASSES(ng.trace(found.function, *found.operands))
    return blocks.run(names[name], found.operands, [(v.dtype, v.shape) for v in graph.outputs], **how)


def reference(found: Case, dtype: Any) -> list[Array]:
    """What NumPy has in a dtype."""
    operands = [a if a.dtype == np.int64 else a.astype(dtype) for a in found.operands]
    with np.errstate(all="ignore"):
        return list(ng.compile(PASSES(ng.trace(found.function, *operands)), backend="numpy")(*operands))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_as_right_as_numpy(name: str) -> None:
    found = cases()[name]
    assert problem_of(found.kernel, found.schedule, TARGET) == ""
    for got, want, own in zip(launch(name), reference(found, np.float64), reference(found, found.operands[0].dtype), strict=True):
        scale = float(np.abs(want).max(initial=1e-30))
        eps = float(ml_dtypes.finfo(got.dtype).eps) if name != "tf32" else 2.0 ** -9
        allowed = max(4 * float(np.abs(own.astype(np.float64) - want).max(initial=0)), 8 * eps * scale)
        worst = float(np.abs(got.astype(np.float64) - want).max(initial=0))
        assert worst <= allowed, (worst, allowed)


@pytest.mark.parametrize("name", ["bias and gelu", "bfloat16 odd", "attention, causal True", "layer norm"])
def test_threads_in_any_order_give_the_same_bits(name: str) -> None:
    first = launch(name)
    for seed in (1, 7):
        assert [a.tobytes() for a in launch(name, seed=seed)] == [a.tobytes() for a in first]


@pytest.mark.parametrize("name", ["plain 37 53 29", "plain 8 1100 24", "terms along two axes", "bias and gelu"])
def test_products_have_the_bits_of_the_cpus(name: str) -> None:
    found = cases()[name]
    (got,) = launch(name)
    want = np.empty_like(got)
    run_on("this", found.kernel, found.operands, [want])
    assert got.tobytes() == want.tobytes()


def test_results_may_lie_in_the_bytes_of_operands() -> None:
    kernel = cases()["two results"].kernel
    pairs = [(operand, output) for operand in range(4) for output in range(2) if may_share(kernel, operand, output)]
    assert pairs == [(2, 0), (2, 1), (3, 0), (3, 1)]
    want = [a.tobytes() for a in launch("two results")]
    for operand, output in pairs:
        assert [a.tobytes() for a in launch("two results", over={output: operand})] == want


@pytest.mark.parametrize("name", ["plain 64 64 64", "float16", "float64", "attention, causal True"])
def test_operands_may_begin_anywhere(name: str) -> None:
    assert [a.tobytes() for a in launch(name, shift=1)] == [a.tobytes() for a in launch(name)]
