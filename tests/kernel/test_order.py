"""Orders of additions: kernels state them, the interpreter and compiled code keep to them, whatever vectors a machine has."""


from dataclasses import replace

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.llvm.text.target import host
from nagraph.errors import VerifyError
from nagraph.ir.types import DTYPES
from nagraph.kernel.chains import combined
from nagraph.kernel.context import array_constants
from nagraph.kernel.contraction import CHAIN, Contraction, chain_of, product_order, product_parts
from nagraph.kernel.form import Consecutive, Interleaved
from nagraph.kernel.interpret import interpret_kernel
from nagraph.kernel.lower import lower
from nagraph.kernel.verify import verify_kernel
from nagraph.nn import functional as F
from nagraph.ops.movement import iota
from nagraph.pipeline import Pipeline
from nagraph.schedule.form import Lanes, Loops, Points, Schedule
from nagraph.schedule.strategy import choose
from nagraph.schedule.verify import problem_of
from tests.kernel.machines import DIFFERENT, MACHINES, run_on

PASSES = Pipeline.parse("canonicalize,simplify,fold_constants,cse,dce,expand,canonicalize,simplify,fold_constants,cse,dce")
RNG = np.random.default_rng(0)
f4, f8, b2 = (np.dtype(d) for d in ("f4", "f8", DTYPES["bf16"]))


def real(*shape, dtype=f4):
    """Numbers of few digits and very different sizes: their products with powers of two are exact, their sums are not."""
    sizes = 2.0 ** RNG.integers(*((-40, 40) if dtype == f8 else (-12, 12)), shape)
    return (RNG.normal(size=shape).astype(np.float16) * sizes).astype(dtype)


def powers(*shape, dtype=f4):
    return (RNG.choice([-2.0, -1.0, 0.5, 1.0, 4.0], shape)).astype(dtype)


def small(*shape, dtype=f4):
    """Mostly zeros, the rest ±1: sums of their products are whole numbers of few digits."""
    return RNG.choice([-1.0, 0, 0, 0, 0, 0, 0, 1.0], shape).astype(dtype)


def masked_products(q, k, v, u):
    """What attention and its gradient multiply: scores below a diagonal, with values, and transposed with cotangents."""
    rows, columns = (iota("int32", (q.shape[1], k.shape[1]), axis) for axis in (0, 1))
    p = np.where(rows >= columns, q @ k.transpose(0, 2, 1), 0)
    return p @ v, p.transpose(0, 2, 1) @ u


def causal(q, k, v):
    return ng.grad(lambda q, k, v: (F.attention(q, k, v, causal=True) ** 2).sum(), (0, 1, 2))(q, k, v)


#: Sums, and products with powers of two, so that a fused multiply-add rounds as a product and a sum do.
EXACT = {
    "rows": (lambda x: x.sum(1), [real(3, 1000)]),
    "rows of one block and a few": (lambda x: x.sum(1), [real(3, 70)]),
    "few": (lambda x: x.sum(1), [real(40, 5)]),
    "rows of float64": (lambda x: x.sum(1), [real(3, 333, dtype=f8)]),
    "rows of bfloat16": (lambda x: x.sum(1), [real(3, 333).astype(b2)]),
    "columns": (lambda x: x.sum(0), [real(33, 70)]),
    "two axes": (lambda x: x.sum((1, 2)), [real(3, 17, 40)]),
    "apart": (lambda x: x.sum((0, 2)), [real(9, 4, 37)]),
    "parts that are joined": (lambda x, y: np.concatenate([x, y], 1).sum(1), [real(3, 40), real(3, 61)]),
    "of a map": (lambda x, y: (np.abs(x) * y - x).sum(1), [real(3, 300), powers(3, 300)]),
    "products of rows": (lambda x, y: (x * y).sum(), [real(700), powers(700)]),
    "a matrix product": (lambda x, w: x @ w, [real(20, 600), powers(600, 30)]),
    "a short one": (lambda x, w: x @ w, [real(20, 40), powers(40, 30)]),
    "columns side by side": (lambda x, w: x @ w.T, [real(9, 1100), powers(14, 1100)]),
    "one row": (lambda x, w: x @ w, [real(1, 700), powers(700, 90)]),
    "one row, many columns side by side": (lambda x, w: x @ w.T, [real(1, 96), powers(1500, 96)]),
    "a dot": (lambda x, w: x @ w, [real(900), powers(900)]),
    "batches": (lambda x, w: np.einsum("ipq,qpj->ij", x, w), [real(4, 7, 100), powers(100, 7, 6)]),
    "small matrices": (lambda x, w: x @ w, [real(5, 3, 9), powers(5, 9, 4)]),
    "matrices at each point": (lambda x, w: np.abs(x @ w), [real(2, 16, 530), powers(2, 530, 16)]),
    "below a diagonal": (masked_products, [small(2, 96, 4), small(2, 96, 4), real(2, 96, 8), real(2, 96, 8)]),
    "far below a diagonal": (masked_products, [small(2, 600, 4), small(2, 600, 4), real(2, 600, 8), real(2, 600, 8)]),
}
OTHERS = {
    "softmax": (lambda x: F.softmax(x), [real(3, 200)]),
    "layer norm": (lambda x, g, b: F.layer_norm(x, g, b), [real(3, 200), real(200), real(200)]),
    "product of all": (lambda x: x.prod(1), [1 + real(3, 100) / 1e5]),
    "largest": (lambda x: (x.max(1), np.argmax(x, 1)), [real(3, 100)]),
    "gradient of attention": (causal, [real(2, 80, 8) / 64 for _ in range(3)]),
}


def lowered(fn, arrays):
    """A kernel, and what it reads and results to write into."""
    graph = PASSES(ng.trace(fn, *(ng.spec(a.shape, a.dtype) for a in arrays)))
    constants = [graph.producers[v].op.array for v in array_constants(graph)]
    return lower(graph), [*arrays, *constants], lambda: [np.zeros(v.type.size, v.dtype) for v in graph.outputs]


def bits(arrays):
    return [a.tobytes() for a in arrays]


def interpreted(kernel, inputs, outputs):
    interpret_kernel(kernel, inputs, outputs)
    return bits(outputs)


@pytest.mark.parametrize("name", [*EXACT, *OTHERS])
def test_every_machine_gives_the_bits_that_the_kernel_states(name):
    kernel, inputs, outputs = lowered(*{**EXACT, **OTHERS}[name])
    found, codes = {machine: outputs() for machine in MACHINES}, {}
    for machine, written in found.items():
        codes[machine] = run_on(machine, kernel, inputs, written)
    assert not DIFFERENT or codes["this"] != codes["16 bytes"]
    for machine, written in found.items():
        assert bits(written) == bits(found["this"]), f"{machine}\n{kernel}"
    if name in EXACT:
        assert interpreted(kernel, inputs, outputs()) == bits(found["this"]), str(kernel)


@pytest.mark.parametrize("name, stated", [
    ("rows", "in 64 chains"), ("rows of one block and a few", "in 64 chains to 64 and in 8 chains to 70"),
    ("rows of float64", "in 32 chains to 320 and in 16 chains to 333"), ("columns", ""), ("two axes", "in 64 chains"),
    ("parts that are joined", "in 64 chains to 40 and in 64 chains to 101"), ("a matrix product", "in chains of 304"), ("a short one", ""),
    ("batches", "in chains of 400"), ("one row, many columns side by side", "in 64 chains to 64 and in 32 chains to 96"),
    ("far below a diagonal", "in chains of 64, the last one first"),
])
def test_kernels_state_their_orders_and_another_order_gives_other_bits(name, stated):
    kernel, inputs, outputs = lowered(*EXACT[name])
    folds = [str(f) for s in kernel.stages for f in s.folds]
    assert folds[-1].endswith(f") {stated}" if stated else ")"), folds
    stages = (replace(s, folds=tuple(replace(f, order=Consecutive()) for f in s.folds)) for s in kernel.stages)
    plain = replace(kernel, stages=tuple(stages))
    assert (interpreted(plain, inputs, outputs()) != interpreted(kernel, inputs, outputs())) == bool(stated)


def test_the_chains_of_products_are_whole_batches_or_parts_of_one():
    for k, batches in ((CHAIN, 1), (CHAIN + 1, 1), (5000, 1), (100, 7), (300, 9), (CHAIN, 3), (1300, 4), (1, 3 * CHAIN), (0, 3), (4, 0)):
        order, (taps, depth) = product_order(k, batches), chain_of(k, batches)
        assert taps >= 1 and depth >= 1 and (k * batches == 0 or taps * depth <= CHAIN)
        assert (order == Consecutive()) == (k * batches <= CHAIN)
        assert not order.length or (order.length == taps * depth if depth == k else taps == 1 and order.run == (k if batches > 1 else 0))


def test_orders_mean_what_they_say():
    """A number beside which ones are lost, one at a time, tells which ones were added to each other before."""
    large, x = 2.0**24, np.array([[2.0**24, 1, 1, 1, 1, 1, 1, 1, 1]], np.float32)
    for order, lost in ((Consecutive(), 8), (Consecutive(7), 6), (Consecutive(4, run=5), 4), (Consecutive(5, backwards=True), 4),
                        (Interleaved(((9, 2),)), 4), (Interleaved(((9, 4),)), 2), (Interleaved(((5, 1), (9, 4))), 4)):
        assert combined(np.add, 0, x, order) == large + 8 - lost, order
    assert combined(np.add, 0, x[:, ::-1], Consecutive(8, backwards=True)) == large + 8
    nothing = np.zeros((2, 3, 0), np.float32)
    assert combined(np.multiply, 1, nothing, Interleaved(())).tolist() == [1, 1]


def test_a_sum_of_nothing_has_no_chains():
    kernel, inputs, outputs = lowered(lambda x: x.sum() + 3, [real(1, 0)])
    verify_kernel(kernel)
    assert kernel.stages[0].folds[0].order == Interleaved(())
    assert interpreted(kernel, inputs, outputs()) == [np.float32(3).tobytes()]


@pytest.mark.parametrize("order, message", [
    (None, "have one order of additions"), (Interleaved(((31, 16),)), "end at"), (Interleaved(((20, 16), (12, 8), (32, 4))), "end at"),
    (Interleaved(((32, 12),)), "a power of two"), (Consecutive(16), "only sums of products"),
])
def test_an_order_that_does_not_fit_is_refused(order, message):
    kernel, _, _ = lowered(lambda x: x.sum(1), [real(4, 32)])
    (stage, copy) = kernel.stages
    verify_kernel(kernel)
    wrong = replace(stage, folds=tuple(replace(f, order=order) for f in stage.folds))
    with pytest.raises(VerifyError, match=message):
        verify_kernel(replace(kernel, stages=(wrong, copy)))


def test_products_are_where_their_order_allows_it():
    kernel, _, _ = lowered(*EXACT["a matrix product"])
    product, copy = kernel.stages

    def parts(order):
        stage = replace(product, folds=tuple(replace(f, order=order) for f in product.folds))
        return product_parts(replace(kernel, stages=(stage, copy)))

    assert isinstance(parts(Consecutive(304))[0], Contraction)
    assert not isinstance(parts(Consecutive())[0], Contraction), "one chain of 600 is longer than the routine's"
    assert not isinstance(parts(Interleaved(((600, 64),)))[0], Contraction)


@pytest.mark.parametrize("name, change, rule", [
    ("rows", lambda s: replace(s, stages=(Loops(1, 32), *s.stages[1:])), "it adds up in 64 chains: 64 lanes along a1, without cuts"),
    ("rows", lambda s: replace(s, stages=(Loops(), *s.stages[1:])), "stage 0: it adds up in 64 chains"),
    ("rows", lambda s: Schedule(Lanes(4), 1), "stage 0: it adds up in 64 chains"),
    ("a short one", lambda s: replace(s, units=s.units._replace(rows=4), chunk=1), ""),
    ("below a diagonal", lambda s: replace(s, units=Points(64), chunk=1), "in chains of 32, the last one first, and not of 64"),
])
def test_a_schedule_keeps_to_the_orders_of_its_kernel(name, change, rule):
    kernel, _, _ = lowered(*EXACT[name])
    schedule = choose(kernel, host())
    assert problem_of(kernel, schedule, host()) == ""
    assert rule in problem_of(kernel, change(schedule), host()) if rule else not problem_of(kernel, change(schedule), host())
