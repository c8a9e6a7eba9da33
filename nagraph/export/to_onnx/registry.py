"""The registry of translations: for each op the function that writes it with operators of ONNX.

    @translation(Transpose)
    def transpose(w, node, x):
        return w.emit("Transpose", x, perm=node.op.axes)

`w` is the `Scope` that is written into. The operands are names of values (`Operand`: a str with a type), and so are the results: one name,
or a tuple of them where the op has several results. A translation raises `Untranslatable` where it can't say in ONNX what the op means.

    @composite(softmax)
    def softmax(w, node, x, *, axis): ...

Positional parameters are the composite's operands, None where the call leaves them out; its static arguments are keywords, all of them.
`None` in place of a result says that no operator of the opset means the same with these operands: the composite is then a function of the
model, made of its body. `function` says that what is written are several operators, which are that function in place of the body.
`since` is the first opset that a translation is for.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nagraph.composites.base import Composite
from nagraph.ir.op import Op
from nagraph.regions.calls import Call


class Untranslatable(Exception):
    """An op can't be said in ONNX: why. Caught by the writer, which names the node and its line."""


class Translation(NamedTuple):
    """What writes an op, or a composite, from an opset on."""

    since: int
    write: Callable[..., Any]
    #: Of a composite: whether it is written as a function, and the static arguments that a call need not say.
    function: bool = False
    usual: dict[str, Any] = {}

    def arguments(self, op: Call, operands: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """What `write` takes for a composite's call beside scope and node: operands, and static arguments."""
        _, _, *names = (p.name for p in inspect.signature(self.write).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD)
        left_out = {name for name, _ in op.options if name not in self.usual}
        given = dict(zip((n for n in names if n not in left_out), operands))
        return [given.get(n) for n in names], self.usual | {name: value for name, value in op.options if name in self.usual}


_OPS: dict[type[Op], list[Translation]] = {}
_COMPOSITES: dict[str, list[Translation]] = {}


def translation(*ops: type[Op], since: int = 0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function for ops of these classes."""

    def registered(write: Callable[..., Any]) -> Callable[..., Any]:
        for op in ops:
            _OPS.setdefault(op, []).append(Translation(since, write))
        return write

    return registered


def composite(of: Composite, since: int = 0, function: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function for a composite."""
    usual = {p.name: p.default for p in inspect.signature(of.fn).parameters.values() if p.kind is p.KEYWORD_ONLY}

    def registered(write: Callable[..., Any]) -> Callable[..., Any]:
        _COMPOSITES.setdefault(of.label, []).append(Translation(since, write, function, usual))
        return write

    return registered


def of_op(op: Op, opset: int) -> Translation | None:
    """What translates an op at an opset; None if nothing does."""
    _load()
    return next(iter(_fitting(_OPS.get(type(op), ()), opset)), None)


def of_composite(label: str, opset: int) -> list[Translation]:
    """What translates a composite at an opset, the newest first."""
    _load()
    return _fitting(_COMPOSITES.get(label, ()), opset)


def translated() -> tuple[frozenset[type[Op]], frozenset[str]]:
    """The classes of ops, and the labels of composites, that have a translation."""
    _load()
    return frozenset(_OPS), frozenset(_COMPOSITES)


def _fitting(found: Sequence[Translation], opset: int) -> list[Translation]:
    return sorted((t for t in found if t.since <= opset), key=lambda t: -t.since)


@functools.cache
def _load() -> None:
    for path in sorted((pathlib.Path(__file__).parent / "operators").glob("[!_]*.py")):
        importlib.import_module(f"nagraph.export.to_onnx.operators.{path.stem}")
