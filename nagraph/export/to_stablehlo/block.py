"""A module's text while it is written: functions, and in them blocks of operations, one a line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.export.to_stablehlo.text import dense, local_name, number_text, string_text, symbol, type_text, types_text
from nagraph.ir.location import Location
from nagraph.ir.types import DType, TensorType, type_of


class Ref(NamedTuple):
    """What stands for a value in the text: its name, and its type."""

    name: str
    type: TensorType

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def ndim(self) -> int:
        return self.type.rank


class Module:
    """The functions of a module, and the lines of the user's code that they came from."""

    def __init__(self, name: str, metadata: Mapping[str, str] | None = None):
        self.name, self.metadata = name, metadata or {}
        self._functions: list[str] = []
        self._symbols: set[str] = set()
        self._locations: dict[tuple[str, int], str] = {}
        #: The functions that several calls share, with their results' types, by what they were made of.
        self.shared: dict[Any, tuple[str, list[TensorType]]] = {}

    def symbol(self, wanted: str) -> str:
        """The name of a function that no other has."""
        name = wanted or "graph"
        number = 1
        while name in self._symbols:
            number += 1
            name = f"{wanted}_{number}"
        self._symbols.add(name)
        return name

    def location(self, location: Location | None) -> str:
        """How the user's line stands behind an operation. Files by their names alone: a module says nothing of the machine."""
        if location is None:
            return ""
        key = re.split(r"[/\\]", location.file)[-1], location.line
        return f" loc({self._locations.setdefault(key, f'#loc{len(self._locations) + 1}')})"

    def add(self, name: str, private: bool, inputs: Sequence[tuple[Ref, str]], results: Sequence[tuple[TensorType, str]],
            lines: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        """Add a function: its inputs and results with the names that users know them by, and the lines of its body.

        more: further attributes of inputs, by what stands for them.
        """
        def named(name: str, other: str = "") -> str:
            found = [f"nagraph.name = {string_text(name)}"] * bool(name) + [other] * bool(other)
            return f" {{{', '.join(found)}}}" if found else ""

        given = ", ".join(f"{ref.name}: {type_text(ref.type)}{named(name, (more or {}).get(ref.name, ''))}" for ref, name in inputs)
        made = ", ".join(f"{type_text(t)}{named(name)}" for t, name in results)
        head = f"  func.func {'private' if private else 'public'} {symbol(name)}({given}) -> ({made}) {{"
        self._functions.append("\n".join((head, *lines, "  }")))

    def __str__(self) -> str:
        lines = [f"{alias} = loc({string_text(file)}:{line}:0)" for (file, line), alias in self._locations.items()]
        kept = ", ".join(f"{string_text(k)} = {string_text(v)}" for k, v in self.metadata.items())
        attributes = f" attributes {{nagraph.metadata = {{{kept}}}}}" if kept else ""
        return "\n".join((f"module {symbol(self.name)}{attributes} {{", *self._functions, "}", *lines, ""))


class Block:
    """The operations of one function, with the blocks of regions inside, and constants that are made once in each."""

    def __init__(self, module: Module):
        self.module = module
        #: What stands behind each operation: the user's line.
        self.where = ""
        self._lines: list[str] = []
        self._depth, self._count = 2, 0
        self._known: list[dict[Any, Ref]] = [{}]
        self._names: set[str] = set()

    @property
    def lines(self) -> Sequence[str]:
        return self._lines

    def input(self, t: TensorType, name: str = "") -> Ref:
        """An input of the function, under the user's name for it as far as it can be one."""
        if not name:
            return Ref(self._fresh(), t)
        made = wanted = local_name(name)
        number = 1
        while made in self._names:
            number += 1
            made = f"{wanted}_{number}"
        self._names.add(made)
        return Ref(f"%{made}", t)

    def op(self, name: str, operands: Sequence[Ref], types: Sequence[TensorType], regions: Sequence[str] = (), /,
           **attributes: str) -> list[Ref]:
        """Write an operation: its results, of these types. Attributes are text, regions what `region` gave."""
        made = self._fresh() if types else ""
        left = f"{made}{f':{len(types)}' if len(types) > 1 else ''} = " if types else ""
        inside = f" ({', '.join(regions)})" if regions else ""
        options = f" {{{', '.join(f'{k} = {v}' for k, v in attributes.items())}}}" if attributes else ""
        results = type_text(types[0]) if len(types) == 1 else types_text(types)
        text = (f'{left}"{name}"({", ".join(x.name for x in operands)}){inside}{options} : '
                f"{types_text([x.type for x in operands])} -> {results}{self.where}")
        self._lines.append("  " * self._depth + text)
        return [Ref(made, types[0])] if len(types) == 1 else [Ref(f"{made}#{i}", t) for i, t in enumerate(types)]

    def do(self, name: str, operands: Sequence[Ref], t: TensorType, regions: Sequence[str] = (), /, **attributes: str) -> Ref:
        """Write an operation of StableHLO with one result."""
        return self.op(f"stablehlo.{name}", operands, [t], regions, **attributes)[0]

    def region(self, types: Sequence[TensorType], make: Callable[..., Sequence[Ref]]) -> str:
        """The text of a region: a block with arguments of these types, that returns what `make` makes of them.

        It reads values from outside as they are; what is made inside of it nobody outside knows.
        """
        outer, self._lines = self._lines, []
        self._depth += 1
        self._known.append({})
        arguments = [Ref(self._fresh(), t) for t in types]
        self.op("stablehlo.return", make(*arguments), ())
        lines, self._lines = self._lines, outer
        self._known.pop()
        self._depth -= 1
        pad = "  " * self._depth
        head = [f"{pad}^bb0({', '.join(f'{a.name}: {type_text(a.type)}' for a in arguments)}):"] if arguments else []
        return "\n".join(("{", *head, *lines, f"{pad}}}"))

    def once(self, key: Any, make: Callable[[], Ref]) -> Ref:
        """What `make` makes, made once for a key in the block that is being written and those inside of it."""
        for known in reversed(self._known):
            if key in known:
                return known[key]
        found = self._known[-1][key] = make()
        return found

    def constant(self, array: np.ndarray[Any, Any]) -> Ref:
        """A constant tensor."""
        return self._constant(dense(array), type_of(array))

    def splat(self, number: np.ndarray[Any, Any], t: TensorType) -> Ref:
        """A constant tensor of which every element is this number."""
        return self._constant(f"dense<{number_text(number, t.dtype) if t.size else ''}>", t)

    def _constant(self, elements: str, t: TensorType) -> Ref:
        return self.do("constant", (), t, value=f"{elements} : {type_text(t)}")

    def _fresh(self) -> str:
        self._count += 1
        return f"%{self._count - 1}"
