"""Graphs as functions of native libraries, against executables, bit for bit: `python -m tests.export.native_sweep --target x86-64-v3`.

Every op, graphs that hold graphs, random programs, and the models' forward passes and train steps. A test runs a cut of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.backends.llvm.ahead_of_time.entries import Entry
from nagraph.backends.llvm.ahead_of_time.objects import native_object
from nagraph.backends.llvm.text.machines import machine
from nagraph.cli.targets import random_arrays
from nagraph.ir.graph import Graph
from nagraph.ir.nested import nested_graphs
from nagraph.testing import Undetermined, random_program
from nagraph.testing.any_size import symbolic_graph
from nagraph.testing.oracle import run
from tests.backends.llvm.linked import Linked, machines
from tests.gpu.cases import TINY
from tests.ir.corpus import one_node_graphs, region_graphs
from tests.tools import tool

Array = np.ndarray[Any, Any]
#: Functions of one library.
TOGETHER = 40
MODELS = ("gpt2", "llama", "bert", "vit", "clip", "resnet")
Case = tuple[str, Graph, list[Array]]


def ops() -> Iterator[Case]:
    """Every op that a library can have, on random numbers; and graphs that hold graphs."""
    for name, graph in {**one_node_graphs(), **region_graphs()}.items():
        if not any(node.op.on_host for g in nested_graphs(graph) for node in g.nodes):
            yield name, graph, random_arrays(list(graph.input_types))


def programs(first: int, count: int) -> Iterator[Case]:
    """Random programs."""
    for seed in range(first, first + count):
        program = random_program(seed=seed)
        try:
            oracle = run(program)
        except Undetermined:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = symbolic_graph(program, oracle)
        arrays = [np.array(oracle.native[i.name], order="C") for i in program.inputs]  # aligned: a library takes no others
        yield f"program {seed}", graph.specialise({d.name: program.sizes[d.name] for d in graph.dims}), arrays


def models() -> Iterator[Case]:
    """The six models, tiny: forward and a train step."""
    from nagraph.models.tasks import task_class
    from nagraph.models.workloads import workload

    for model in MODELS:
        known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
        for what in ("infer", "train"):
            work = workload(model, what, **{k: v for k, v in TINY.items() if k in known})
            yield f"{model} {what}", work.graph(), work.arrays()


def differing(cases: Sequence[Case], target: str, threads: int) -> Iterator[str]:
    """The names of the cases whose function, in one library for the target, has other bits than their executable."""
    made = [(name, ng.compile(graph), arrays) for name, graph, arrays in cases]
    entries = [Entry(f"it_f{n}", exe.graph) for n, (_, exe, _) in enumerate(made)]
    with tempfile.TemporaryDirectory() as folder:
        native = native_object("it", entries, machine(target))
        here = target in machines()
        library = Linked(native, pathlib.Path(folder)) if here else None
        for n, (name, exe, arrays) in enumerate(made):
            expected = _outcome(exe, arrays)
            if expected is None:
                continue
            found = library(*arrays, threads=threads, symbol=f"it_f{n}") if library else _emulated(native, pathlib.Path(folder), n, arrays)
            if any(not _same(a, b, here) for a, b in zip(found, expected, strict=True)):
                yield name


def _outcome(exe: Any, arrays: Sequence[Array]) -> Any:
    """The outputs; None where a check of labels ends the call."""
    try:
        return exe(*arrays)
    except ng.errors.LabelError:
        return None


def _same(a: Array, b: Array, here: bool) -> bool:
    """Whether all bits are the same, but on another processor those of nan."""
    if here:
        return a.tobytes() == b.tobytes()
    return bool(((a == b) | (a != a) & (b != b)).all() and (np.signbit(a) == np.signbit(b))[a == a].all()) if a.dtype.kind == "f" else (
        a.tobytes() == b.tobytes())


def _emulated(made: Any, folder: pathlib.Path, n: int, arrays: Sequence[Array]) -> list[Array]:
    """The outputs that the function gives on one thread of an emulated arm64."""
    program = folder / "caller"
    if not program.exists():
        (folder / "it.o").write_bytes(made.content)
        table = ", ".join(f"{{it_f{k}, it_f{k}_workspace_nbytes}}" for k in range(len(made.entries)))
        declared = "".join(f"int it_f{k}(void *, void *, void *, size_t, void *); size_t it_f{k}_workspace_nbytes(int);\n"
                           for k in range(len(made.entries)))
        (folder / "caller.c").write_text(CALLER.replace("DECLARED", declared).replace("TABLE", table))
        files = folder / "caller.c", folder / "it.o"
        subprocess.run([tool("aarch64-linux-gnu-gcc"), "-static", *files, "-lm", "-lpthread", "-o", program], check=True)
    outputs = [np.empty(v.shape, v.dtype) for v in made.entries[n].graph.outputs]
    sizes = [str(len(arrays)), *(str(a.nbytes) for a in arrays), *(str(a.nbytes) for a in outputs)]
    given = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    done = subprocess.run([tool("qemu-aarch64-static"), program, str(n), *sizes], input=given, capture_output=True, check=True)
    at = 0
    for a in outputs:
        a[...] = np.frombuffer(done.stdout, a.dtype, a.size, at).reshape(a.shape)
        at += a.nbytes
    return outputs


CALLER = """
#include <stdio.h>
#include <stdlib.h>
DECLARED
static struct { int (*call)(void *, void *, void *, size_t, void *); size_t (*space)(int); } table[] = {TABLE};
int main(int argc, char **argv)
{
    int n = atoi(argv[1]), inputs = atoi(argv[2]), outputs = argc - 3 - inputs;
    void **in = calloc(inputs + 1, sizeof *in), **out = calloc(outputs + 1, sizeof *out);
    for (int i = 0; i < inputs; i++) in[i] = malloc(atol(argv[3 + i]) + 1), fread(in[i], 1, atol(argv[3 + i]), stdin);
    for (int i = 0; i < outputs; i++) out[i] = malloc(atol(argv[3 + inputs + i]) + 1);
    size_t space = table[n].space(1);
    int result = table[n].call(in, out, malloc(space), space, NULL);
    for (int i = 0; i < outputs; i++) fwrite(out[i], 1, atol(argv[3 + inputs + i]), stdout);
    return result;
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="x86-64-v3")
    parser.add_argument("--count", type=int, default=200, help="random programs")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("ops", "programs", "models"))
    given = parser.parse_args()
    kinds = {"ops": ops, "programs": lambda: programs(given.first, given.count), "models": models}
    wrong, asked = [], 0
    for kind, make in kinds.items():
        if given.only in (None, kind):
            cases = list(make())
            for at in range(0, len(cases), TOGETHER):
                wrong += differing(cases[at:at + TOGETHER], given.target, given.threads)
            asked += len(cases)
            print(f"{kind}: {len(cases)} graphs, {len(wrong)} differ so far", flush=True)
    print("\n".join(wrong))
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
