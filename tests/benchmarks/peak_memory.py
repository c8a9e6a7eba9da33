"""The memory that a train step takes, beside PyTorch's: how far a process grows from its imports to the peak of some steps.

    python tests/benchmarks/peak_memory.py [MODEL ...] --peers FOLDER

The models are those of `peers_adapter.py` and of the folder's `torch_models`, with the same weights, batches and optimiser.
Each runs in a process of its own, on 2 threads; what ours compiles it compiles there, with no cache. Shown are megabytes
from after the imports to the highest of a step once the first two are done (weights, moments, batches, activations, what
the allocator keeps) and to the highest of all, compilation included. Linux only: the system counts. Exits with 1 if a
step takes more than PyTorch's.
"""

import argparse
import os
import subprocess
import sys

from rich.console import Console
from rich.table import Table

MODELS = ("gpt2", "vit", "bert", "clip", "modern", "resnet", "gpt2_big", "mlp")
PROCESS = """
import re, sys
sys.path[:0] = {paths!r}
from {module} import Adapter
{imports}

def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

def forget():
    open("/proc/self/clear_refs", "w").write("5")

forget()
before = status("VmRSS")
made = Adapter(2, {variant!r}).train({model!r})
step = made[0] if isinstance(made, tuple) else made
step(), step()
whole = status("VmHWM") - before
forget()
step(), step()
print(status("VmHWM") - before, whole)
"""
OURS = ("peers_adapter", "llvm",
        "import nagraph.backends.llvm\nfrom nagraph.pipeline import load, pass_names\nlist(map(load, pass_names()))")
THEIRS = ("torch_models", "torch_eager", "")


def megabytes(model: str, peers: str, module: str, variant: str, imports: str) -> list[float]:
    """The growth to the peak of a step, and of all."""
    paths = [os.path.dirname(os.path.abspath(__file__)), peers]
    code = PROCESS.format(paths=paths, module=module, variant=variant, imports=imports, model=model)
    environment = {**os.environ, "NAGRAPH_CACHE": "off"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return [float(x) for x in run.stdout.split()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--peers", required=True, help="the folder of the benchmark against other frameworks")
    given = parser.parse_args()
    table = Table("train step, MB", "nagraph", "PyTorch", "ratio", "nagraph, first calls", "PyTorch, first calls", box=None)
    more = False
    for model in given.models:
        ours, theirs = (megabytes(model, given.peers, *column) for column in (OURS, THEIRS))
        more |= ours[0] > theirs[0]
        table.add_row(model, f"{ours[0]:.0f}", f"{theirs[0]:.0f}", f"{ours[0] / theirs[0]:.2f}", f"{ours[1]:.0f}", f"{theirs[1]:.0f}")
    Console().print(table)
    return int(more)


if __name__ == "__main__":
    sys.exit(main())
