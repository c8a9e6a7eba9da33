"""How long a train step's first call takes in a new process, imports excluded: without a cache, and with one.

    python tests/benchmarks/first_call.py [MODEL ...] --peers FOLDER

The models are those of `peers_adapter.py`, with the sizes of the folder's `configs`. A first call is everything from the
call to its result: tracing, passes, code, and the step itself. Exits with 1 if one takes longer than its limit.
"""

import argparse
import os
import subprocess
import sys
import tempfile

from rich.console import Console
from rich.table import Table

#: Seconds at most: cold, from the cache.
LIMITS = {"gpt2": (3.0, 0.3), "clip": (8.0, None)}
MODELS = ("gpt2", "vit", "bert", "clip", "modern", "resnet", "gpt2_big", "mlp")
PROCESS = """
import sys, time
sys.path[:0] = {paths!r}
import nagraph.backends.llvm, nagraph.ir.printer, nagraph.ir.verify, nagraph.pipeline
from peers_adapter import Adapter
for name in nagraph.pipeline.pass_names():
    nagraph.pipeline.load(name)
made = Adapter(2, "llvm").train({model!r})
step = made[0] if isinstance(made, tuple) else made
start = time.perf_counter()
step()
print(time.perf_counter() - start)
"""


def seconds(model: str, peers: str, cache: str) -> float:
    """The first call in a new process whose cache is that folder."""
    code = PROCESS.format(paths=[os.path.dirname(os.path.abspath(__file__)), peers], model=model)
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    return float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--peers", required=True, help="the folder of the benchmark against other frameworks")
    given = parser.parse_args()
    table = Table("first call, train step", "without a cache", "from the cache", box=None)
    late = False
    for model in given.models:
        with tempfile.TemporaryDirectory() as cache:
            found = [seconds(model, given.peers, cache) for _ in range(2)]
        late |= any(s > limit for s, limit in zip(found, LIMITS.get(model, ())) if limit)
        table.add_row(model, *(f"{s:.2f} s" for s in found))
    Console().print(table)
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
