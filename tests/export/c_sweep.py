"""Everything as C: every op's samples in all dtypes and orders of storage, odd sizes, the models, random programs; built with sanitizers,
run, and held against the bits of the LLVM backend.

    python -m tests.export.c_sweep ops|orders|sizes|models|random [--compiler clang] [--part 0/4] [--first N] [--plain]
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import nagraph as ng
from nagraph.models import CLASSES
from nagraph.models.tasks import task_class
from nagraph.models.workloads import workload
from nagraph.testing import random_program
from nagraph.testing.names import our_names
from nagraph.testing.oracle import Undetermined
from nagraph.testing.oracle import run as plain_run
from tests.export.c_programs import COMPILERS, SANITIZED, Case, case, differences, run
from tests.gpu import cases

#: Files of one program; random programs.
BATCH, PROGRAMS = 40, 200


def graphs(what: str) -> Iterator[tuple[str, Any, list[Any]]]:
    """Names, graphs and their operands."""
    match what:
        case "ops":
            yield from (x[:3] for x in cases.op_cases())
        case "orders":
            yield from (x[:3] for x in cases.order_cases())
        case "sizes":
            yield from (x[:3] for x in cases.size_cases())
        case "models":
            for model, step in itertools.product(CLASSES, ("infer", "train")):
                known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
                work = workload(model, step, **{k: v for k, v in cases.TINY.items() if k in known})
                yield f"{step} {model}", work.graph(), work.arrays()
        case "random":
            for seed in range(PROGRAMS):
                program = random_program(seed)
                try:
                    oracle = plain_run(program)
                except Undetermined:
                    continue
                arrays = [oracle.native[i.name] for i in program.inputs]
                function = program.function({**our_names(), **program.sizes})
                yield f"random {seed}", ng.trace(function, *arrays), arrays


def sweep(found: Iterable[tuple[str, Any, list[Any]]], compiler: str, flags: tuple[str, ...]) -> int:
    """Compile and compare; the number of outputs that differ."""
    wrong = total = 0
    left = iter(found)
    while batch := list(itertools.islice(left, BATCH)):
        made: list[Case] = [case(graph, operands, n) for n, (_, graph, operands) in enumerate(batch)]
        with tempfile.TemporaryDirectory() as folder:
            results = run(pathlib.Path(folder), made, compiler, flags)
        for (name, graph, operands), got in zip(batch, results):
            total += 1
            for said in differences(ng.compile(graph)(*operands), got):
                wrong += 1
                print(f"{name}: {said}")
        print(f"{total} files, {wrong} outputs differ", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.export.c_sweep", description=__doc__)
    parser.add_argument("what", choices=("ops", "orders", "sizes", "models", "random"))
    parser.add_argument("--compiler", choices=COMPILERS, default=COMPILERS[0])
    parser.add_argument("--part", default="0/1", help="which of how many parts: 0/4")
    parser.add_argument("--first", type=int, help="no more than this many")
    parser.add_argument("--plain", action="store_true", help="optimised, and without sanitizers")
    given = parser.parse_args()
    part, parts = map(int, given.part.split("/"))
    found = itertools.islice(graphs(given.what), part, None, parts)
    flags = ("-O2",) if given.plain else ("-O0", *SANITIZED)
    return bool(sweep(itertools.islice(found, given.first), given.compiler, flags))


if __name__ == "__main__":
    sys.exit(main())
