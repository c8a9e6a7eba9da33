"""Ctrl-C while one chunk takes long: the call ends soon, donated arrays are as they were, and everything goes on."""

import signal
import time

import numpy as np
import pytest

import nagraph as ng
from nagraph import numpy as np_
from nagraph.backends.llvm.text.builder import LEAVE
from tests.backends.llvm.test_runtime_process import Interruption, handler, interrupt

KEYS, X = (np.linspace(0, 1, n).astype(np.float32) for n in (1_000_000, 12_000_000))

#: Functions whose kernels can't be cut: each of their units depends on all elements.
LONG = {
    "sort": lambda x: np_.sort(x), "argsort of rows": lambda x: np_.argsort(np_.stack([x, -x]), axis=1),
    "running sum": lambda x: np_.cumsum(np_.sin(x)), "running maximum": lambda x: np_.cummax(np_.tanh(x)),
    "a loop of running sums": lambda x: ng.scan(lambda c, _: (np_.cumsum(np_.sin(c)), None), x, None, length=20)[0],
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", LONG)
def test_a_call_ends_soon(name, threads):
    """Three times in a row, at any moment; then the result is right."""
    jitted, x = ng.jit(LONG[name], threads=threads), KEYS if "sort" in name else X
    assert LEAVE in jitted.lower(x).executable.source("llvm")
    wanted = jitted(x)
    start = time.perf_counter()
    jitted(x)
    whole = time.perf_counter() - start
    rng = np.random.default_rng(0)
    with handler(interrupt):
        for _ in range(3):
            delay = rng.uniform(0.005, 0.5 * whole)
            signal.setitimer(signal.ITIMER_REAL, delay)
            start = time.perf_counter()
            with pytest.raises(Interruption):
                jitted(x)
                time.sleep(30)
            assert time.perf_counter() - start < delay + 0.5
    np.testing.assert_array_equal(jitted(x), wanted)


@pytest.mark.parametrize("threads", [1, 2])
def test_donated_arrays_are_as_they_were(threads):
    jitted = ng.jit(lambda x: np_.sort(np_.cumsum(np_.sin(x * 1e6)))[::-1] + 1, donate_argnames="x", threads=threads)
    x = KEYS.copy()
    jitted(KEYS.copy())
    with handler(interrupt):
        for _ in range(3):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Interruption):
                jitted(x)
                time.sleep(30)
            np.testing.assert_array_equal(x, KEYS)
    np.testing.assert_array_equal(jitted(x), jitted(KEYS.copy()))


def test_a_handler_that_does_not_raise_lets_the_kernel_go_on():
    """It may even call the same function."""
    jitted, seen = ng.jit(LONG["sort"]), []
    wanted = jitted(-KEYS)
    with handler(lambda: seen.append(jitted(-KEYS))):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        found = jitted(-KEYS)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(seen[0], wanted)


def test_kernels_of_usual_sizes_do_not_ask():
    x = np.ones((64, 4096), np.float32)
    for fn in (lambda x: np_.sort(x), lambda x: (x @ x.T).sum(), lambda x: np_.cumsum(x, axis=1), lambda x: np_.exp(x).sum(axis=1)):
        assert LEAVE not in ng.jit(fn).lower(x).executable.source("llvm")
