"""How long `import nagraph` takes beyond `import numpy`, each in a new interpreter; and how long until a function is compiled.

    python tests/benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 10
LIMIT_SECONDS = 0.25
CASES = {
    "import nagraph": "import nagraph",
    "every public function": "import nagraph as ng; [getattr(ng, n) for n in ng._NAMES]",
    "a first compiled call": "import nagraph as ng; ng.jit(ng.grad(lambda x: np.tanh(x).sum()))(np.ones(3))",
}


def median_seconds(code: str) -> float:
    """The median, over some new interpreters, of the seconds that the code takes after `import numpy`."""
    program = f"import time\nimport numpy as np\nstart = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)"
    found = [float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout) for _ in range(RUNS)]
    return statistics.median(found)


def main() -> int:
    seconds = {name: median_seconds(code) for name, code in CASES.items()}
    for name, s in seconds.items():
        print(f"{name:<24} {s * 1e3:8.1f} ms beyond numpy")
    return int(seconds["import nagraph"] > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
