"""The text form: graphs as text that `parse` reads back exactly.

    graph @mlp(%x: f32[64,784], %w: f32[784,10]) -> (f32[64,10]) {
      %0: f32[64,10] = dot_general{contract=[[1],[0]], batch_axes=[[],[]]}(%x, %w)   // mlp.py:12
      return %0
    }

Dimensions of sizes that are known later stand before it, with their bounds: `dim batch{min=1, max=64}`. Regions follow as graphs of
their own, each once, under distinct labels; large constants follow as resources.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any

import numpy as np

from nagraph.ir.constant import Data
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.nested import nested_dims
from nagraph.ir.op import Op
from nagraph.ir.sizes import Dim, Size
from nagraph.ir.types import SHORT_NAMES, TensorType, is_float

#: The version of the text form, by the rule in docs/text-form.md.
TEXT_VERSION = 1
#: Constants of up to this many elements print inline.
INLINE_ELEMENTS = 16


class Printer:
    """What is shared by the graphs of one text: labels of regions, blobs."""

    def __init__(self) -> None:
        self.labels: dict[int, str] = {}
        self.order: list[Graph] = []
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.same: dict[Graph, str] = {}
        self.blobs: dict[str, Data] = {}

    def label(self, graph: Graph) -> str:
        """A distinct label: the graph's name, with a number where another graph has it."""
        if id(graph) in self.labels:
            return self.labels[id(graph)]
        known = self.same.get(graph)
        if known is None:
            plain = known = format_name(graph.name)
            while known in self.taken:
                self.numbers[plain] = self.numbers.get(plain, 0) + 1
                known = f"{plain}#{self.numbers[plain]}"
            self.taken.add(known)
            self.same[graph] = known
            self.order.append(graph)
        self.labels[id(graph)] = known
        return known

    def attribute(self, value: Any) -> str:
        if isinstance(value, bool) or value is None:
            return {True: "true", False: "false", None: "none"}[value]
        if isinstance(value, (int, Size)):
            return str(value)
        if isinstance(value, float):
            return format_float(value)
        if isinstance(value, str):
            return json.dumps(value)
        if isinstance(value, np.dtype):
            return SHORT_NAMES[value]
        if isinstance(value, tuple):
            return f"[{','.join(map(self.attribute, value))}]"
        if isinstance(value, TensorType):
            return f"type {value}"
        if isinstance(value, Graph):
            return f"@{self.label(value)}"
        if isinstance(value, Data):
            return self.data(value)
        raise TypeError(f"{type(value).__name__} can't be an attribute")

    def data(self, data: Data) -> str:
        array = data.array
        if array.size <= INLINE_ELEMENTS:
            return format_elements(array)
        self.blobs[data.sha256] = data
        return f"blob sha256:{data.sha256}"

    def op(self, op: Op) -> str:
        shown = [f"{k}={self.attribute(v)}" for k, v in op.attributes().items()]
        return f"{op.name}{{{', '.join(shown)}}}" if shown else op.name

    def graph(self, graph: Graph, locations: bool, names: dict[Value, str] | None = None) -> list[str]:
        names = value_names(graph) if names is None else names
        inputs = ", ".join(f"%{names[v]}: {v.type}" for v in graph.inputs)
        label = self.label(graph)
        name = format_name(graph.name)
        title = f"@{label}" + ("" if label == name else f" as @{name}")
        lines = [f"graph {title}({inputs}) -> ({', '.join(str(t) for t in graph.output_types)}) {{"]
        for node in graph.nodes:
            where = f"   // {' '.join(str(node.location).split())}" if locations and node.location else ""
            lines.append(f"  {self.node(node, names)}{where}")
        outputs = ", ".join(f"%{names[v]}" for v in graph.outputs)
        return [*lines, f"  return {outputs}".rstrip(), "}"]

    def node(self, node: Node, names: dict[Value, str]) -> str:
        left = ", ".join(f"%{names[r]}: {r.type}" for r in node.results)
        return f"{left} = {self.op(node.op)}({', '.join(f'%{names[v]}' for v in node.operands)})"


def value_names(graph: Graph) -> dict[Value, str]:
    """Inputs by their own name where they have one, all others by number; no two alike."""
    names: dict[Value, str] = {}
    taken: set[str] = set()
    repeats: dict[str, int] = {}
    number = 0
    for v in (*graph.inputs, *(r for node in graph.nodes for r in node.results)):
        wanted = v.name if re.fullmatch(r"[A-Za-z_][\w.]*", v.name) else ""
        if wanted and wanted in taken:
            k = repeats.get(wanted, 1)
            while f"{wanted}_{k}" in taken:
                k += 1
            repeats[wanted] = k + 1
            wanted = f"{wanted}_{k}"
        if not wanted:
            wanted, number = str(number), number + 1
        taken.add(wanted)
        names[v] = wanted
    return names


def format_name(name: str) -> str:
    """A graph's name as it stands after `@`: in quotes unless it is made of word characters, dots, hyphens, < and >."""
    return name if re.fullmatch(r"[\w.<>\-]+(?:#[0-9]+)*", name) else json.dumps(name)


def format_float(value: float) -> str:
    """The shortest text that reads back to the same bits: 1.0, -0.0, 1e-08, inf, nan."""
    return "nan" if math.isnan(value) else repr(value) if math.isfinite(value) else "inf" if value > 0 else "-inf"


def is_nan(x: Any) -> bool:
    """Whether one float is a nan; NumPy warns of signalling ones."""
    with np.errstate(invalid="ignore"):
        return bool(np.isnan(x))


def format_elements(array: np.ndarray[Any, Any]) -> str:
    """An array as nested lists; nan keeps its bits as `nan:hex` where they are not the usual ones."""
    if array.ndim and not array.size:
        return "[]"
    if array.ndim:
        return f"[{','.join(map(format_elements, array))}]"
    if array.dtype == np.bool_:
        return "true" if array else "false"
    if not is_float(array.dtype):
        return str(int(array))
    if is_nan(array):
        unsigned = f"u{array.dtype.itemsize}"
        bits = int(array.view(unsigned))
        return "nan" if bits == int(np.array(np.nan).astype(array.dtype).view(unsigned)) else f"nan:{bits:x}"
    return format_float(float(array))


def format_bounds(dim: Dim) -> str:
    """The bounds of a dimension as attributes: `min=1, max=64`."""
    return f"min={dim.min}" + ("" if dim.max is None else f", max={dim.max}")


def format_op(op: Op) -> str:
    """An op with its attributes; regions by name."""
    return Printer().op(op)


def format_graph(graph: Graph, *, blobs: bool = True, locations: bool = True) -> str:
    """The text of a graph: its dimensions, itself, its regions and (with `blobs`) the bytes of its large constants."""
    printer = Printer()
    printer.label(graph)
    parts = [f"dim {d.name}{{{format_bounds(d)}}}" for d in nested_dims(graph)]
    for g in printer.order:  # grows while regions are met
        parts.append("\n".join(printer.graph(g, locations)))
    if blobs:
        for digest, data in printer.blobs.items():
            text = base64.b64encode(data.array.tobytes()).decode()
            parts.append(f"resource sha256:{digest} = \"{text}\"")
    return "\n".join(parts)


# Text needs to know ops, values and graphs, each of which knows those before it: so it is their `str` from here on.
Op.__str__ = format_op  # type: ignore[assignment, method-assign]
Graph.__str__ = format_graph  # type: ignore[assignment, method-assign]
