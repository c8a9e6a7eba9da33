"""The runtime: every chunk once, phases in order, control flow the same on all threads, whoever comes late."""

import ctypes
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from nagraph.backends.llvm.runtime import pool as pools
from nagraph.backends.llvm.runtime.assembler import Assembler, EncodedLaunch, Label, listing
from nagraph.backends.llvm.runtime.pool import Pool, default_threads, pool
from nagraph.backends.llvm.runtime.program import Program
from nagraph.backends.llvm.runtime.records import CONTEXT, DECISIONS
from tests.backends.llvm.random_programs import SEEN, SIZE, Model, arrays, mixed
from tests.backends.llvm.runtime_kernels import kernels, launch, program, table

THREADS = (1, 2, 4)


# -- phases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(("units", "grain"), [(1, 1), (7, 1), (7, 3), (1000, 7), (5, 100), (64, 64)])
def test_every_unit_runs_once(units, grain, threads):
    p = program(lambda a: a.phase(launch("add", units, grain, 0)), 1)
    x = np.zeros(units + 1, np.int64)
    for _ in range(20):
        p.run(table(x), threads)
    assert x.tolist() == [20] * units + [0]


@pytest.mark.parametrize("threads", THREADS)
def test_launches_of_one_phase(threads):
    """Their chunks stand in one row of numbers."""
    launches = [launch("add", 10, 3, 0), launch("add", 1, 1, 1), launch("add", 0, 1, 0), launch("add", 7, 1, 2)]
    p = program(lambda a: a.phase(*launches), 3)
    arrays = [np.zeros(n, np.int64) for n in (11, 2, 8)]
    p.run(table(*arrays), threads)
    assert [a.tolist() for a in arrays] == [[1] * 10 + [0], [1, 0], [1] * 7 + [0]]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("grain", [1, 5, SIZE])
def test_a_phase_sees_what_the_phase_before_wrote(threads, grain):
    def write(a):
        with a.loop(200):
            a.phase(launch("mix", SIZE, grain, 0, 1, SIZE))
            a.phase(launch("mix", SIZE, grain, 1, 0, SIZE))
        a.phase(launch("mix", SIZE, 7, 0, 1, SIZE))

    x, y = np.arange(SIZE), np.zeros(SIZE, np.int64)
    program(write, 2).run(table(x, y), threads)
    a, b = np.arange(SIZE), np.zeros(SIZE, np.int64)
    with np.errstate(over="ignore"):
        for _ in range(200):
            b = mixed(a, b, SIZE)
            a = mixed(b, a, SIZE)
        b = mixed(a, b, SIZE)
    np.testing.assert_array_equal((x, y), (a, b))


def test_workers_take_part():
    """Two chunks that wait for one another are done by two threads."""
    for _ in range(50):
        x = np.zeros(2, np.int64)
        program(lambda a: a.phase(launch("meet", 2, 1, 0, 2)), 1).run(table(x), 2)
        assert x.tolist() == [2, 0]


def test_threads_without_workers_of_their_own():
    x = np.zeros(100, np.int64)
    p = program(lambda a: a.phase(launch("add", 100, 1, 0)), 1)
    p.run(table(x), 7)
    p.run(table(x), 2)
    p.run(table(x))
    assert set(x) == {3}


def test_one_thread_needs_no_pool(monkeypatch):
    monkeypatch.setattr("nagraph.backends.llvm.runtime.program.pool", lambda: pytest.fail("the pool was asked for"))
    x = np.zeros(100, np.int64)
    program(lambda a: a.phase(launch("add", 100, 1, 0)), 1).run(table(x), 1)
    program(lambda a: a.phase(launch("add", 100, 100, 0)), 1).run(table(x), 2)  # nothing to share
    assert set(x) == {2}


@pytest.mark.parametrize("threads", THREADS)
def test_scratch_memory_is_each_threads_own(threads):
    """Each chunk waits for all others: they are on different threads."""
    x, y, nbytes = np.zeros(threads, np.int64), np.zeros(1, np.int64), 1000
    program(lambda a: a.phase(launch("scratch", threads, 1, 0, 1, threads)), 2, nbytes).run(table(x, y), threads)
    x.sort()
    assert (x % 64 == 0).all() and (np.diff(x) >= nbytes).all()


# -- control flow ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("reverse", [False, True])
def test_loops_move_pointers(threads, reverse):
    """y[o, i] += 3 x[i] + 1 for the rows in either order: each row once per turn of the outer loop, in its own place."""
    def write(a):
        with a.loop(3) as outer, a.loop(5) as inner:
            a.set_pointer(2, 1, 0, 40, outer)
            a.set_pointer(3, 0, 8, 8, inner, 5, reverse)
            a.set_pointer(4, 2, 0, 8, inner)
            a.phase(launch("mix", 1, 1, 3, 4, 1))
            a.phase(launch("add", 2, 1, 5))

    x, y, n = np.arange(10, 16), np.zeros((3, 5), np.int64), np.zeros(2, np.int64)
    none = np.zeros(1, np.int64)
    program(write, 6).run(table(x, y, none, none, none, n), threads)
    row = 3 * (x[1:][::-1] if reverse else x[1:]) + 1
    assert y.tolist() == [row.tolist()] * 3 and n.tolist() == [15, 15]


@pytest.mark.parametrize("threads", THREADS)
def test_loops_of_no_turn_and_swaps(threads):
    def write(a):
        with a.loop(0):
            a.phase(launch("add", 9, 1, 0))
        with a.loop(5):
            a.phase(launch("add", 9, 1, 0))
            a.swap(0, 1)

    x, y = np.zeros(9, np.int64), np.zeros(9, np.int64)
    given = table(x, y)
    kept = given.copy()
    program(write, 2).run(given, threads)
    assert set(x) == {3} and set(y) == {2} and (given == kept).all()


def counting(limit):
    """while x[0] < limit: x += 1, y += 1; in the end y += 1 once more."""
    def write(a):
        top, out = Label(), Label()
        a.place(top)
        a.phase(launch("less", 1, 1, 0, 1, limit))
        a.decide(1, out)
        a.phase(launch("add", 4, 1, 0))
        a.phase(launch("add", 4, 2, 2))
        a.jump(top)
        a.place(out)
        a.phase(launch("add", 4, 1, 2))
    return write


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("start", [0, 99, 100, 101, -3 * DECISIONS])
def test_while_loops_turn_as_often_as_the_data_say(threads, start):
    p = program(counting(2**62), 3)
    for _ in range(5):
        x, flag, y = np.full(4, start + 2**62 - 100), np.zeros(1, bool), np.zeros(4, np.int64)
        p.run(table(x, flag, y), threads)
        assert x.tolist() == [max(2**62, 2**62 - 100 + start)] * 4 and y.tolist() == [max(100 - start, 0) + 1] * 4


@pytest.mark.parametrize("threads", THREADS)
def test_branches(threads):
    def write(a):
        other, done = Label(), Label()
        with a.loop(7):
            a.phase(launch("add", 1, 1, 0))
            a.phase(launch("odd", 1, 1, 0, 1))
            a.decide(1, other)
            a.phase(launch("add", 5, 1, 2))
            a.jump(done)
            a.place(other)
            a.phase(launch("add", 5, 2, 3))
            a.place(done)

    x, flag, yes, no = np.zeros(1, np.int64), np.zeros(1, bool), np.zeros(5, np.int64), np.zeros(5, np.int64)
    program(write, 4).run(table(x, flag, yes, no), threads)
    assert set(yes) == {4} and set(no) == {3}


@pytest.mark.parametrize("seed", range(40))
def test_random_programs(seed):
    """The same bits as from the program in NumPy, whatever the number of threads."""
    model = Model(np.random.default_rng(seed))
    run = model.block(0)
    p = Program(model.a.code(), 7, 0, kernels()["library"])
    expected = arrays(seed)
    swapped = list(expected)
    with np.errstate(over="ignore"):
        run(swapped)
    for threads in (1, 2, 3, 4):
        for _ in range(3):
            got = arrays(seed)
            p.run(table(*got), threads)
            for g, e in zip(got[:SEEN + 1], expected):
                np.testing.assert_array_equal(g, e)


# -- calls -------------------------------------------------------------------------------------------------------------


def test_calls_of_several_python_threads():
    """One has the pool, the others run alone: the same program in all of them."""
    p = program(counting(1000), 3)
    wrong = []

    def calls(first):
        for n in range(60):
            x, flag, y = np.full(4, first + n), np.zeros(1, bool), np.zeros(4, np.int64)
            p.run(table(x, flag, y), 2)
            if x.tolist() != [1000] * 4 or y.tolist() != [1000 - first - n + 1] * 4:
                wrong.append((first, n, x, y))

    threads = [threading.Thread(target=calls, args=(100 * k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_call_beside_another_runs_on_its_own_thread():
    """The first has the pool and waits for the second, which must not wait for the pool."""
    x, y = np.zeros(2, np.int64), np.zeros(8, np.int64)
    first = threading.Thread(target=program(lambda a: a.phase(launch("await", 2, 1, 0, 1)), 1).run, args=(table(x), 2))
    first.start()
    program(lambda a: a.phase(launch("add", 8, 1, 0)), 1).run(table(y), 2)
    program(lambda a: a.phase(launch("add", 1, 1, 0)), 1).run(table(x), 1)
    first.join()
    assert set(y) == {1} and x.tolist() == [1, 0]


def test_python_goes_on_during_a_call():
    """The call ends when Python code on another thread writes what it waits for."""
    x = np.zeros(2, np.int64)
    run = threading.Thread(target=program(lambda a: a.phase(launch("await", 2, 1, 0, 1)), 1).run, args=(table(x), 2))
    run.start()
    x[0] = 1
    run.join()
    assert x.tolist() == [1, 0]


def test_many_programs_come_and_go():
    """Their memory is freed, though late workers may have looked at it."""
    x = np.zeros(16, np.int64)
    gone = []
    for n in range(300):
        p = program(lambda a, n=n: [a.phase(launch("add", 16, 1, 0)) for _ in range(1 + n % 5)], 1, 64 * (n % 50))
        p.run(table(x), 2)
        (memory,) = p._free[2]
        gone.append(weakref.ref(memory._parts[3].base))
        del p, memory
    gc.collect()
    program(lambda a: a.phase(launch("add", 1, 1, 0)), 1).run(table(x), 1)
    end = time.monotonic() + 20
    while len(pool()._retired) > 1 and time.monotonic() < end:  # on a busy machine a worker may come late for long
        time.sleep(0.01)
        pool().retire(None)
    assert sum(g() is not None for g in gone) < 20 and len(pool()._retired) < 20
    assert set(x[1:]) == {sum(1 + n % 5 for n in range(300))}


def test_memory_is_kept_while_a_worker_may_look_at_it():
    class Part:
        pass

    crew, parts = Pool(), [Part(), Part()]
    gone = [weakref.ref(p) for p in parts]
    crew.context[CONTEXT["busy"]] = 1
    crew.retire(parts.pop(0))
    assert gone[0]() is not None
    crew.context[CONTEXT["busy"]] = 0
    crew.retire(parts.pop(0))
    assert gone[0]() is None and gone[1]() is None


def test_scratch_memory_that_is_not_to_be_had():
    p = program(lambda a: a.phase(launch("add", 16, 1, 0)), 1)
    p.scratch_nbytes = 1 << 60
    x = np.zeros(16, np.int64)
    with pytest.raises(MemoryError):
        p.run(table(x), 2)
    p.scratch_nbytes = 64
    p.run(table(x), 2)
    assert set(x) == {1}


def test_what_is_refused():
    p = program(lambda a: a.phase(launch("add", 16, 1, 0)), 1)
    with pytest.raises(ValueError, match="1 pointers got a table of 2"):
        p.run(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="at least one thread"):
        p.run(np.zeros(1, np.int64), 0)
    for write, message in (
        (lambda a: a.swap(0, 3), "a table of 3 pointers lacks one of 'swap 0, 3'"),
        (lambda a: a.set_pointer(-1, 0), "lacks one of 'set -1 = 0"),
        (lambda a: a.jump(Label()), "label that has no place"),
        (lambda a: a.begin(3), "loops without an end"),
        (lambda a: a.phase(EncodedLaunch(0, 4, 0)), "grain >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            program(write, 3)
    with pytest.raises(ValueError, match="no instruction stands where 'jump 1' leads"):
        Program([8, 1, 0], 1)


def test_default_threads_are_the_cores_of_the_process():
    assert 1 <= default_threads()
    assert pools.pool() is pools.pool()


def test_listing():
    a = Assembler()
    out = Label()
    with a.loop(3) as c:
        a.set_pointer(1, 0, 8, 16, c, 3, reverse=True)
        a.phase(EncodedLaunch(4096, 100, 7, (0,)), EncodedLaunch(4097, 10, 7, (1, 2)))
        a.phase(EncodedLaunch(4096, 1, 1, (1,)))
        a.phase(EncodedLaunch(4096, 5, 5, (1,)))
        a.decide(2, out)
    a.place(out)
    a.commit()
    a.swap(0, 1)
    assert listing(a.code(), {4096: "f"}) == """\
    0  loop counter 1, 3 iterations, then 43
    4  set 1 = 0 + 40 + -16 * counter 1
   10  phase of 17 chunks:
           f on 100 units, 15 chunks of 7, arguments from word 48
           0x1001 on 10 units, 2 chunks of 7, arguments from word 49
   23  chain:
           f on 1 units, 1 chunks of 1, arguments from word 51
           f on 5 units, 1 chunks of 5, arguments from word 52
   36  decide 2, otherwise 43
   39  end counter 1, 3 iterations, body 4
   43  commit
   44  swap 0, 1
   47  stop"""
    assert str(a) == listing(a.code())


def test_a_label_between_two_phases_ends_a_chain():
    """Who jumps to the second must not do the first."""
    def write(a):
        second, out = Label(), Label()
        a.decide(1, second)
        a.phase(launch("add", 1, 1, 0))
        a.place(second)
        a.phase(launch("add", 1, 1, 2))
        a.place(out)

    x, flag, y = np.zeros(1, np.int64), np.zeros(1, bool), np.zeros(1, np.int64)
    program(write, 3).run(table(x, flag, y))
    assert (x[0], y[0]) == (0, 1)


def test_arguments_are_read_from_the_launch():
    """A kernel of Python's: it sees the table, its arguments, its units and memory of its own."""
    seen = []

    @ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p)
    def kernel(slots, args, start, stop, scratch):
        numbers = (ctypes.c_int64 * 3).from_address(args)
        seen.append((list(numbers), [(ctypes.c_int64 * 2).from_address(slots)[i] for i in (0, 1)], start, stop, scratch % 64))

    a = Assembler()
    a.phase(EncodedLaunch(ctypes.cast(kernel, ctypes.c_void_p).value, 5, 2, (7, 0, 1 << 40)))
    Program(a.code(), 2, 8, kernel).run(np.array([11, 12]), 2)
    assert sorted(seen) == [([7, 0, 1 << 40], [11, 12], i, min(i + 2, 5), 0) for i in (0, 2, 4)]
