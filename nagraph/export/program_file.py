"""Program files: what nagraph exports for itself. One zip of a manifest, the graph's text, and two safetensors files.

    manifest.json              versions, names, trees, what is donated, the pipeline
    graph.ng                   the text form, without the bytes of large constants
    weights.safetensors        the arrays that were given as values, by the names of inputs
    constants.safetensors      the large constants of the graph, by their digests

A program opens without the code that defined it and runs on every backend. Nothing in it is executed by being read.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph.errors import ExportError, NagraphError, ParseError, ProgramError, VerifyError
from nagraph.export.container import read_container, write_container
from nagraph.export.loaded import LoadedProgram, labels, signature
from nagraph.export.manifest import Manifest
from nagraph.export.progress import Pieces
from nagraph.export.refusals import Refusals
from nagraph.export.subject import Subject
from nagraph.files import atomic_file, short
from nagraph.ir.constant import Constant
from nagraph.ir.graph import Graph
from nagraph.ir.nested import nested_graphs
from nagraph.ir.parser import parse
from nagraph.ir.printer import INLINE_ELEMENTS, format_graph
from nagraph.ir.types import type_of
from nagraph.ir.verify import verify
from nagraph.storage import tensor_header, tensors_within

MANIFEST, TEXT, WEIGHTS, CONSTANTS = "manifest.json", "graph.ng", "weights.safetensors", "constants.safetensors"
#: Bytes of a graph's text: some 200,000 nodes. What reads it takes up to a hundred times as much memory.
MOST_TEXT = 1 << 24


def program(what: Any, path: str | pathlib.Path, args_or_specs: Any = None, *, optimised: bool = False,
            names: Mapping[str, str] | None = None, metadata: Mapping[str, str] | None = None) -> pathlib.Path:
    """Write a program file, which `ng.load_program` opens, and say where: `ng.export.program(step, "step.ngx", (state, batch))` of specs.

    what, args_or_specs, names, metadata: as every form takes them (docs/exporting.md).
    optimised: write the graph after the passes that keep it a graph. As it was traced, it is compiled to the very program that the function
    is compiled to here.
    The file is read back and held against what was to be written before it gets its name. Raises ExportError, which lists all ops that are
    defined elsewhere than in nagraph: those that read the file would not know them.
    """
    subject = Subject.of(what, args_or_specs, optimised=optimised, names=names, metadata=metadata)
    _check_ops(subject)
    text = format_graph(subject.graph, blobs=False).encode()
    if len(text) > MOST_TEXT:
        raise ExportError(f"{subject.name}: the text of its graph has {len(text):,} bytes, and a program may have {MOST_TEXT:,}; "
                          "trace loops with ng.scan, and layers that are alike as one")
    constants = {f"sha256:{c.value.sha256}": c.array for g in nested_graphs(subject.graph) for n in g.nodes
                 if isinstance(c := n.op, Constant) and c.array.size > INLINE_ELEMENTS}
    manifest = Manifest.of(subject)
    with atomic_file(path, ExportError) as file:
        write_container(file, {MANIFEST: [manifest.written()], TEXT: [text], **{
            name: _tensors(name, arrays) for name, arrays in ((WEIGHTS, subject.weights), (CONSTANTS, constants))}})
        file.flush()
        _check_written(file.name, subject, manifest)
    return pathlib.Path(path)


def _tensors(name: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    header, ordered = tensor_header(arrays)
    yield header
    pieces = Pieces(name, sum(a.nbytes for a in ordered))
    for array in ordered:
        yield from pieces.of(array)


def _check_ops(subject: Subject) -> None:
    refusals = Refusals("a program file", subject.name)
    for node in (n for g in nested_graphs(subject.graph) for n in g.nodes):
        if type(node.op).__module__.partition(".")[0] != "nagraph":
            refusals.add(node, f"it is defined in {type(node.op).__module__}, and a program opens without that; write a function "
                               "of nagraph's ops, under ng.composite")
    refusals.check()


def _check_written(path: str, subject: Subject, manifest: Manifest) -> None:
    """ExportError unless the file gives back what it was made of."""
    try:
        graph, weights, found = _read(path)
    except NagraphError as error:
        raise ExportError(f"{subject.name}: the program that was written can't be read back: {error}") from None
    same = graph == subject.graph and found == manifest and weights.keys() == subject.weights.keys() and all(
        type_of(weights[n]) == type_of(x) for n, x in subject.weights.items())  # their bytes have a checksum
    if not same or found.trees() != (None if subject.tree_in is None else manifest.trees()):
        raise ExportError(f"{subject.name}: the program that was written reads back as another one")


# -- reading ----------------------------------------------------------------------------------------------


def load_program(path: str | pathlib.Path, *, backend: str | None = None, threads: int | None = None) -> LoadedProgram:
    """The program in a file that `ng.export.program` wrote, to be called as the function was that it was made of.

    Its weights are mapped from the file, which must not be written to while they are used; it may be renamed, replaced or deleted.
    backend, threads: as for `ng.jit`.
    Raises ProgramError, one sentence that names the file, if it is missing, damaged, no program, or newer than this nagraph.
    """
    try:
        graph, weights, manifest = _read(path)
        subject, donated = _subject(graph, weights, manifest)
    except NagraphError as error:
        raise ProgramError(f"{path}: {_first_line(error)}") from None
    return LoadedProgram(subject, donated, backend, threads)


def _read(path: str | pathlib.Path) -> tuple[Graph, dict[str, np.ndarray[Any, Any]], Manifest]:
    content = read_container(path, (MANIFEST, TEXT, WEIGHTS, CONSTANTS))
    manifest = Manifest.read(content[MANIFEST])
    if content[TEXT].size > MOST_TEXT:
        raise ProgramError(f"the text of its graph has {content[TEXT].size:,} bytes, and may have {MOST_TEXT:,}")
    try:
        text = bytes(content[TEXT]).decode()
    except UnicodeDecodeError as error:
        raise ProgramError(f"the text of its graph is no UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None
    weights, constants = tensors_within(content[WEIGHTS]), tensors_within(content[CONSTANTS])
    graph = parse(text, constants=constants, versions=manifest.ops)
    verify(graph)
    return graph, weights, manifest


def _subject(graph: Graph, weights: dict[str, np.ndarray[Any, Any]], manifest: Manifest) -> tuple[Subject, tuple[str, ...]]:
    """What was exported, and the names of arguments that are given away. ProgramError unless the parts of the file fit each other."""
    for what, names, values in (("input", manifest.inputs, graph.inputs), ("output", manifest.outputs, graph.outputs)):
        if list(names.values()) != [str(v.type) for v in values]:
            raise ProgramError(f"its manifest names {what}s of other types than its graph has")
    if set(manifest.weights) != weights.keys() or not weights.keys() <= manifest.inputs.keys():
        raise ProgramError("its weights are others than its manifest names")
    for name, value in zip(manifest.inputs, graph.inputs):
        if name in weights and type_of(weights[name]) != value.type:
            raise ProgramError(f"the weight {name} is {type_of(weights[name])}, and its graph takes {value.type}")
    trees = manifest.trees()
    tree_in, tree_out = trees or (None, None)
    subject = Subject(graph, tuple(manifest.inputs), tuple(manifest.outputs), {n: weights[n] for n in manifest.inputs if n in weights},
                      tree_in, tree_out, manifest.name, manifest.metadata, pipeline=manifest.checked_pipeline())
    if trees is not None and [sum(t.mask) for t in trees] != [len(subject.free), len(subject.outputs)]:
        raise ProgramError("the trees in its manifest have other leaves than its graph has inputs and outputs")
    try:
        arguments = signature(labels(subject)).parameters
    except ValueError as error:
        raise ProgramError(f"its arguments can't be those of a function: {short(str(error))}") from None
    for name in manifest.donated:
        if name not in arguments:
            raise ProgramError(f"it gives away {short(name)!r}, which is no argument")
    return subject, tuple(manifest.donated)


def _first_line(error: NagraphError) -> str:
    """What an error says, without the line of the text and the caret that a ParseError shows."""
    told = str(error).partition("\n")[0]
    return f"its graph is no graph: {told}" if isinstance(error, (ParseError, VerifyError)) else told
