"""Too little memory is a MemoryError, wherever it is missing, and the executable works on when there is enough again."""

import os
import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")

#: Compile everything first, then take away what a large array needs.
HEAD = """
import resource
import numpy as np
import nagraph as ng
from nagraph.backends.llvm.runtime.program import Program
from tests.backends.llvm.runtime_kernels import launch, program, table

def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

class Limit:
    def __enter__(self):
        resource.setrlimit(resource.RLIMIT_AS, (used() + (200 << 20), resource.RLIM_INFINITY))
    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def fails(call):
    try:
        call()
    except MemoryError:
        return True
    return False

N = 1 << 27
small = ng.jit(lambda x: (x + 1).sum(), threads=2)
x = np.ones(3)
assert small(x) == 6
"""

CASES = {
    # running sums are stored before anything reads them
    "arena": """
f = ng.jit(lambda x: np.cumsum(x[0] * np.arange(N // 4))[::-1].max(), threads=2)
exe = f.lower(x).executable
assert exe.memory.arena_bytes > 200 << 20
want = float(N // 4 * (N // 4 - 1) // 2)
""",
    "outputs": """
f = ng.jit(lambda x: np.broadcast_to(x[:, None], (3, N // 6)), threads=2)
f.lower(x)
want = np.ones((3, N // 6))
""",
    "scratch": """
p, kept = program(lambda a: a.phase(launch("add", 8, 1, 0)), 1, N), np.zeros(8, np.int64)
def f(x):
    p.run(table(kept), 2)
    return kept[0]
want = 1
""",
}


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
@pytest.mark.parametrize("what", CASES)
def test_what_is_missing_is_named_and_nothing_is_lost(what):
    code = HEAD + CASES[what] + """
for turn in range(3):
    with Limit():
        assert fails(lambda: f(x)), "it needed less"
        assert small(x) == 6
assert np.array_equal(f(x), want)
print("right")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)})
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr
