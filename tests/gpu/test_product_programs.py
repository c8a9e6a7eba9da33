"""Kernels with products as programs have them, from their CUDA text on the CPU: as the interpreter has it, whatever the schedule."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.gpu.products import choose as strategy
from nagraph.backends.gpu.products.block_form import block_form
from nagraph.backends.gpu.products.verify import problem_of
from nagraph.backends.gpu.target import gpu_target
from nagraph.kernel.form import Kernel
from nagraph.kernel.interpret import interpret_kernel
from nagraph.nn import functional as F
from nagraph.ops.convolution import conv
from tests.gpu.blocks import Array, Blocks, extents, kernels_of

TARGET = gpu_target("sm_90")
CHECK = os.environ.get("NAGRAPH_GPU_CHECK", "")


def spec(*shape: int, dtype: str = "float32") -> Any:
    return ng.spec(shape, dtype)


def attention(causal: bool) -> Any:
    def gradients(q: Any, k: Any, v: Any) -> Any:
        return ng.grad(lambda q, k, v: (F.attention(q, k, v, causal=causal) ** 2).sum(), argnums=(0, 1, 2))(q, k, v)

    return gradients


def layer(x: Any, w: Any, h: Any) -> Any:
    """The gradient of a tanh layer, and that of its bias."""
    d = (x @ w) * (1 - h * h)
    return d, d.sum(axis=(0, 1))


def convolution(x: Any, w: Any) -> Any:
    return ng.grad(lambda x, w: (conv(x, w, padding=1) ** 2).sum(), argnums=(0, 1))(x, w)


PROGRAMS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "attention's gradient": (attention(False), (spec(2, 4, 40, 12),) * 3),
    "causal attention's gradient": (attention(True), (spec(2, 4, 72, 12),) * 3),
    "sums over rows": (layer, (spec(4, 40, 8), spec(8, 24), spec(4, 40, 24))),
    "convolution": (convolution, (spec(2, 8, 9, 9), spec(16, 8, 3, 3))),
    "bfloat16 attention": (functools.partial(F.attention, causal=True), (spec(2, 4, 72, 16, dtype="bfloat16"),) * 3),
}


@functools.cache
def kernels(name: str) -> list[Kernel]:
    """The kernels of a program that go in blocks."""
    function, operands = PROGRAMS[name]
    return [k for k in kernels_of(ng.trace(function, *operands)) if strategy.choose(k, TARGET) is not None]


@functools.cache
def compiled() -> tuple[Blocks, dict[tuple[str, int], str]]:
    blocks, names = Blocks(CHECK), dict[tuple[str, int], str]()
    for program in PROGRAMS:
        for i, kernel in enumerate(kernels(program)):
            schedule = strategy.choose(kernel, TARGET)
            assert schedule is not None
            names[program, i] = blocks.add(kernel, schedule)
    return blocks, names


def operands_of(kernel: Kernel) -> list[Array]:
    rng = np.random.default_rng(0)
    return [(rng.normal(size=n) > 0 if d.kind == "b" else rng.normal(size=n)).astype(d)
            for d, n in zip(kernel.operands[:-kernel.outputs], extents(kernel))]


def interpreted(kernel: Kernel, operands: list[Array]) -> list[Array]:
    outputs = [np.full(n, np.nan, d) for n, d in list(zip(extents(kernel), kernel.operands))[-kernel.outputs:]]
    interpret_kernel(kernel, operands, outputs)
    return outputs


def test_the_programs_have_the_kernels_that_they_are_here_for() -> None:
    forms = {name: [block_form(k) for k in kernels(name)] for name in PROGRAMS}
    assert all(forms.values())
    assert any(not f.rows for f in forms["causal attention's gradient"]), "matrices at points"
    assert any(f.kernel.sequential for f in forms["sums over rows"])
    assert any(len(f.dims[0].reduced) > 1 for f in forms["convolution"])
    assert any(p.halves for f in forms["bfloat16 attention"] for p in f.products.values())


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_of_programs_compute_what_the_interpreter_does(name: str) -> None:
    blocks, names = compiled()
    for i, kernel in enumerate(kernels(name)):
        operands = operands_of(kernel)
        want = interpreted(kernel, operands)
        found = blocks.run(names[name, i], operands, [(w.dtype, w.shape) for w in want])
        for got, w in zip(found, want):
            written = w == w  # a convolution leaves borders to others
            a, b = got.astype(np.float64)[written], w.astype(np.float64)[written]
            eps = 2.0 ** -7 if got.dtype.itemsize == 2 else 2.0 ** -17
            assert np.abs(a - b).max() <= eps * max(np.abs(b).max(), 1e-30), str(kernel)


def test_every_schedule_gives_the_same_bits() -> None:
    blocks = Blocks("")
    kernel = max(kernels("causal attention's gradient"), key=lambda k: len(str(k)))
    first = strategy.choose(kernel, TARGET)
    assert first is not None
    tried = [first, replace(first, rows=24), replace(first, step=64)]
    form = block_form(kernel)
    assert form is not None
    tiles = {n: next(iter(strategy.candidates(p, 64))) for n, p in form.products.items()}
    tried.append(replace(first, threads=64, stages=tuple(tiles.get(n, how) for n, how in enumerate(first.stages))))
    legal = [s for s in dict.fromkeys(tried) if not problem_of(kernel, s, TARGET)]
    assert len(legal) >= 3
    names = [blocks.add(kernel, s) for s in legal]
    operands = operands_of(kernel)
    results = [(w.dtype, w.shape) for w in interpreted(kernel, operands)]
    found = {tuple(a.tobytes() for a in blocks.run(n, operands, results)) for n in names}
    assert len(found) == 1
