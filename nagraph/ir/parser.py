"""Reading the text form: `parse(str(graph))` equals `graph`. The grammar is in docs/text-form.md.

A text is a list of dimensions, graphs and resources; the first graph is the result, the others are the regions
that it names by label. Graphs may stand in any order: each is built when it is first asked for.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nagraph.errors import NagraphError
from nagraph.ir.attributes import fits, hints
from nagraph.ir.constant import Constant, Data
from nagraph.ir.graph import Graph, Node, Value
from nagraph.ir.location import Location
from nagraph.ir.op import REGISTRY, Op
from nagraph.ir.printer import is_nan
from nagraph.ir.size_text import SizeTokens
from nagraph.ir.tokens import Token
from nagraph.ir.types import DTYPES, MAX_RANK, SHORT_NAMES, TensorType, is_float, type_of
from nagraph.ir.verify import MAX_NESTING

#: Where a node came from, as the printer writes it behind the node.
_LOCATION = re.compile(r"[ \t]*// ((?:[^\s/][^\n/]*)?):([0-9]{1,9})$", re.MULTILINE)


def parse(text: str, *, constants: Mapping[str, np.ndarray[Any, Any]] | None = None, versions: Mapping[str, int] | None = None) -> Graph:
    """The graph that a text describes, its regions and constants included.

    constants: arrays of resources that stand elsewhere than in the text, by their digests; nobody may write to them.
    versions: those of the attributes of ops, by name, where the text has earlier ones than there are now.
    Raises ParseError with line, column and a caret: for text that is no graph, unknown ops and
    attributes, types that the ops do not infer, missing regions and resources. O(length).
    """
    return _Parser(text, constants or {}, versions or {}).parse()


class _Parser(SizeTokens):
    def __init__(self, text: str, constants: Mapping[str, np.ndarray[Any, Any]], versions: Mapping[str, int]):
        super().__init__(text)
        self.constants, self.versions = constants, versions
        self.graphs: dict[str, Graph] = {}
        self.starts: dict[str, int] = {}
        self.open: list[str] = []
        self.resources: dict[str, bytes] = {}

    def parse(self) -> Graph:
        order = self._survey()
        if not order:
            self._fail("a text holds at least one graph: graph @name(...) -> (...) { ... }", len(self.text))
        graph = self._graph(order[0])
        for label in order:
            if label not in self.graphs:
                at = self.tokens[self.starts[label] + 1].at
                self._fail(f"graph {label} is a region of no node of {order[0]}; a text holds one graph and its regions", at)
        return graph

    # -- graphs and resources ------------------------------------------------------------------------------

    def _survey(self) -> list[str]:
        """The labels of the graphs in order, where each starts, the resources and the dimensions."""
        order: list[str] = []
        read = {"resource": self._resource, "dim": self._dim}
        while self.next.kind != "end":
            start = self.position
            word = self._take("word", what="'graph', 'dim' or 'resource'")
            if word.text in read:
                read[word.text]()
                continue
            if word.text != "graph":
                self._fail(f"expected 'graph', 'dim' or 'resource', found {word.text!r}", word.at)
            label = self._take("label", what="a label such as @name")
            if label.text in self.starts:
                self._fail(f"a graph labelled {label.text} stands above already", label.at)
            self.starts[label.text] = start
            order.append(label.text)
            self._skip_body(word)
        return order

    def _skip_body(self, word: Token) -> None:
        depth = opened = 0
        while depth or not opened:
            token = self.next
            if token.kind == "end":
                self._fail("this graph has no closing brace", word.at)
            if token.kind == "mark" and token.text == "{":
                depth, opened = depth + 1, 1
            elif token.kind == "mark" and token.text == "}":
                depth -= 1
                if depth < 0:
                    self._fail("a brace closes that was not opened", token.at)
            elif opened and depth == 1 and token.text == "graph" and self.tokens[self.position + 1].kind == "label":
                self._fail("this graph has no closing brace", word.at)
            self.position += 1

    def _resource(self) -> None:
        digest = self._take("digest", what="sha256: and 64 hexadecimal digits")
        self._take("mark", "=")
        string = self._take("string", what="the bytes in base64, in quotes")
        try:
            raw = base64.b64decode(json.loads(string.text), validate=True)
        except (ValueError, binascii.Error) as error:
            self._fail(f"no base64: {error}", string.at)
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != digest.text:
            self._fail("the bytes are not those that this sha256 names", string.at)
        self.resources[digest.text] = raw

    def _region(self, token: Token) -> Graph:
        """The graph of a label, built now if it was not yet."""
        if token.text in self.graphs:
            return self.graphs[token.text]
        if token.text not in self.starts:
            self._fail(f"there is no graph labelled {token.text}", token.at)
        if token.text in self.open:
            self._fail(f"graph {token.text} holds itself", token.at)
        if len(self.open) > MAX_NESTING:
            self._fail(f"regions are nested more than {MAX_NESTING} deep", token.at)
        here = self.position
        graph = self._graph(token.text)
        self.position = here
        return graph

    def _graph(self, label: str) -> Graph:
        self.open.append(label)
        self.position = self.starts[label]
        self._take("word", "graph")
        name = self._name(self._take("label"))
        if self._is("as"):
            name = self._name(self._take("label", what="the graph's name, such as @name"))
        values: dict[str, Value] = {}
        inputs: list[Value] = []
        self._take("mark", "(")
        while not self._is(")"):
            if inputs:
                self._take("mark", ",")
            inputs.append(self._typed(values, "an input such as %x: f32[2,3]"))
        self._take("arrow", what="'->'")
        self._take("mark", "(")
        types: list[TensorType] = []
        while not self._is(")"):
            if types:
                self._take("mark", ",")
            types.append(self._type())
        self._take("mark", "{")
        nodes: list[Node] = []
        while self.next.kind == "value":
            nodes.append(self._node(values))
        returned = self._take("word", "return", "a node or 'return'")
        outputs: list[Value] = []
        while not self._is("}"):
            if outputs:
                self._take("mark", ",")
            outputs.append(self._known(values))
        found = [v.type for v in outputs]
        if found != types:
            shown = (", ".join(map(str, t)) for t in (found, types))
            self._fail("the graph returns ({}), but declares ({})".format(*shown), returned.at)
        self.open.pop()
        graph = self.graphs[label] = Graph(name, inputs, nodes, outputs)
        return graph

    def _name(self, label: Token) -> str:
        """The name that a label spells: @name, or @"any name" in quotes."""
        if not label.text.startswith('@"'):
            return label.text[1:]
        quoted, _, number = label.text[1:].rpartition('"')
        return self._string(f'{quoted}"', label.at) + number

    def _string(self, text: str, at: int) -> str:
        try:
            return str(json.loads(text))
        except ValueError:
            self._fail("this string has an unknown escape", at)

    # -- nodes -----------------------------------------------------------------------------------------------

    def _typed(self, values: dict[str, Value], what: str) -> Value:
        """A new value with its type: %x: f32[2,3]."""
        token = self._take("value", what=what)
        name = token.text[1:]
        if name in values:
            self._fail(f"{token.text} is defined above already", token.at)
        self._take("mark", ":")
        value = values[name] = Value(self._type(), "" if name.isdigit() else name)
        return value

    def _known(self, values: dict[str, Value]) -> Value:
        token = self._take("value", what="a value such as %x")
        if token.text[1:] not in values:
            self._fail(f"{token.text} is not defined before this line", token.at)
        return values[token.text[1:]]

    def _type(self) -> TensorType:
        token = self._take("word", what="a type such as f32[2,3]")
        if token.text not in DTYPES:
            self._fail(f"unknown dtype {token.text!r}; there is {', '.join(DTYPES)}", token.at)
        self._take("mark", "[")
        sizes: list[int] = []
        while not self._is("]"):
            if sizes:
                self._take("mark", ",")
            sizes.append(self._size())
        found = TensorType(DTYPES[token.text], tuple(sizes))
        if not found.possible:
            self._fail(f"no array has this type: an array has up to {MAX_RANK} axes and less than 2^63 bytes", token.at)
        return found

    def _node(self, values: dict[str, Value]) -> Node:
        start = self.next
        made: dict[str, Value] = {}
        while True:
            if self.next.text[1:] in values:
                self._fail(f"{self.next.text} is defined above already", self.next.at)
            self._typed(made, "a result such as %0: f32[2,3]")
            if not self._is(","):
                break
        self._take("mark", "=")
        name = self._take("word", what="an op")
        if name.text not in REGISTRY:
            import difflib

            near = difflib.get_close_matches(name.text, REGISTRY, 1)
            self._fail(f"unknown op {name.text!r}" + (f"; did you mean {near[0]!r}?" if near else ""), name.at)
        results = tuple(made.values())
        op = self._op(REGISTRY[name.text], results)
        operands: list[Value] = []
        self._take("mark", "(")
        while not self._is(")"):
            if operands:
                self._take("mark", ",")
            operands.append(self._known(values))
        try:
            inferred = op.infer(*(v.type for v in operands))
        except NagraphError as error:
            self._fail(str(error), name.at)
        except Exception as error:  # noqa: BLE001 - a type rule met operands or attributes that it can't read
            self._fail(f"{name.text} does not take these operands and attributes ({type(error).__name__}: {error})", name.at)
        expected = inferred if isinstance(inferred, tuple) else (inferred,)
        if tuple(v.type for v in results) != expected:
            shown = (", ".join(map(str, t)) for t in (expected, [v.type for v in results]))
            self._fail("{} gives ({}), but the line says ({})".format(name.text, *shown), start.at)
        values.update(made)
        where = _LOCATION.match(self.text, self.tokens[self.position - 1].at + 1)
        return Node(op, tuple(operands), results, Location(" ".join(where[1].split()), int(where[2])) if where else None)

    def _op(self, cls: type[Op], results: tuple[Value, ...]) -> Op:
        """The op with the attributes that follow in braces."""
        at = self.next.at
        given: dict[str, Any] = {}
        version = self.versions.get(cls.name, cls.version)
        if version < cls.version:
            return self._earlier(cls, version, at)
        known = hints(cls)
        if self._is("{"):
            while not self._is("}"):
                if given:
                    self._take("mark", ",")
                key = self._take("word", what=f"an attribute of {cls.name}")
                if key.text not in known or key.text in given:
                    why = "comes twice" if key.text in given else f"is none; {cls.name} has {', '.join(known) or 'none'}"
                    self._fail(f"attribute {key.text} {why}", key.at)
                self._take("mark", "=")
                given[key.text] = self._attribute(cls, known[key.text], results)
        missing = [f.name for f in dataclasses.fields(cls)  # type: ignore[arg-type]
                   if f.name not in given and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
        if missing:
            self._fail(f"{cls.name} needs the attribute {missing[0]}", at)
        return cls(**given)

    def _earlier(self, cls: type[Op], version: int, at: int) -> Op:
        """The op of attributes as an earlier version had them."""
        given: dict[str, Any] = {}
        if self._is("{"):
            while not self._is("}"):
                if given:
                    self._take("mark", ",")
                key = self._take("word", what=f"an attribute of {cls.name}")
                self._take("mark", "=")
                given[key.text] = self._literal(0)
        try:
            found = cls.upgraded(given, version)
            wrong = [name for name, hint in hints(cls).items() if name in found and not fits(found[name], hint)]
            if not wrong:
                return cls(**found)
        except Exception as error:  # noqa: BLE001 - attributes that its earlier version had not
            self._fail(f"{cls.name} does not take these attributes of version {version} ({type(error).__name__}: {error})", at)
        self._fail(f"{cls.name}: attribute {wrong[0]} is not {found[wrong[0]]!r}", at)

    # -- attributes --------------------------------------------------------------------------------------------

    def _attribute(self, cls: type[Op], hint: Any, results: tuple[Value, ...]) -> Any:
        at = self.next.at
        if cls is Constant:
            return self._data(results[0].type)
        found = self._literal(0)
        if isinstance(found, int) and not isinstance(found, bool) and hint is float:
            found = self._float(self.tokens[self.position - 1])
        if not fits(found, hint):
            self._fail(f"this attribute is {getattr(hint, '__name__', hint)}, not {found!r}", at)
        return found

    def _literal(self, depth: int) -> Any:
        token = self.next
        if self._is("["):
            self._check_depth(depth, token)
            items: list[Any] = []
            while not self._is("]"):
                if items:
                    self._take("mark", ",")
                items.append(self._literal(depth + 1))
            return tuple(items)
        self.position += 1
        if token.kind == "string":
            return self._string(token.text, token.at)
        if self._begins_size(token):
            self.position -= 1
            return self._size(1)
        if token.kind == "number":
            return self._int(token) if _is_whole(token.text) else self._float(token)
        if token.kind == "label":
            return self._region(token)
        if token.kind == "word":
            words = {"true": True, "false": False, "none": None, **DTYPES}
            if token.text == "type":
                return self._type()
            if token.text in words:
                return words[token.text]
        self._fail(f"expected an attribute's value, found {token.text!r}", token.at)

    def _float(self, token: Token) -> float:
        if token.text.startswith(("nan:", "-nan")):
            self._fail("a nan with a sign or other bits is written by its bits, in constants only, as nan:ffc00000", token.at)
        value = float(token.text)
        if abs(value) == float("inf") and "inf" not in token.text:
            self._fail(f"{token.text} is larger than any f64; infinity is written inf", token.at)
        return value

    # -- constants -------------------------------------------------------------------------------------------------

    def _data(self, type: TensorType) -> Data:
        """Elements in nested lists, or a blob: the bytes of a resource."""
        at = self.next.at
        if self._is("blob"):
            digest = self._take("digest", what="sha256: and 64 hexadecimal digits")
            if digest.text in self.constants:
                return self._elsewhere(self.constants[digest.text], digest, type)
            if digest.text not in self.resources:
                self._fail(f"the text holds no resource {digest.text[:16]}...; was it printed without its blobs?", digest.at)
            raw = self.resources[digest.text]
            if len(raw) != type.nbytes:
                self._fail(f"the resource has {len(raw)} bytes, {type} has {type.nbytes}", digest.at)
            return Data(np.frombuffer(raw, type.dtype).reshape(type.shape))
        elements: list[Token] = []
        shape = self._elements(elements, 0)
        if type.size and shape != type.shape or not type.size and elements:
            self._fail(f"the elements have shape {list(shape)}, the type is {type}", at)
        array = np.empty(len(elements), type.dtype)
        for i, token in enumerate(elements):
            self._element(array, i, token)
        return Data(array.reshape(type.shape))

    def _elsewhere(self, array: np.ndarray[Any, Any], digest: Token, type: TensorType) -> Data:
        """A constant whose bytes are not in the text."""
        if type_of(array) != type:
            self._fail(f"the resource is {type_of(array)}, not {type}", digest.at)
        found = Data(array, copy=False)
        if f"sha256:{found.sha256}" != digest.text:
            self._fail("the bytes are not those that this sha256 names", digest.at)
        return found

    def _elements(self, elements: list[Token], depth: int) -> tuple[int, ...]:
        """Collect the elements of nested lists; their shape."""
        first = self.next
        if not self._is("["):
            if self.next.kind not in ("number", "word"):
                self._fail(f"expected an element, found {self.next.text!r}", self.next.at)
            elements.append(self.next)
            self.position += 1
            return ()
        self._check_depth(depth, first)
        shapes: list[tuple[int, ...]] = []
        while not self._is("]"):
            if shapes:
                self._take("mark", ",")
            at = self.next.at
            shapes.append(self._elements(elements, depth + 1))
            if shapes[-1] != shapes[0]:
                self._fail("these nested lists differ in shape", at)
        return (len(shapes), *shapes[0]) if shapes else (0,)

    def _element(self, array: np.ndarray[Any, Any], i: int, token: Token) -> None:
        dtype, text = array.dtype, token.text
        if dtype == np.bool_:
            if text not in ("true", "false"):
                self._fail(f"expected true or false, found {text!r}", token.at)
            array[i] = text == "true"
        elif not is_float(dtype):
            if not _is_whole(text) or not np.iinfo(dtype).min <= self._int(token) <= np.iinfo(dtype).max:
                self._fail(f"{text} is no {dtype}", token.at)
            array[i] = int(text)
        elif text.startswith("nan:"):
            bits = int(text[4:], 16)
            if bits >= 1 << 8 * dtype.itemsize:
                self._fail(f"{text} has more bits than {dtype}", token.at)
            array[i:i + 1].view(f"u{dtype.itemsize}")[0] = bits
            if not is_nan(array[i]):
                self._fail(f"these are the bits of the number {array[i]}, not of a nan", token.at)
        elif token.kind != "number":
            self._fail(f"expected a number, found {text!r}", token.at)
        else:
            with np.errstate(over="ignore"):
                array[i] = self._float(token)
            if np.isinf(array[i]) and "inf" not in text:
                self._fail(f"{text} is larger than any {SHORT_NAMES[dtype]}; infinity is written inf", token.at)


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isdigit()
