"""The manifest of a program: what is in its file, by which versions it was written, and what the names and trees of its user were.

It is JSON, and all that it says is checked when it is read: ProgramError for anything that a manifest has not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import nagraph
from nagraph.errors import NagraphError, ProgramError
from nagraph.export.subject import Subject, Tree
from nagraph.export.trees import from_json, to_json
from nagraph.files import short
from nagraph.ir.graph import Graph
from nagraph.ir.nested import nested_graphs
from nagraph.ir.op import REGISTRY
from nagraph.ir.printer import TEXT_VERSION
from nagraph.pipeline import Pipeline
from nagraph.tree import Structure

FORMAT, VERSION = "nagraph program", 1
#: Bytes of a manifest, and characters of a pipeline.
MOST_NBYTES, _MOST_PIPELINE = 1 << 24, 1 << 14


@dataclass(frozen=True)
class Manifest:
    """A manifest is what stands beside graph and arrays. Types of fields are what JSON holds; `read` checks them."""

    format: str
    #: Of the file, of the text form, and of the attributes of each op, by name; and of the package that wrote it.
    version: int
    text: int
    ops: dict[str, int]
    nagraph: str
    name: str
    #: The names of the graph's inputs and outputs, in order, and their types, for whoever looks.
    inputs: dict[str, str]
    outputs: dict[str, str]
    #: Names of inputs that are tensors of the file.
    weights: list[str]
    #: The arguments as pairs of a name and a tree, those of them that are given away, and the tree of the result; None for a graph's.
    arguments: list[Any] | None = None
    donated: list[str] = field(default_factory=list)
    result: Any = None
    pipeline: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, subject: Subject) -> Manifest:
        """The manifest of a subject."""
        graph, trees = subject.graph, dict[str, Any]()
        if subject.tree_in is not None and subject.tree_out is not None:
            structure, mask = subject.tree_in
            whole = to_json(structure.__class__(tuple, tuple(range(len(structure.keys))), structure.children), mask)
            trees = {"arguments": [[name, tree] for name, tree in zip(structure.keys, whole["tuple"])],
                     "result": to_json(*subject.tree_out)}
            roots = dict(zip(subject.free, _roots(subject.tree_in)))
            trees["donated"] = list(dict.fromkeys(roots[subject.inputs[i]].partition("[")[0] for i in subject.donations.values()))
        inputs, outputs = ({n: str(v.type) for n, v in zip(names, values)} for names, values in (
            (subject.inputs, graph.inputs), (subject.outputs, graph.outputs)))
        return cls(FORMAT, VERSION, TEXT_VERSION, _versions(graph), nagraph.__version__, subject.name, inputs, outputs,
                   list(subject.weights), pipeline=subject.pipeline, metadata=dict(subject.metadata), **trees)

    def written(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def read(cls, content: np.ndarray[Any, Any]) -> Manifest:
        """The manifest that these bytes hold. ProgramError if they hold none, or that of a newer version."""
        if len(content) > MOST_NBYTES:
            raise ProgramError(f"its manifest holds {len(content):,} bytes, and may have {MOST_NBYTES:,}")
        try:
            found = json.loads(bytes(content).decode())
        except (ValueError, RecursionError) as error:
            raise ProgramError(f"its manifest is no JSON: {short(str(error))}") from None
        if not isinstance(found, dict) or found.get("format") != FORMAT or type(found.get("version")) is not int:
            raise ProgramError(f"its manifest is not that of a {FORMAT}")
        _check_versions(found)
        fields = {f.name: f.type for f in dataclasses.fields(cls)}
        if found.keys() != fields.keys():
            raise ProgramError(f"its manifest has {short(', '.join(found))}, and should have {', '.join(fields)}")
        for name, kind in fields.items():
            if not _CHECKS[str(kind)](found[name]):
                raise ProgramError(f"its manifest says of {name}: {short(found[name])}")
        return cls(**found)

    def trees(self) -> tuple[Tree, Tree] | None:
        """Those of arguments and result."""
        if self.arguments is None:
            return None
        if not all(isinstance(a, list) and len(a) == 2 and isinstance(a[0], str) for a in self.arguments):
            raise ProgramError(f"its manifest says of arguments: {short(self.arguments)}")
        read = [(name, *from_json(found)) for name, found in self.arguments]
        arguments = Structure(tuple, tuple(name for name, _, _ in read), tuple(s for _, s, _ in read))
        structure, mask = from_json(self.result)
        return Tree(arguments, tuple(m for _, _, flags in read for m in flags)), Tree(structure, tuple(mask))

    def checked_pipeline(self) -> str:
        """The pipeline. ProgramError unless it is made of passes that there are."""
        if self.pipeline:
            try:
                if len(self.pipeline) > _MOST_PIPELINE:
                    raise ProgramError(f"it has {len(self.pipeline):,} characters")
                Pipeline.parse(self.pipeline)
            except (NagraphError, ValueError, TypeError, RecursionError, MemoryError) as error:
                raise ProgramError(f"its pipeline is none: {short(str(error))}") from None
        return self.pipeline


def _roots(tree: Tree) -> list[str]:
    """For each leaf of arguments that is an array, the name of its argument."""
    every = [name for name, child in zip(tree.structure.keys, tree.structure.children) for _ in range(child.leaf_count)]
    return [name for name, m in zip(every, tree.mask, strict=True) if m]


def _versions(graph: Graph) -> dict[str, int]:
    """The versions of the ops of a graph and its regions, by name."""
    return {op.name: op.version for op in sorted({type(n.op) for g in nested_graphs(graph) for n in g.nodes}, key=lambda op: op.name)}


def _check_versions(found: Mapping[str, Any]) -> None:
    """ProgramError if anything in the file is newer than what is known here."""
    writer = f"it was written by nagraph {short(found.get('nagraph'))}, and this is {nagraph.__version__}"
    for what, known in (("version", VERSION), ("text", TEXT_VERSION)):
        given = found.get(what)
        if type(given) is not int or not 1 <= given <= known:
            what = "its format" if what == "version" else "the text of its graph"
            raise ProgramError(f"{what} has version {short(given)}, and version {known} is the newest that is known here: {writer}")
    ops = found.get("ops")
    for name, given in ops.items() if isinstance(ops, dict) else ():
        if name not in REGISTRY:
            raise ProgramError(f"there is no op {short(name)} here: {writer}")
        if type(given) is not int or not 1 <= given <= REGISTRY[name].version:
            raise ProgramError(f"the op {name} has version {short(given)}, and {REGISTRY[name].version} is the newest known here: {writer}")


def _texts(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(v, str) for v in found.values())


def _names(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(v, str) for v in found)


#: Whether JSON is of the type of a field.
_CHECKS: dict[str, Any] = {
    "str": lambda x: isinstance(x, str), "int": lambda x: type(x) is int, "dict[str, str]": _texts, "list[str]": _names,
    "dict[str, int]": lambda x: isinstance(x, dict), "list[Any] | None": lambda x: x is None or isinstance(x, list), "Any": lambda x: True,
}
