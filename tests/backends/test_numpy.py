"""The NumPy backend: what a call allocates, the reference's bits, several threads, and calls after failed ones."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.numpy import Executable
from nagraph.backends.numpy import compile as compile_graph
from nagraph.ir.graph import Graph
from nagraph.ir.interpret import interpret
from nagraph.models.gpt2 import GPT2, GPT2Config
from nagraph.ops.base import Cast
from nagraph.ops.contraction import DotGeneral
from nagraph.ops.cumulative import Cumsum
from nagraph.ops.dynamic_slice import DynamicSlice, DynamicUpdateSlice
from nagraph.ops.elementwise import Add, Multiply
from nagraph.ops.indexing import Gather, Scatter
from nagraph.ops.joining import Concatenate
from nagraph.ops.movement import Reshape, Transpose
from nagraph.ops.operands import as_array
from nagraph.ops.reduction import Max, Sum
from nagraph.ops.slicing import Pad, Slice
from nagraph.ops.special import BLOCK, Erf, Exp, Tanh
from nagraph.plan.plan import ALIGNMENT
from nagraph.transforms.batching import batch_graph
from tests.ops.test_every_op import ALL
from tests.support import graph_of

#: NumPy's iterator takes a buffer for an operand that is broadcast: 8192 elements at most, of 4 bytes here.
ITERATOR_NBYTES = 8192 * 4
#: Python's own objects in a call: frames, tuples, views.
OBJECTS_NBYTES = 1 << 15
F32 = np.dtype("float32")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) / 4).astype(np.float32)


def peak_nbytes(call: Callable[[], Any]) -> int:
    """The most bytes that a call has allocated at one time, its results included. NumPy reports to tracemalloc."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        kept = call()
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    del kept
    return peak


def arrays_of(arguments: Any) -> list[np.ndarray]:
    return [np.asarray(a) for a in ng.tree.flatten(arguments)[0] if a is not None]


class Perceptron(ng.nn.Module):
    first: Any
    second: Any

    def __call__(self, x: Any) -> Any:
        return self.second(np.tanh(self.first(x)))


OPTIMISER = ng.optim.AdamW(1e-3)


def train_step(model: Any, state: Any, x: Any, y: Any) -> Any:
    loss, grads = ng.value_and_grad(lambda m: ((m(x) - y) ** 2).mean())(model)
    model, state = OPTIMISER.update(model, grads, state)
    return model, state, loss


@pytest.fixture
def training() -> tuple[Any, ...]:
    """Model, optimiser's state, inputs and targets: 200,000 weights."""
    layers = [ng.nn.Linear.init(ng.random.key(i), n, m) for i, (n, m) in enumerate(((256, 512), (512, 128)))]
    model = Perceptron(*layers)
    return model, OPTIMISER.init(model), random(64, 256), random(64, 128, seed=1)


@pytest.fixture
def block() -> tuple[Any, ...]:
    """A block of a transformer, and its input."""
    model = GPT2.init(ng.random.key(0), GPT2Config(96, 128, 1, 4, 128))
    return model.blocks[0], random(4, 128, 128)


# -- memory -----------------------------------------------------------------------------------------------


def test_a_training_step_with_donation_allocates_nothing(training: tuple[Any, ...]) -> None:
    """Weights and moments are updated where they are: 2.4 MB of results, none of them new."""
    step = ng.jit(train_step, donate_argnames=("model", "state"), backend="numpy")
    model, state, x, y = training
    for _ in range(2):
        model, state, _ = step(model, state, x, y)
    weights = model.first.weight
    peak = peak_nbytes(lambda: step(model, state, x, y))
    assert step.cache_info().size == 1 and model.first.weight is weights, "the same array, updated"
    assert peak <= ITERATOR_NBYTES + OBJECTS_NBYTES
    lowered = step.lower(*training)
    interpreted = peak_nbytes(lambda: interpret(lowered.graph, arrays_of(training)))
    assert interpreted > 100 * peak, "so the measurement sees what NumPy takes"


def test_without_donation_it_allocates_the_results(training: tuple[Any, ...]) -> None:
    step = ng.jit(train_step, backend="numpy")
    for _ in range(2):
        step(*training)
    results = sum(v.type.nbytes for v in step.lower(*training).graph.outputs)
    peak = peak_nbytes(lambda: step(*training))
    assert 2_300_000 < results <= peak <= results + ITERATOR_NBYTES + OBJECTS_NBYTES


def test_a_transformer_block_allocates_its_result(block: tuple[Any, ...]) -> None:
    forward = ng.jit(lambda block, x: block(x), backend="numpy")
    for _ in range(2):
        forward(*block)
    lowered = forward.lower(*block)
    peak = peak_nbytes(lambda: forward(*block))
    assert block[1].nbytes <= peak <= block[1].nbytes + ITERATOR_NBYTES + OBJECTS_NBYTES
    assert peak_nbytes(lambda: interpret(lowered.graph, arrays_of(block))) > 20 * peak
    assert lowered.executable.memory.arena_bytes > 4 * peak, "what it works in is the arena"


def test_loops_allocate_nothing_per_turn() -> None:
    def run(h: Any, xs: Any) -> Any:
        return ng.scan(lambda h, x: (np.tanh(h * 0.5 + x), (h * x).sum()), h, xs)

    peaks = []
    for length in (10, 1000):
        jitted, h, xs = ng.jit(run, backend="numpy"), random(4000), random(1, 4000).repeat(length, 0)
        for _ in range(2):
            jitted(h, xs)
        peaks.append(peak_nbytes(lambda jitted=jitted, h=h, xs=xs: jitted(h, xs)) - h.nbytes - 4 * length)
    assert peaks[1] - peaks[0] < 1000 and peaks[0] < OBJECTS_NBYTES


SIMPLE = [
    (Tanh(), [(400, 50)]), (Exp(), [(400, 50)]), (Add(), [(400, 50)] * 2), (Multiply(), [(400, 50), (1, 50)]), (Sum((1,)), [(400, 50)]),
    (Sum((0,)), [(400, 50)]), (Max((1,)), [(400, 50)]), (Transpose((1, 0)), [(400, 50)]), (Reshape((50, 400)), [(400, 50)]),
    (Slice((0, 1), (400, 50), (2, 1)), [(400, 50)]), (Pad((1, 0), (0, 2), (0, 0)), [(400, 50)]), (Concatenate(1), [(400, 50)] * 2),
    (Cast(np.dtype("float64")), [(400, 50)]), (Cumsum(1), [(400, 50)]), (DotGeneral(((1,), (0,)), ((), ())), [(400, 50), (50, 400)]),
    (DotGeneral(((0,), (1,)), ((), ())), [(50, 400), (400, 50)]), (DotGeneral(((2,), (2,)), ((0,), (0,))), [(4, 100, 50)] * 2),
]


def bytes_beyond_results(op: Any, operands: list[Any]) -> int:
    executable = compile_graph(graph_of(op, operands))
    given = {j: np.empty(v.shape, v.dtype) for j, v in enumerate(executable.graph.outputs)}
    for _ in range(2):
        executable.run(operands, given)
    return peak_nbytes(lambda: executable.run(operands, given))


@pytest.mark.parametrize("op, shapes", SIMPLE, ids=lambda x: str(x)[:60])
def test_ops_write_into_given_memory(op: Any, shapes: list[tuple[int, ...]]) -> None:
    assert bytes_beyond_results(op, [random(*s, seed=i) for i, s in enumerate(shapes)]) <= ITERATOR_NBYTES + 8192


def test_indexed_reads_and_updates_write_into_given_memory() -> None:
    x, starts = random(400, 50), [np.array(3), np.array(0)]
    assert bytes_beyond_results(Gather((0,)), [x, np.arange(300) % 7]) < 3 * 300 * 8 + 8192, "the clipped indices"
    assert bytes_beyond_results(DynamicSlice((300, 50)), [x, *starts]) < 8192
    assert bytes_beyond_results(DynamicUpdateSlice(), [x, random(300, 50), *starts]) < 8192


@pytest.mark.parametrize("mode", ["add", "set", "max"])
def test_scattered_updates_take_memory_for_their_indices_alone(mode: str) -> None:
    beyond = bytes_beyond_results(Scatter((0,), mode), [random(400, 50), random(300, 50), np.arange(300) % 7])
    assert beyond < 8 * 300 * 8 + 8192 < random(300, 50).nbytes


def test_erf_takes_memory_for_a_block_alone() -> None:
    x = random(400, 2000)
    assert bytes_beyond_results(Erf(), [x]) < 16 * 8 * BLOCK < x.nbytes


def test_the_arena_is_aligned_and_used(block: tuple[Any, ...]) -> None:
    executable = ng.jit(lambda block, x: block(x), backend="numpy").lower(*block).executable
    executable(*arrays_of(block))
    arrays = [a for i, a in enumerate(executable._program.env)
              if a is not None and executable.plan.buffers[executable.plan.slots[i].buffer].kind == "arena"
              and executable.plan.slots[i].source is None]
    assert len(arrays) > 5 and all(a.ctypes.data % ALIGNMENT == 0 for a in arrays)
    assert executable.memory.lower_bound <= executable.memory.arena_bytes <= 1.1 * executable.memory.lower_bound


# -- results ----------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> None:
    assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_the_interpreters_bits_in_every_run(training: tuple[Any, ...], block: tuple[Any, ...]) -> None:
    """Optimised, in blocks of rows, in place: bit for bit what the traced graph gives node by node."""
    for function, arguments in ((train_step, training), (lambda block, x: block(x), block)):
        lowered = ng.jit(function, backend="numpy").lower(*arguments)
        expected = interpret(lowered.graph, arrays_of(arguments))
        for _ in range(3):
            for a, b in zip(lowered.executable(*arrays_of(arguments)), expected, strict=True):
                same(a, b)


def test_donation_changes_no_bits(training: tuple[Any, ...]) -> None:
    plain, donating = ng.jit(train_step, backend="numpy"), ng.jit(train_step, donate_argnames=("model", "state"), backend="numpy")
    a = b = training[:2]
    b = ng.tree.map(lambda x: None if x is None else np.array(x), b)
    for _ in range(5):
        *a, loss_a = plain(*a, *training[2:])
        *b, loss_b = donating(*b, *training[2:])
        same(loss_a, loss_b)
    for x, y in zip(arrays_of(a), arrays_of(b), strict=True):
        same(x, y)


@pytest.mark.parametrize("op", ALL, ids=str)
def test_every_op_gives_its_references_bits(op: Any) -> None:
    """Alone, and batched to arrays of many blocks; on a second call, in memory that is full of the first one's numbers."""
    for operands in op.samples(np.random.default_rng(0)):
        arrays = [as_array(x) for x in operands]
        graph = graph_of(op, arrays)
        many = batch_graph(graph, 5, [True] * len(arrays))
        for g, given in ((graph, arrays), (many, [np.stack([a] * 5) for a in arrays])):
            expected = interpret(g, given)
            executable = compile_graph(g)
            for _ in range(2):
                for a, b in zip(executable(*given), expected, strict=True):
                    np.testing.assert_array_equal(a, b)
                    assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_layout_of_arguments_is_free(block: tuple[Any, ...]) -> None:
    """Transposed, strided, byte-swapped and read-only arguments give the same bits and are not written."""
    executable = ng.jit(lambda block, x: block(x), backend="numpy").lower(*block).executable
    arrays = arrays_of(block)
    (expected,) = executable(*arrays)
    for change in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[::-1].copy()[::-1],
                   lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape)):
        given = [change(a) for a in arrays]
        for a in given:
            a.flags.writeable = False
        same(executable(*given)[0], expected)
    swapped = ng.jit(lambda x: x * 2 + 1, backend="numpy")
    same(swapped(arrays[0].astype(">f4")), swapped(arrays[0]))


# -- several threads --------------------------------------------------------------------------------------


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """work(0), ..., work(count - 1), all begun at once."""
    found: list[Any] = [None] * count
    gate = threading.Barrier(count)

    def run(i: int) -> None:
        gate.wait()
        try:
            found[i] = work(i)
        except BaseException as error:  # noqa: BLE001 - it is told in the test's thread
            found[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return found


def test_four_threads_at_once(block: tuple[Any, ...]) -> None:
    forward = ng.jit(lambda block, x: block(x)[0], backend="numpy")
    inputs = [random(4, 128, 128, seed=i) for i in range(4)]
    expected = [forward(block[0], x) for x in inputs]
    found = in_threads(4, lambda i: [forward(block[0], inputs[i]) for _ in range(4)])
    for results, e in zip(found, expected):
        assert isinstance(results, list), results
        for r in results:
            same(r, e)


def test_the_first_call_from_four_threads_compiles_once() -> None:
    function = ng.jit(lambda x, y: np.tanh(x @ y).sum(axis=0), backend="numpy")
    x, y = random(64, 64), random(64, 64, seed=1)
    found = in_threads(4, lambda i: function(x, y))
    for r in found:
        same(r, found[0])
    assert function.cache_info().misses == 1 and function.cache_info().size == 1


def test_a_call_while_another_is_in_the_arena() -> None:
    """The arena taken: the call works in one of its own, and gives the same."""
    x = random(300, 40)
    executable: Executable = ng.jit(lambda x: np.exp(x @ x.T).sum(axis=0), backend="numpy").lower(x).executable
    (expected,) = executable(x)
    with executable._lock:
        same(executable(x)[0], expected)
    assert peak_nbytes(lambda: executable(x)) < expected.nbytes + ITERATOR_NBYTES + OBJECTS_NBYTES < executable.memory.arena_bytes


# -- calls that fail --------------------------------------------------------------------------------------


def test_an_error_in_the_middle_of_a_call_harms_nothing() -> None:
    """Whatever a step raises, the lock is free again and the next call is right."""
    x = random(30, 40)
    executable = ng.jit(lambda x: np.tanh(x @ x.T) @ x, backend="numpy").lower(x).executable
    (expected,) = executable(x)
    calls = executable._program._calls
    function, *rest = calls[-1]

    def fail(*arrays: Any) -> None:
        raise MemoryError("planted")

    calls[-1] = (fail, *rest)
    with pytest.raises(MemoryError, match="planted"):
        executable(x)
    assert not executable._lock.locked()
    calls[-1] = (function, *rest)
    same(executable(x)[0], expected)


def test_numpys_error_state_is_left_alone() -> None:
    """Dividing by zero in a compiled function neither warns nor raises, as graphs can't; outside, the setting holds."""
    function = ng.jit(lambda x: np.log(x) / x, backend="numpy")
    with np.errstate(all="raise"):
        assert np.isnan(function(np.zeros(3, np.float32) - 1)).all()
        with pytest.raises(FloatingPointError):
            np.float32(1) / np.float32(0)


def test_results_are_new_arrays() -> None:
    """Neither arguments, nor one another, nor memory that the next call writes."""
    function = ng.jit(lambda x: (x, x, x.T, x + 1, x[1:]), backend="numpy")
    x = random(30, 30)
    first = function(x)
    kept = [a.copy() for a in first]
    function(random(30, 30, seed=1))
    for a, b in zip(first, kept):
        same(a, b)
    for i, a in enumerate(first):
        assert a.flags.writeable and a.flags.owndata and not np.shares_memory(a, x)
        assert not any(np.shares_memory(a, b) for b in first[i + 1:])


def test_empty_and_constant_graphs() -> None:
    nothing: Graph = ng.trace(lambda x: (), ng.spec((3,), "float32"))
    assert compile_graph(nothing)(np.zeros(3, F32)) == ()
    assert ng.jit(lambda: np.arange(3), backend="numpy")().tolist() == [0, 1, 2]
    assert ng.jit(lambda x: x.sum(), backend="numpy")(np.zeros((0, 3), F32)) == 0
    first, second = (ng.jit(lambda: np.arange(3), backend="numpy")() for _ in range(2))
    first[0] = 9
    assert second[0] == 0
