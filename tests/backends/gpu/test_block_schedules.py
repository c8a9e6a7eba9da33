"""Kernels with products on GPUs: how they go in blocks, what is illegal is refused by the rule that it breaks, and who computes what."""

from dataclasses import replace

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.cuda import nvrtc
from nagraph.backends.gpu.dialect import CUDA
from nagraph.backends.gpu.emit import emit
from nagraph.backends.gpu.products.block_form import FROM, UP_TO, block_form
from nagraph.backends.gpu.products.choose import choose
from nagraph.backends.gpu.products.emission.kernel import groups_of
from nagraph.backends.gpu.products.form import FMA, MMA, TF32, BlockLoops, BlockSchedule, ProductTile
from nagraph.backends.gpu.products.library import LibraryProduct, chosen, library_product
from nagraph.backends.gpu.products.verify import RULES, problem_of
from nagraph.backends.gpu.schedule_text import parse
from nagraph.backends.gpu.strategy import choose_any
from nagraph.backends.gpu.target import TARGETS, gpu_target
from nagraph.errors import ScheduleError
from nagraph.kernel.lower import lower
from nagraph.nn import functional as F

H100 = gpu_target("sm_90")
PASSES = ng.Pipeline.parse("expand,canonicalize,simplify,fold_constants,cse,dce")


def lowered(fn, *shapes, dtype="float32"):
    return lower(PASSES(ng.trace(fn, *(ng.spec(s, dtype) for s in shapes))))


PLAIN = lowered(np.matmul, (256, 96), (96, 128))
BIAS = lowered(lambda x, w, b: np.tanh(x @ w + b), (256, 96), (96, 128), (128,))
SOFTMAX = lowered(lambda x, w: F.softmax(x @ w), (256, 96), (96, 128))
HALVES = lowered(np.matmul, (256, 96), (96, 128), dtype="bfloat16")
ATTENTION = lowered(lambda q, k, v: F.attention(q, k, v, causal=True), *((4, 128, 32),) * 3)


def test_texts_read_back():
    for kernel in (PLAIN, BIAS, SOFTMAX, HALVES, ATTENTION):
        for target in (t for t in TARGETS.values() if t.doubles):
            schedule = choose(kernel, target)
            assert isinstance(schedule, BlockSchedule) and parse(str(schedule)) == schedule
    tf32 = choose(PLAIN, replace(H100, tf32=True))
    assert parse(str(tf32)) == tf32


def test_products_go_in_blocks_on_cuda_and_nothing_else_does():
    assert isinstance(choose_any(BIAS, H100), BlockSchedule)
    assert choose(BIAS, gpu_target("apple7")) is None
    assert choose(lowered(lambda x: np.tanh(x).sum(-1), (64, 32)), H100) is None
    assert choose(lowered(np.matmul, (1, 96), (96, 128)), H100) is None, "of one row there is no tile"


def test_tensor_cores_take_halves_and_float32_only_where_that_is_asked_for():
    def how(schedule):
        return schedule.stages[0].instruction

    assert how(choose(HALVES, H100)) == MMA and how(choose(PLAIN, H100)) == FMA and how(choose(PLAIN, replace(H100, tf32=True))) == TF32


def test_a_function_says_its_blocks_and_its_shared_memory():
    made = emit(BIAS, H100, CUDA)
    schedule = choose(BIAS, H100)
    across = -(-128 // schedule.columns) if schedule.columns else 1
    assert made.grid == (-(-256 // schedule.rows) * across, 1, 1) and made.block == (schedule.threads, 1, 1)
    assert f"NG_SHARED_BLOCK(memory, {made.shared_nbytes})" in made.body and "tanh_f32" in made.functions and made.scratch_nbytes == 0


def test_of_a_causal_mask_nothing_beyond_the_diagonal_is_gone_through():
    assert set(block_form(ATTENTION).diagonals.values()) == {UP_TO}
    full = lowered(lambda q, k, v: F.attention(q, k, v), *((4, 128, 32),) * 3)
    assert not block_form(full).diagonals


def test_every_rule_refuses_what_it_is_for():
    good, rows = choose(BIAS, H100), choose(SOFTMAX, H100)
    tile = ProductTile(32, 32, 16, 2, 4, FMA)
    assert problem_of(BIAS, good, H100) == "" and problem_of(SOFTMAX, rows, H100) == "" and rows.kept == (0,)
    broken = {
        "form": [(lowered(lambda x: x + 1, (3, 4)), good)],
        "threads": [(BIAS, replace(good, threads=24)), (BIAS, replace(good, threads=2048))],
        "units": [(BIAS, replace(good, rows=0)), (SOFTMAX, replace(rows, columns=32))],
        "stages": [(BIAS, replace(good, stages=good.stages[:1])), (BIAS, replace(good, stages=(BlockLoops(), BlockLoops()))),
                   (BIAS, replace(good, threads=128, stages=(tile._replace(thread_rows=3), BlockLoops()))),
                   (BIAS, replace(good, threads=64, stages=(tile, BlockLoops()))),
                   (BIAS, replace(good, threads=128, stages=(ProductTile(64, 64, 32, 32, 32, MMA), BlockLoops())))],
        "kept": [(SOFTMAX, replace(rows, kept=(1,))), (BIAS, replace(good, kept=(0,)))],
        "memory": [(SOFTMAX, replace(rows, rows=256, kept=(0,), stages=(rows.stages[0], *rows.stages[1:])))],
    }
    for name, cases in broken.items():
        target = H100 if name != "memory" else replace(H100, shared_nbytes=48 << 10)
        for kernel, schedule in cases:
            assert problem_of(kernel, schedule, target).startswith(f"rule {name!r}"), name
    assert set(broken) | {"step", "folds", "aliases"} == {"form", *RULES}
    with pytest.raises(ScheduleError, match="rule 'threads'"):
        emit(BIAS, H100, CUDA, replace(good, threads=24))


def test_steps_keep_to_chains_folds_to_registers_and_results_off_what_is_read_later():
    long = lowered(lambda q, k, v: F.attention(q, k, v, causal=True), *((8, 4096, 64),) * 3)
    schedule = choose(long, H100)
    assert schedule.rows < 64 and problem_of(long, replace(schedule, rows=64), H100).startswith("rule 'folds'")
    assert problem_of(long, replace(schedule, step=48), H100).startswith("rule 'step'"), "of chains of 512 terms"
    halves = lowered(lambda q, k, v: F.attention(q, k, v), *((8, 40, 16),) * 3, dtype="bfloat16")
    form = block_form(halves)
    stages = tuple(ProductTile(32, 16, 16, 2, 2, FMA) if n in form.products else BlockLoops() for n in range(len(form.kernel.stages)))
    assert problem_of(halves, BlockSchedule(32, 0, 32, 128, (), stages), H100).startswith("rule 'aliases'") and choose(halves, H100) is None


def test_plain_products_are_a_librarys_with_the_steps_that_it_wants():
    def sizes(found):
        return found.m, found.n, found.k, found.batch, found.a.transposed, found.b.transposed, found.a.pitch, found.b.pitch, found.c.pitch

    assert sizes(library_product(PLAIN)) == (256, 128, 96, 1, False, False, 96, 128, 128)
    assert sizes(library_product(lowered(lambda a, b: a.T @ b.T, (96, 256), (128, 96)))) == (256, 128, 96, 1, True, True, 256, 96, 128)
    batched = library_product(lowered(np.matmul, (3, 16, 8), (3, 8, 24)))
    assert sizes(batched) == (16, 24, 8, 3, False, False, 8, 24, 24)
    assert (batched.a.batch, batched.b.batch, batched.c.batch) == (128, 192, 384)
    assert library_product(HALVES).sums == "f32" and library_product(HALVES).c.dtype == "bf16"
    for other in (BIAS, SOFTMAX, ATTENTION, lowered(lambda a, b: a[::-1] @ b, (16, 8), (8, 24)), lowered(lambda a: a + 1, (3,))):
        assert library_product(other) is None


@pytest.mark.parametrize("fn, shapes", [
    (np.matmul, [(5, 7), (7, 3)]), (lambda a, b: a.T @ b, [(7, 5), (7, 3)]), (lambda a, b: a @ b.T, [(5, 7), (3, 7)]),
    (np.matmul, [(2, 5, 7), (2, 7, 3)]), (lambda a, b: a[:, 1:] @ b[2:], [(5, 7), (8, 3)]),
])
def test_a_library_product_says_what_is_computed(fn, shapes):
    arrays = [np.random.default_rng(0).normal(size=s).astype("f4") for s in shapes]
    found = library_product(lowered(fn, *shapes))
    want = fn(*arrays)
    c = np.full(want.shape, np.nan, "f4")
    buffers = [*arrays, c]
    assert len(found.nbytes) == 3 and all(n <= b.nbytes for n, b in zip(found.nbytes, buffers))
    found.compute(*buffers)
    np.testing.assert_allclose(c, want, rtol=1e-5, atol=1e-5)
    assert LibraryProduct.of([list(x) if isinstance(x, tuple) else x for x in found]) == found, "it can be written down"


def test_the_choice_names_its_figures():
    large = lowered(np.matmul, (4096, 1024), (1024, 4096))
    assert chosen(large, H100).by_library and "MFLOP" in chosen(large, H100).reason and "us by the library" in chosen(large, H100).reason
    assert not chosen(BIAS, H100).by_library and "more than a plain product" in chosen(BIAS, H100).reason
    assert chosen(lowered(lambda x: x + 1, (3, 4)), H100) is None


def test_gradients_of_attention_sum_by_the_rows_of_each_result():
    from nagraph.backends import find
    from nagraph.plan.kernel_planner import kernel_plan
    from nagraph.program.lowering import lower as program

    def grads(q, k, v):
        return ng.grad(lambda q, k, v: (F.attention(q, k, v, causal=True) ** 2).sum(), argnums=(0, 1, 2))(q, k, v)

    graph = ng.Pipeline.parse(find("llvm").pipeline)(ng.trace(grads, *(ng.spec((2, 4, 128, 16), "float32"),) * 3))
    kernels = []
    program(*kernel_plan(graph, {}), kernels.append)
    form = next(f for k in kernels if (f := block_form(k)) is not None and not f.rows)
    assert set(form.diagonals.values()) == {UP_TO, FROM}
    assert sorted(len(g.products) for g in groups_of(form)) == [0, 2], "keys and values are summed side by side"
    assert max(t.size for t in form.kernel.tiles) == 128 * 128
    made = emit(next(k for k in kernels if block_form(k) is not None and not block_form(k).rows), H100, CUDA)
    assert made.scratch_nbytes == 0 and made.shared_nbytes < 128 * 128 * 4 * 2, "no matrix of scores is whole anywhere"


@pytest.mark.skipif(bool(nvrtc.missing()), reason="NVRTC is not installed")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_tensor_cores_and_copies_without_spills(architecture):
    kernel = lowered(lambda x, w, b: F.gelu(x @ w + b), (512, 96), (96, 512), (512,), dtype="bfloat16")
    function = emit(kernel, gpu_target(architecture), CUDA)
    (built,) = nvrtc.built([function], architecture)
    assert 0 < built.registers <= 255 and built.spilled_nbytes == 0
    (ptx,) = nvrtc.ptx([function], architecture)
    for word in ("mma.sync.aligned.m16n8k16", "ldmatrix.sync.aligned.m8n8.x4", "cp.async.cg.shared.global", "cp.async.wait_group"):
        assert word in ptx
