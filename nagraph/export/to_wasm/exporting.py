"""Exports to WebAssembly: a folder with a module, its loader, an example, and a page on which a language model writes."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from nagraph.backends.llvm.ahead_of_time.entries import Entry, WeightsFile
from nagraph.backends.llvm.ahead_of_time.multiply_add import FUSES
from nagraph.backends.llvm.ahead_of_time.objects import NativeObject, engine_object, native_object
from nagraph.backends.llvm.text.machines import machine
from nagraph.errors import ExportError
from nagraph.export.machine_code import Exported
from nagraph.export.to_wasm.example import example
from nagraph.export.to_wasm.linking import linked, linker, with_section
from nagraph.export.to_wasm.text_page import TextPage, TextStep, text_page
from nagraph.files import atomic_folder
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.location import Location
from nagraph.ir.types import SHORT_NAMES
from nagraph.ops.labels import CheckLabels
from nagraph.storage import safetensors_bytes

#: The version of what the sections of a module mean; the loader asks for it.
VERSION = 1
#: The most bytes of weights that a module holds; more are beside it by themselves.
MOST_INSIDE = 256 << 20
#: The most that memory of 32-bit addresses holds.
MOST_NBYTES = (1 << 32) - (1 << 16)
_PREFIX, _RUN = "nagraph", "nagraph_run"


def wasm(what: Any, folder: str | pathlib.Path, args_or_specs: Any = None, *, names: Mapping[str, str] | None = None,
         metadata: Mapping[str, str] | None = None, beside: bool = False, page: Mapping[str, Any] | None = None) -> pathlib.Path:
    """Write a folder with `program.wasm`, its loader `nagraph.js`, and an example, and say where: for browsers and Node.

    The module has SIMD128 and one thread, and gives the bits that the LLVM backend gives. Its weights are inside, or `beside` it in
    `weights.safetensors`, as they are anyway beyond 256 MB. An argument that a jitted function was given away stays in the module's memory.
    page: of a language model, with the fields of `TextPage`: `index.html` is written as well, one file on which it writes text. `what` is
    then the step of generation, (ids [1, 1], cache, start) to "logits" [vocabulary] and the cache, which it is given away.
    Raises ExportError: the linker wasm-ld is missing, a size is not known, an op has no kernel, memory exceeds 4 GB.
    """
    linker()
    exported = Exported.of(what, args_or_specs, "WebAssembly", names, metadata)
    subject = exported.subject
    text = TextPage.of(page) if page is not None else None
    if text is not None:
        TextStep.of(exported)
    weights = safetensors_bytes(subject.weights)
    module = _module(exported, weights)
    inside = with_section(module, "nagraph.weights", weights)
    loader = _text("loader.js")
    shown = text_page(exported, inside, loader, text) if text is not None else None
    beside = beside or len(weights) > MOST_INSIDE
    with atomic_folder(folder, ExportError) as draft:
        (draft / "program.wasm").write_bytes(module if beside else inside)
        if beside:
            (draft / "weights.safetensors").write_bytes(weights)
        (draft / "nagraph.js").write_text(loader)
        (draft / "package.json").write_text('{"type": "module"}\n')
        (draft / "example.js").write_text(example(exported))
        if shown is not None:
            (draft / "index.html").write_text(shown)
    return pathlib.Path(folder)


def _text(name: str) -> str:
    return resources.files("nagraph.export.to_wasm").joinpath(name).read_text("utf-8")


def _module(exported: Exported, weights: bytes) -> bytes:
    """The module without its weights, which are those of this safetensors file. Inside is another module, for engines that round once."""
    subject, graph = exported.subject, exported.graph
    entry = Entry(_RUN, graph, exported.donations, {i: name for i, name in enumerate(subject.inputs) if name in subject.weights})
    usual, file = machine("wasm32"), WeightsFile.of(weights) if subject.weights else None
    made = native_object(_PREFIX, [entry], usual, file=file)
    needed = made.entries[0].workspace_nbytes(1) + len(weights) + sum(v.type.nbytes for v in (*graph.inputs, *graph.outputs))
    if needed > MOST_NBYTES:
        raise ExportError(f"{subject.name} works in {needed:,} bytes of memory; WebAssembly's addresses of 32 bits end at "
                          f"{MOST_NBYTES:,}. Smaller batches, or weights in 16 bits, take less")
    relaxed = native_object(_PREFIX, [entry], usual._replace(multiply_adds="linked"), file=file)
    exact = linked([made.content], made.exports)
    fused = linked([relaxed.content, engine_object(usual)], [*relaxed.exports, FUSES])
    return with_section(with_section(exact, "nagraph", json.dumps(_facts(exported, made)).encode()), "nagraph.fused", fused)


def _facts(exported: Exported, made: NativeObject) -> dict[str, Any]:
    """What the loader has to know of a module."""
    subject, graph, donations = exported
    state = set(donations.values())
    free = [i for i, name in enumerate(subject.inputs) if name not in subject.weights]
    return {
        "version": VERSION, "name": subject.name, "metadata": subject.metadata, "entry": _RUN,
        "weights": f"{_PREFIX}_weights_of" if subject.weights else None,
        "inputs": [_array(subject.inputs[i], graph.inputs[i], i in state) for i in free],
        "outputs": [_array(name, v, j in donations) | ({"memory": subject.inputs[donations[j]]} if j in donations else {})
                    for j, (name, v) in enumerate(zip(subject.outputs, graph.outputs))],
        "workspace": made.entries[0].workspace_nbytes(1), "checks": _checks(subject.graph),
    }


def _array(name: str, value: Value, state: bool) -> dict[str, Any]:
    return {"name": name, "dtype": SHORT_NAMES[value.dtype], "shape": list(value.shape), "state": state}


def _checks(graph: Graph) -> list[str]:
    """What the checks of class labels ask for, for the error of a call that fails."""
    return sorted({f"labels are classes, 0 to {n.op.classes - 1}{f' ({place})' if place else ''}"
                   for n, place in _nodes(graph) if isinstance(n.op, CheckLabels)})


def _nodes(graph: Graph, seen: set[int] | None = None, outside: Location | None = None) -> Iterator[tuple[Node, Location | None]]:
    """All nodes with their lines, those of regions as well, each region once; of a node without a line that of the node around it."""
    seen = {id(graph)} if seen is None else seen
    for node in graph.nodes:
        place = node.location or outside
        yield node, place
        for region in node.op.regions.values():
            if id(region) not in seen:
                seen.add(id(region))
                yield from _nodes(region, seen, place)
