"""The runtime in its process: signals, forks, exits, sleep, and a machine that is busy with something else."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from nagraph.backends.llvm.runtime.assembler import Assembler, EncodedLaunch, Label
from nagraph.backends.llvm.runtime.program import Program
from tests.backends.llvm.runtime_kernels import kernels, launch, program, table

FOREVER = 1 << 60


class Interruption(Exception):
    """What the tests' signal handlers raise."""


@contextlib.contextmanager
def handler(function):
    old = signal.signal(signal.SIGALRM, lambda *_: function())
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, old)


def interrupt():
    raise Interruption


def until(there, seconds=30):
    """Wait until it is so. Raises if it never is."""
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.001)


def together():
    """Two threads do work that one cannot."""
    x = np.zeros(2, np.int64)
    program(lambda a: a.phase(launch("meet", 2, 1, 0, 2)), 1).run(table(x), 2)
    return x.tolist() == [2, 0]


def python_kernel(function):
    """A kernel that calls a function of Python: (address, what keeps it)."""
    made = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p)(lambda *_: function())
    return ctypes.cast(made, ctypes.c_void_p).value, made


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("chunks", [1, 9])
def test_a_handler_that_raises_ends_the_call(threads, chunks):
    """The call would take years; after it the pool is as it was."""
    def write(a):
        a.phase(launch("add", 9, 1, 0))
        with a.loop(FOREVER):
            a.phase(launch("work", chunks, 1, 1000))
            a.phase(launch("add", 9, 9, 1))

    assert together()  # and the driver is compiled
    p = program(write, 2)
    for _ in range(5):
        x, y = np.zeros(9, np.int64), np.zeros(9, np.int64)
        with handler(interrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Interruption):
                p.run(table(x, y), threads)
        assert set(x) == {1} and len(set(y)) == 1
        assert together()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loop_of_decisions_ends_too(threads):
    def write(a):
        top, out = Label(), Label()
        a.place(top)
        a.decide(0, out)
        a.jump(top)
        a.place(out)
        a.phase(launch("add", 2, 1, 1))

    x = np.zeros(2, np.int64)
    with handler(interrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interruption):
            program(write, 2).run(table(np.ones(1, bool), x), threads)
    assert set(x) == {0} and together()


def test_a_handler_that_does_not_raise_lets_the_call_go_on():
    seen = []
    x, y = np.zeros(2, np.int64), np.zeros(2, np.int64)

    def let():
        seen.append(program(lambda a: a.phase(launch("add", 2, 1, 0)), 1).run(table(y), 2))  # the pool is taken: alone
        x[0] = 1

    with handler(let):
        signal.setitimer(signal.ITIMER_REAL, 0.05)

        def write(a):
            top, out = Label(), Label()
            a.place(top)
            a.phase(launch("work", 2, 1, 1000))
            a.phase(launch("less", 1, 1, 0, 1, 1))
            a.decide(1, out)
            a.jump(top)
            a.place(out)

        program(write, 2).run(table(x, np.zeros(1, bool)), 2)
    assert seen == [None] and y.tolist() == [1, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_after_commit_a_call_comes_to_its_end(threads):
    """The signal comes between COMMIT and the end, which is late enough for it to have been noticed."""
    x, y = np.zeros(2, np.int64), np.zeros(4, np.int64)

    def write(a):
        a.commit()
        a.phase(launch("add", 4, 1, 1))
        a.phase(launch("await", 1, 1, 0, 1))
        with a.loop(300):
            a.phase(launch("work", 4, 1, 100_000))
        a.phase(launch("add", 4, 1, 1))

    def send():
        until(lambda: y[3])
        os.kill(os.getpid(), signal.SIGALRM)
        x[0] = 1

    sender = threading.Thread(target=send)
    with handler(interrupt):
        sender.start()
        with pytest.raises(Interruption):
            program(write, 2).run(table(x, y), threads)
            time.sleep(10)  # the handler may run a moment after the call
    sender.join()
    assert set(y) == {2} and x[1] == 0 and together()


def held(after, slots):
    """A program of a worker and a caller that meet; a signal comes while the worker waits for `go`; then what `after` writes."""
    meeting, go, caller = threading.Barrier(2), threading.Event(), threading.get_ident()

    def both():
        meeting.wait(30)
        if threading.get_ident() != caller:
            time.sleep(0.2)  # let the caller be out of Python
            os.kill(os.getpid(), signal.SIGALRM)
            go.wait(30)

    address, kept = python_kernel(both)
    a = Assembler()
    a.phase(EncodedLaunch(address, 2, 1))
    after(a)
    return Program(a.code(), slots, 0, (kept, kernels()["library"])), go


def test_a_worker_may_commit_while_the_handler_runs():
    """Then the call is not abandoned though the handler raises: it comes to its end before the caller gets the error."""
    x = np.zeros(4, np.int64)

    def after(a):
        a.commit()
        with a.loop(1_000_000):
            a.phase(launch("add", 4, 1, 0))

    p, go = held(after, 1)

    def handle():
        go.set()
        until(lambda: x[0] > 0)
        raise Interruption

    with handler(handle), pytest.raises(Interruption):
        p.run(table(x), 2)
    assert set(x) == {1_000_000} and together()


def test_a_caller_that_is_late_for_a_decision_waits_for_the_end():
    """While its signal handler ran, the others passed more decisions than are remembered; it must not take others for them."""
    turns = 100_000
    flags = np.random.default_rng(0).integers(0, 2, turns).astype(bool)
    x, y, at = np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(1, np.int64)
    late = []

    def after(a):
        with a.loop(turns) as turn:
            other, done = Label(), Label()
            a.set_pointer(3, 2, 0, 1, turn)
            a.decide(3, other)
            a.phase(launch("add", 2, 1, 0))
            a.phase(launch("work", 2, 1, 0))
            a.jump(done)
            a.place(other)
            a.phase(launch("add", 2, 2, 1))
            a.place(done)
        a.phase(launch("add", 2, 1, 0))

    p, go = held(after, 4)

    def handle():
        go.set()
        until(lambda: x[0] + y[0] > 2000)
        late.append(int(x[0]))

    with handler(handle):
        p.run(table(x, y, flags, at), 2)
    assert late and x.tolist() == [flags.sum() + 1] * 2 and y.tolist() == [turns - flags.sum()] * 2 and together()


# -- processes ---------------------------------------------------------------------------------------------------------


def python(text, first="", seconds=60):
    """Run a script, `first` before anything else: its output. It must end well and say nothing on stderr."""
    head = first + """
import atexit, os, sys, threading, time
import numpy as np
from tests.backends.llvm.runtime_kernels import launch, program, table
from tests.backends.llvm.test_runtime_process import together
x = np.zeros(8, np.int64)
add = program(lambda a: a.phase(launch("add", 8, 1, 0)), 1)
"""
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", head + text], capture_output=True, text=True,
                          timeout=seconds, env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_fork():
    """The child makes a pool of its own, as often as it is forked, also out of the middle of somebody's calls."""
    assert python("""
assert together()
end = False
def calls():
    while not end:
        add.run(table(np.zeros(8, np.int64)), 2)
for k in range(20):
    if k == 10:
        caller = threading.Thread(target=calls)
        caller.start()
    child = os.fork()
    if not child:
        for n in range(20):
            add.run(table(x), 2)
        os._exit(0 if set(x) == {20} and (k >= 10 or together()) and together() else 1)
    assert os.waitpid(child, 0)[1] == 0
end = True
caller.join()
print(together())
""") == "True\n"


@pytest.mark.parametrize("text", [
    "add.run(table(x), 4)",
    "add.run(table(x), 4); time.sleep(0.2)",
    "add.run(table(x), 4); sys.exit()",
    "atexit.register(lambda: add.run(table(x), 3))",
    "add.run(table(x), 2); atexit.register(lambda: add.run(table(x), 3))",
    # a daemon thread in the middle of calls, or of one call
    """
def calls():
    while True:
        add.run(table(x), 2)
threading.Thread(target=calls, daemon=True).start(); time.sleep(0.1)""",
    """
def write(a):
    with a.loop(2000):
        a.phase(launch("work", 4, 1, 100_000))
threading.Thread(target=program(write, 0).run, args=(table(), 2), daemon=True).start(); time.sleep(0.1)""",
])
def test_exit(text):
    """The interpreter ends cleanly whatever the workers are doing."""
    for _ in range(3):
        assert python("print('begun')\n" + text) == "begun\n"


def test_workers_end_before_the_interpreter():
    """What is registered first is called last, when the workers are gone."""
    shown = python("add.run(table(x), 3)", """
import atexit, threading
atexit.register(lambda: print([t.name for t in threading.enumerate() if "nagraph" in t.name]))
""")
    assert shown == "[]\n"


def test_an_interrupt_from_the_terminal():
    """SIGINT with Python's own handler: KeyboardInterrupt, and the next call is as ever."""
    assert python("""
import signal
def write(a):
    a.phase(launch("add", 8, 1, 0))
    with a.loop(1 << 60):
        a.phase(launch("work", 4, 1, 1000))
def send():
    while not x[7]:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=send).start()
try:
    program(write, 1).run(table(x), 2)
except KeyboardInterrupt:
    print("interrupted", together())
""") == "interrupted True\n"


def test_an_idle_process_uses_no_time():
    used = float(python("""
for _ in range(100):
    assert together()
time.sleep(0.2)
start = time.process_time()
time.sleep(1)
print(time.process_time() - start)
"""))
    assert used < 0.1


def test_a_busy_machine():
    """Others use all cores, and more threads than cores take part: calls are slower, but right."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range((os.cpu_count() or 1) + 1)]
    try:
        assert python("""
from tests.backends.llvm.test_runtime import counting
count = program(counting(1000), 3)
for n in range(300):
    add.run(table(x), 1 + n % 4)
    assert set(x) == {n + 1}
    a, flag, b = np.full(4, 3 * n), np.zeros(1, bool), np.zeros(4, np.int64)
    count.run(table(a, flag, b), 1 + n % 4)
    assert set(a) == {1000} and set(b) == {1000 - 3 * n + 1}, (n, a, b)
print("right")
""", seconds=300) == "right\n"
    finally:
        for b in busy:
            b.kill()
            b.wait()
