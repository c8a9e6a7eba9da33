"""What a new length of a padded batch costs to its first result: `python tests/benchmarks/new_sizes.py`.

A GPT-2 of four layers and width 96 reads batches of lengths that it has not met before: under `jit` with `dynamic_shapes`, from one trace,
and under `jit` alone, which traces each. Milliseconds, medians; CPU time is that of the process, to be read where others share the machine.
"""

import os
import statistics
import time

os.environ["NAGRAPH_CACHE"] = "off"  # before anything of it is used: what another run compiled is not new

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import nagraph as ng  # noqa: E402
from nagraph.models.gpt2 import GPT2, GPT2Config  # noqa: E402


def first_results(run, model, lengths):
    """Milliseconds, wall and CPU, of the first call of each length."""
    rows = []
    for length in lengths:
        ids = np.zeros((4, length), np.int32)
        wall, cpu = time.perf_counter(), time.process_time()
        run(model, ids)
        rows.append(((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3))
    return [statistics.median(column) for column in zip(*rows[1:])]  # the first one loads what compiles


def main():
    model = GPT2.init(ng.random.key(0), GPT2Config(vocabulary=103, context=128, layers=4, heads=4, width=96))
    batch, time_ = ng.Dim("batch"), ng.Dim("time", max=128)
    ways = (("one trace for all lengths", range(40, 64, 2), ng.jit(lambda model, ids: model(ids), dynamic_shapes={"ids": (batch, time_)})),
            ("a trace for each length", range(41, 65, 2), ng.jit(lambda model, ids: model(ids))))
    table = Table("", "wall, ms", "CPU, ms", title="first result of a new length")
    for name, lengths, run in ways:
        table.add_row(name, *(f"{x:.0f}" for x in first_results(run, model, lengths)))
    Console().print(table)


if __name__ == "__main__":
    main()
