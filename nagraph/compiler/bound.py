"""Bound arguments: a jitted function whose first arguments are given, and taken apart once for many calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nagraph import arrays, tree
from nagraph.arrays import HOST
from nagraph.backends import find
from nagraph.compiler.fast_path import FastPath
from nagraph.compiler.places import computing
from nagraph.errors import SignatureError
from nagraph.ir.builder import active
from nagraph.tracing.tracer import function_name, positional_labels

if TYPE_CHECKING:
    from nagraph.compiler.jitted import Jitted


class Bound:
    """A bound function is a jitted one whose first arguments are given: what `Jitted.bind` returns."""

    def __init__(self, jitted: Jitted, bound: tuple[Any, ...]):
        roots = [label.partition("[")[0] for label in positional_labels(jitted.signature, len(bound))]
        for root in roots:
            if root in jitted.roles.donate:
                raise SignatureError(f"{function_name(jitted.fn)}.bind: argument {root!r} is donated, so the first call would use it up; "
                                     "pass it to each call")
        kept = {*jitted.roles.static, *jitted.roles.constant}
        self.jitted = jitted
        given = [leaf for root, x in zip(roots, bound, strict=True) if root not in kept for leaf in tree.leaves(x)]
        kind = find(computing(jitted.backend, given)).array_kind
        device = "" if kind is HOST else arrays.common_device(kind, given, lambda i: f"{function_name(jitted.fn)}.bind: array {i}")

        def there(leaf: Any) -> Any:
            return leaf if kind is HOST or arrays.kind_of(leaf) is None else kind.row_major(arrays.put(leaf, kind, device))

        self.bound = tuple(x if root in kept else tree.map(there, x) for root, x in zip(roots, bound, strict=True))
        #: The arrays of the bound arguments, by the fast path that takes them; None where it takes other ones.
        self._known: dict[FastPath, list[Any] | None] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        jitted = self.jitted
        if active() is None:
            for path in jitted.fast_paths:
                known = self._known.get(path)
                arrays = None if known is None else path.more(known, len(self.bound), args, kwargs)
                if arrays is not None and (results := path.plain(arrays)) is not None:
                    return jitted.hit(path, results)
            self._known = {p: p.first(self.bound) for p in jitted.fast_paths}
        return jitted(*self.bound, *args, **kwargs)
