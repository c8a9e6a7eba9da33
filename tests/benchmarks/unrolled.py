"""How long the first call of a recurrence that is written out takes, its gradient, in new processes; beside JAX.

    python tests/benchmarks/unrolled.py [steps ...]

x = tanh(x @ w + x), so many times; the gradient of the sum by w. Seconds of CPU time from the call to its result: tracing, passes,
code, the call itself. Imports and a first small call are left out, the cache on disk is off. JAX has a column if it is installed.
"""

import importlib.util
import os
import subprocess
import sys

from rich.console import Console
from rich.table import Table

STEPS = (100, 300, 1_000)
SHAPES = ((32, 64), (1, 32), (128, 128))
PROCESS = """
import time
import numpy as np
{imports}
steps, rows, width = {steps}, {rows}, {width}
rng = np.random.default_rng(0)
x, w = rng.normal(size=(rows, width)).astype("f4"), (0.01 * rng.normal(size=(width, width))).astype("f4")

def loss(x, w):
    for _ in range(steps):
        x = tanh(x @ w + x)
    return x.sum()

np.asarray(jit(lambda x: tanh(x @ x))(np.eye(3, dtype="f4")))
start = time.process_time()
np.asarray(jit(grad(loss, argnums=1))(x, w))
print(time.process_time() - start)
"""
IMPORTS = {"nagraph": "from nagraph import grad, jit; from nagraph.numpy import tanh",
           "jax": "from jax import grad, jit; from jax.numpy import tanh"}


def seconds(name: str, steps: int, rows: int, width: int) -> float:
    """CPU seconds of the first call in a new process."""
    code = PROCESS.format(imports=IMPORTS[name], steps=steps, rows=rows, width=width)
    environment = {**os.environ, "NAGRAPH_CACHE": "off"}
    return float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    names = [name for name in IMPORTS if importlib.util.find_spec(name)]
    table = Table("steps", "shape", *names, box=None, title="first call, s")
    for rows, width in SHAPES:
        for steps in map(int, sys.argv[1:] or STEPS):
            table.add_row(f"{steps:,}", f"{rows} x {width}", *(f"{seconds(name, steps, rows, width):.2f}" for name in names))
    Console().print(table)


if __name__ == "__main__":
    main()
