"""Functions of Python that a program calls: in order, once, on one thread; what they raise reaches the caller."""

import gc
import signal
import threading
import time
import weakref

import numpy as np
import pytest

from nagraph.backends.llvm.native.addresses import word_at
from nagraph.backends.llvm.runtime.assembler import Assembler, EncodedLaunch, Label, listing
from nagraph.backends.llvm.runtime.program import Program
from tests.backends.llvm.runtime_kernels import kernels, launch, table
from tests.backends.llvm.test_runtime_process import FOREVER, Interruption, handler, interrupt, python_kernel, together, until

THREADS = (1, 2, 4)


class Told(Exception):
    """What the tests' functions raise."""


def at(slot, function):
    """The function of the address at table[slot] as one of the address of the table."""
    return lambda table: function(word_at(table + 8 * slot))


def telling(write, slots):
    """The program that `write(assembler)` writes; it keeps the functions that it calls."""
    a = Assembler()
    write(a)
    return Program(a.code(), slots, 0, (kernels()["library"], a.functions))


@pytest.mark.parametrize("threads", THREADS)
def test_functions_see_all_that_was_written_before_and_are_called_in_order(threads):
    x, seen = np.zeros(64, np.int64), []

    def write(a):
        with a.loop(200):
            a.phase(launch("add", 64, 1, 0))
            a.host(at(0, lambda address: seen.append((address == x.ctypes.data, "first", *set(x.tolist())))))
            a.host(at(0, lambda address: seen.append((address == x.ctypes.data, "second", *set(x.tolist())))))

    p = telling(write, 1)
    for turn in range(2):
        p.run(table(x), threads)
        assert seen == [(True, name, 200 * turn + n) for n in range(1, 201) for name in ("first", "second")]
        seen.clear()


@pytest.mark.parametrize("threads", THREADS)
def test_what_a_function_raises_ends_the_call(threads):
    """The call would take years; what stands behind it is not done, and the pool is as it was."""
    assert together()
    for _ in range(20):
        x, calls = np.zeros(8, np.int64), []

        def tell(address, x=x, calls=calls):
            calls.append(int(x[0]))
            if x[0] == 7:
                raise Told(int(x[0]))

        def write(a, tell=tell):
            with a.loop(FOREVER):
                a.phase(launch("add", 8, 1, 0))
                a.host(at(0, tell))

        with pytest.raises(Told, match="7"):
            telling(write, 1).run(table(x), threads)
        assert set(x) == {7} and calls == list(range(1, 8)) and together()


@pytest.mark.parametrize("who", ["caller", "worker"])
def test_it_does_not_matter_whose_thread_it_was(who):
    """Who is last in the phase before has the best chance to get the function; only one of the two raises there."""
    caller, meeting = threading.get_ident(), threading.Barrier(2)

    def here():
        return (threading.get_ident() == caller) == (who == "caller")

    def both():
        meeting.wait(30)
        if here():
            time.sleep(0.01)

    def tell(address):
        if here():
            raise Told

    address, kept = python_kernel(both)
    assert address is not None

    def write(a):
        with a.loop(FOREVER):
            a.phase(EncodedLaunch(address, 2, 1))
            a.host(at(0, tell))

    p, x = telling(write, 1), np.zeros(1)
    for _ in range(20):
        with pytest.raises(Told):
            p.run(table(x), 2)
        assert together()


@pytest.mark.parametrize("threads", THREADS)
def test_after_commit_the_call_comes_to_its_end_and_then_raises(threads):
    """The first error is the caller's; after it no function is called any more."""
    x, calls = np.zeros(8, np.int64), []

    def tell(address):
        calls.append(int(x[0]))
        raise Told(len(calls))

    def write(a):
        a.commit()
        with a.loop(100):
            a.phase(launch("add", 8, 1, 0))
            a.host(at(0, tell))
        a.phase(launch("add", 8, 1, 0))

    p = telling(write, 1)
    for turn in (1, 2):
        with pytest.raises(Told, match=str(turn)):
            p.run(table(x), threads)
        assert set(x) == {101 * turn} and calls == [1, 102][:turn] and together()


def test_a_function_that_fails_in_a_loop_of_decisions():
    def tell(address):
        raise Told

    def write(a):
        top, out = Label(), Label()
        a.place(top)
        a.decide(0, out)
        a.host(at(0, tell))
        a.jump(top)
        a.place(out)

    flag = np.ones(1, bool)
    for _ in range(50):
        with pytest.raises(Told):
            telling(write, 1).run(table(flag), 2)
    assert together()


def test_a_signal_while_a_function_runs():
    """What its handler raises comes out of the function."""
    def tell(address):
        until(lambda: False)

    with handler(interrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interruption):
            telling(lambda a: a.host(at(0, tell)), 1).run(table(np.zeros(1)), 1)
    assert together()


def test_a_function_may_run_programs_itself():
    """The pool is taken meanwhile, so these run on the thread that calls."""
    x = np.zeros(8, np.int64)
    inner = telling(lambda a: a.phase(launch("add", 8, 1, 0)), 1)

    def write(a):
        with a.loop(50):
            a.phase(launch("add", 8, 1, 0))
            a.host(at(0, lambda address: inner.run(table(x), 2)))

    telling(write, 1).run(table(x), 2)
    assert set(x) == {100}


def test_calls_of_several_threads_keep_their_errors_apart():
    found = {}

    def call(n):
        x = np.zeros(8, np.int64)

        def tell(address):
            raise Told(n)

        p = telling(lambda a: (a.phase(launch("add", 8, 1, 0)), a.host(at(0, tell))), 1)
        for _ in range(100):
            try:
                p.run(table(x), 2)
            except Told as error:
                found.setdefault(n, set()).add(error.args)

    callers = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert found == {n: {(n,)} for n in range(4)} and together()


def test_functions_live_as_long_as_their_program_and_errors_no_longer():
    class Function:
        def __call__(self, address):
            raise Told

    functions = [Function()]
    kept = weakref.ref(functions[0])
    p = telling(lambda a: a.host(at(0, functions.pop())), 1)
    gc.collect()
    assert kept() is not None
    with pytest.raises(Told) as caught:
        p.run(table(np.zeros(1)), 1)
    error = weakref.ref(caught.value)
    del p, caught
    gc.collect()
    assert kept() is None and error() is None


def test_listings_show_it():
    a = Assembler()
    a.host(print)
    assert listing(a.code()).split() == ["0", "host", "2", "stop"]
