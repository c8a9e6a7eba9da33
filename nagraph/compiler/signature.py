"""The arguments of one call of a jitted function: leaves, types, the key they are compiled under, and what differs from others."""

from __future__ import annotations

import copy
import inspect
import operator
from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from nagraph import arrays, tree
from nagraph.errors import LeakedTracerError, NagraphError, SignatureError
from nagraph.ir.builder import current
from nagraph.ir.cached import cached_property
from nagraph.ir.emitter import LEAKED
from nagraph.ir.graph import Value
from nagraph.ir.types import DTYPES, SHORT_NAMES, DType, TensorType
from nagraph.tracing.tracer import Trace, Weak, function_name, leaf_type, positional_labels

F64 = DTYPES["f64"]


class Roles(NamedTuple):
    """Roles are the names of arguments that are static, donated, or constant."""

    static: tuple[str, ...]
    donate: tuple[str, ...]
    constant: tuple[str, ...]


class _Given(NamedTuple):
    """A given argument of a call, by its number among those given."""

    number: int


class Form:
    """A form is what calls with as many positional arguments, and keywords of the same names, have in common.

    floats: the dtype of arguments that are Python floats: float64, where the backend has it.
    """

    def __init__(self, fn: Callable[..., Any], signature: inspect.Signature | None, roles: Roles, count: int, names: tuple[str, ...],
                 floats: DType = F64):
        self.count, self.names, self.fn, self.floats = count, names, fn, floats
        given = [_Given(i) for i in range(count + len(names))]
        args, kwargs = tuple(given[:count]), dict(zip(names, given[count:]))
        if signature is not None:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise SignatureError(f"{function_name(fn)}: {error}") from None
            if names or any(roles):
                if roles.static:
                    bound.apply_defaults()
                args, kwargs = bound.args, bound.kwargs
        self.positional, self.kwnames = len(args), tuple(kwargs)
        self.labels = [*positional_labels(signature, len(args)), *kwargs]
        #: In the function's order: which one of those given, or a default value.
        self.order = [*args, *kwargs.values()]
        # *args is one name for many arguments: model, xs[0], xs[1]
        roots = [label.partition("[")[0] for label in self.labels]
        every = range(len(roots))
        self.constant = [i for i in every if roots[i] in roles.constant]
        self.static = [i for i in every if roots[i] in roles.static and i not in self.constant]
        self.dynamic = [i for i in every if i not in self.constant and i not in self.static]
        self.donate = [roots[i] in roles.donate for i in self.dynamic]

    def given(self) -> list[tuple[int, int]]:
        """For each argument that is given, in the function's order: its place there, and its number among those given."""
        return [(i, x.number) for i, x in enumerate(self.order) if type(x) is _Given]

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The arguments in the function's order."""
        given = (*args, *kwargs.values())
        return [given[x.number] if type(x) is _Given else x for x in self.order]


class Call:
    """A call is the arguments of one call of a function, taken apart."""

    def __init__(self, form: Form, args: tuple[Any, ...], kwargs: dict[str, Any]):
        values = form.values(args, kwargs)
        self.form, self.fn, self.kwnames, self.positional = form, form.fn, form.kwnames, form.positional
        #: By position: arguments bound once (by identity), and arguments that are part of the key by value.
        self.bound = {i: values[i] for i in form.constant}
        self.static = {i: values[i] for i in form.static}
        self._labels, self._dynamic, self._donate = form.labels, form.dynamic, form.donate
        self.leaves, self.structure = tree.flatten([values[i] for i in self._dynamic])
        #: Whether a leaf is an array that is not NumPy's.
        self.elsewhere = False
        #: One for each leaf: a type, Weak, or None.
        self.types = tuple([TensorType(x.dtype, x.shape) if type(x) is np.ndarray and x.dtype in SHORT_NAMES else self._type(i)
                            for i, x in enumerate(self.leaves)])
        self.key: Hashable = self.key_of(self.types)
        try:
            if self.static:
                hash(self.key)
        except TypeError:
            shown = ", ".join(f"{self._labels[i]}={v!r}" for i, v in self.static.items())
            raise SignatureError(f"{function_name(self.fn)}: static arguments must be hashable: {shown}") from None

    def key_of(self, types: tuple[Any, ...]) -> Hashable:
        """What such calls are compiled under, whose leaves have these types."""
        return (self.structure, types, self.kwnames, tuple(self.bound), tuple((i, tree.exact(v)) for i, v in self.static.items()))

    def binds_as(self, other: Call) -> bool:
        """Whether the arguments that are bound once are the same objects as in another call of its key."""
        return all(map(operator.is_, self.bound.values(), other.bound.values()))

    def _type(self, i: int) -> Any:
        leaf = self.leaves[i]
        if leaf is None:
            return None
        where = f"{function_name(self.fn)}: argument"
        if isinstance(leaf, Value):
            raise LeakedTracerError(f"{where} {self.leaf_names[i]}: a traced value {LEAKED}")
        try:
            found, weak = leaf_type(leaf)
        except NagraphError as error:
            raise SignatureError(f"{where} {self.leaf_names[i]}: {error}") from None
        if weak:
            return Weak(found.with_dtype(self.form.floats) if found.dtype == F64 else found)
        self.elsewhere = self.elsewhere or not isinstance(leaf, (np.generic, TensorType)) and arrays.is_elsewhere(leaf)
        return found

    @cached_property
    def leaf_names(self) -> list[str]:
        """How each leaf is reached: `model.blocks.0.weight`."""
        return [n for i, child in zip(self._dynamic, self.structure.children) for n in tree.paths(child, self._labels[i])]

    @cached_property
    def description(self) -> dict[str, str]:
        """What the key holds of each argument, in words: a structure, types of leaves, values of static arguments."""
        found = {self._labels[i]: f"structure {child}" for i, child in zip(self._dynamic, self.structure.children) if child != tree.LEAF}
        found |= {name: str(t) for name, t in zip(self.leaf_names, self.types)}
        return found | {self._labels[i]: repr(v) for i, v in self.static.items()}

    def arrays(self) -> list[Any]:
        """The leaves that are inputs of the graph."""
        found = [x for x in self.leaves if x is not None]
        if TensorType in map(type, found):
            raise SignatureError(f"{function_name(self.fn)} runs on arrays; a spec stands for one in ng.trace and .lower alone")
        return found

    def row_major(self, given: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
        """These leaves, NumPy arrays and numbers, in native byte order, C-contiguous: themselves where they are so already."""
        return [x if type(x) is np.ndarray and x.dtype is t.dtype and x.flags.c_contiguous else np.asarray(x, dtype=t.dtype, order="C")
                for x, t in zip(given, filter(None, self.types), strict=True)]

    @property
    def donated(self) -> list[bool]:
        """For each leaf that is an input of the graph, whether its argument is donated."""
        flags = [donate for donate, child in zip(self._donate, self.structure.children) for _ in range(child.leaf_count)]
        return [flag for flag, x in zip(flags, self.leaves) if x is not None]

    @property
    def input_names(self) -> list[str]:
        """The names of the leaves that are inputs of the graph."""
        return [name for name, t in zip(self.leaf_names, self.types) if t is not None]

    @property
    def input_roots(self) -> list[str]:
        """For each leaf that is an input of the graph, the argument that it lies in."""
        roots = [self._labels[i] for i, child in zip(self._dynamic, self.structure.children) for _ in range(child.leaf_count)]
        return [root for root, t in zip(roots, self.types) if t is not None]

    @property
    def arguments_with_leaves(self) -> list[tuple[str, tree.Structure, list[Any]]]:
        """The arguments that are taken apart, in order: name, structure, and leaves, None included."""
        leaves = iter(self.leaves)
        return [(self._labels[i], child, list(islice(leaves, child.leaf_count)))
                for i, child in zip(self._dynamic, self.structure.children)]

    def without_arrays(self) -> Call:
        """The same call as a record: it keeps no leaf alive, but the constants, whose identity counts."""
        record = copy.copy(self)
        record.leaves = []
        return record

    def on_leaves(self, *leaves: Any) -> Any:
        """The function, called with other leaves in the place of these."""
        args, kwargs = self.arguments(leaves)
        return self.fn(*args, **kwargs)

    def arguments(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The function's positional arguments and keywords, with other leaves in the place of these."""
        ordered = tree.unflatten(self.structure, leaves)
        if self.static or self.bound:
            values = dict(zip(self._dynamic, ordered)) | self.static
            values |= {i: tree.map(_expected, v) for i, v in self.bound.items()}
            ordered = [values[i] for i in range(len(values))]
        return tuple(ordered[:self.positional]), dict(zip(self.kwnames, ordered[self.positional:]))

    def differences(self, before: Call) -> str:
        """What made this call another signature than the one before."""
        old, new = before.description, self.description
        changed = [name for name in new if old.get(name) != new[name] and (name in old or not any(n in old for n in self._parents(name)))]
        gone = [name for name in old if name not in new and not any(n in new for n in self._parents(name))]
        changes = [f"{name} changed from {old[name]} to {new[name]}" if name in old else f"{name} is new" for name in changed]
        changes += [f"{name} is gone" for name in gone]
        changes += [f"constant {self._labels[i]} is another object" for i, v in self.bound.items() if before.bound.get(i, v) is not v]
        return "; ".join(changes[:4]) + ("; ..." if len(changes) > 4 else "")

    @staticmethod
    def _parents(name: str) -> list[str]:
        parts = name.split(".")
        return [".".join(parts[:n]) for n in range(1, len(parts))]


def _expected(leaf: Any) -> Any:
    """A leaf of a constant argument, as a traced value: it is meant to be captured, however large."""
    trace = current()
    is_array = isinstance(leaf, np.ndarray) or arrays.is_elsewhere(leaf)
    return trace.constant(leaf, expected=True) if is_array and isinstance(trace, Trace) else leaf
