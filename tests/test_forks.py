"""Forks at any moment of a compilation in another thread: the child compiles and runs, and so does the parent."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nagraph import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

#: Arguments: seed, backend, whether it has compiled before, forks. A child that hangs is ended by its alarm.
SCRIPT = """
import os, random, signal, sys, threading, time
import numpy as np, nagraph as ng

seed, backend, warm, count = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "warm", int(sys.argv[4])
rng, x, end = random.Random(seed), np.eye(9), False

def wanted(k):
    return np.tanh(x @ x.T * k) + np.exp(x).sum(axis=0) * (k + 1)

def one(k):
    found = ng.jit(lambda x: np.tanh(x @ x.T * k) + np.exp(x).sum(axis=0) * (k + 1), backend=backend)(x)
    np.testing.assert_allclose(found, wanted(k), rtol=1e-13)

def compile():
    k = seed * 1000.0
    while not end:
        one(k := k + 1)

if warm:
    one(0.5)
thread = threading.Thread(target=compile)
thread.start()
failed = []
for n in range(count):
    time.sleep(rng.uniform(0, 0.03 if warm else 1))
    child = os.fork()
    if not child:
        signal.alarm(60)
        try:
            one(1e6 + n)
            one(2e6 + n)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    failed.append(os.waitpid(child, 0)[1])
end = True
thread.join(100)
print(failed.count(0), "went well;", "ended" if not thread.is_alive() else "the parent hangs")
"""


def run(*arguments) -> str:
    environment = {**os.environ, "NAGRAPH_CACHE": "off", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", SCRIPT, *map(str, arguments)], env=environment, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_a_child_of_a_process_that_compiles(backend):
    assert run(0, backend, "warm", 25) == "25 went well; ended"


@pytest.mark.parametrize("seed", range(2))
def test_a_child_of_a_process_that_compiles_for_the_first_time(seed):
    """While modules are imported, and LLVM is set up."""
    assert run(seed, "llvm", "cold", 1) == "1 went well; ended"


def test_a_lock_of_another_thread_is_free_in_the_child_and_an_own_one_is_kept():
    own, others, taken, end = forks.Lock(), forks.Lock(), threading.Event(), threading.Event()

    def hold():
        with others:
            taken.set()
            end.wait()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    taken.wait()
    with own:
        child = os.fork()
        if not child:
            signal.alarm(5)  # in place of waiting for a lock that nobody has
            with others, own:
                pass
            os._exit(0 if not os.read(os.open("/dev/null", os.O_RDONLY), 1) else 1)
        assert os.waitpid(child, 0)[1] == 0
    end.set()
    thread.join()


def test_a_fork_waits_for_what_must_not_be_in_the_middle_of_something(monkeypatch):
    busy, taken, end = threading.RLock(), threading.Event(), threading.Event()
    state = [0, 0]
    monkeypatch.setattr(forks, "_HELD", [busy])

    def work():
        while not end.is_set():
            with busy:
                state[0] += 1
                taken.set()
                time.sleep(0.001)
                state[1] += 1
            time.sleep(0.001)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    taken.wait()
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(state[0] != state[1])
        assert os.waitpid(child, 0)[1] == 0
    end.set()
    thread.join()
