"""The walk through a graph that writes each node by the translation of its op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nagraph.errors import NagraphError
from nagraph.export.refusals import Refusals
from nagraph.export.to_stablehlo.block import Module, Ref
from nagraph.export.to_stablehlo.registry import translation_of
from nagraph.export.to_stablehlo.shapes import F32, NARROW, Shaped
from nagraph.export.to_stablehlo.text import string_text, symbol
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.sizes import Dim
from nagraph.ir.types import TensorType


class Untranslatable(NagraphError):
    """A node that has no translation as it is: says why, and what to write instead."""


class Body(Shaped):
    """The body of a function: what a translation is given."""

    def __init__(self, module: Module, refusals: Refusals, dimensions: Mapping[Dim, Ref] | None = None):
        super().__init__(module, dimensions)
        self.refusals = refusals

    def walk(self, graph: Graph, operands: Sequence[Ref]) -> list[Ref]:
        """The outputs of a graph for these inputs, written in place."""
        known: dict[Value, Ref] = dict(zip(graph.inputs, operands, strict=True))
        for node in graph.nodes:
            outer, self.where = self.where, self.module.location(node.location) or self.where
            known.update(zip(node.results, self._node(node, [known[v] for v in node.operands]), strict=True))
            self.where = outer
        return [known[v] for v in graph.outputs]

    def _node(self, node: Node, operands: Sequence[Ref]) -> list[Ref]:
        translation = translation_of(node.op)
        try:
            if translation is None:
                raise Untranslatable("StableHLO has no operation that calls Python, and there is no scalar rule of which to write it")
            if not translation.narrow and getattr(node.op, "widens", False):
                operands = [self.convert(x, F32) if x.dtype in NARROW else x for x in operands]
            found = translation.write(self, node, *operands)
        except Untranslatable as error:
            self.refusals.add(node, str(error))
            return [Ref("%refused", v.type) for v in node.results]
        found = [found] if isinstance(found, Ref) else found
        return [self.cast(y, v.dtype) for y, v in zip(found, node.results, strict=True)]

    def called(self, key: Any, name: str, operands: Sequence[Ref], build: Callable[..., Sequence[Ref]], composite: str = "",
               **attributes: str) -> list[Ref]:
        """The results of a private function, made once for a key and these types: `build(body, *inputs)` writes it.

        composite: the name under which it stands as a composite, whose decomposition the function is. Where sizes are known later, which
        are numbers of the function around, it is written in place.
        """
        types = tuple(x.type for x in operands)
        if self.dimensions:
            return list(build(self, *operands))
        found = self.module.shared.get((key, types))
        if found is None:
            found = self.module.shared[key, types] = self._function(name, types, build)
        label, made = found
        if composite:
            return self.op("stablehlo.composite", operands, made, name=string_text(composite), decomposition=symbol(label), **attributes)
        return self.op("func.call", operands, made, callee=symbol(label))

    def _function(self, name: str, types: Sequence[TensorType], build: Callable[..., Sequence[Ref]]) -> tuple[str, list[TensorType]]:
        label = self.module.symbol(name)
        body = Body(self.module, self.refusals)
        body.where = self.where
        inputs = [body.input(t) for t in types]
        results = build(body, *inputs)
        body.op("func.return", results, ())
        made = [r.type for r in results]
        self.module.add(label, True, [(x, "") for x in inputs], [(t, "") for t in made], body.lines)
        return label, made
