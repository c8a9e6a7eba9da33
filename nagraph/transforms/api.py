"""The transforms that people call: grad, vjp, jvp, vmap, jacobian, hessian, checkpoint, custom_vjp, composite.

Inside a trace each emits into it. Outside, it traces and runs at once: see `nagraph.transforms.eager`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph import numpy as namespace
from nagraph import tree
from nagraph.errors import SignatureError, TracerError, TreeError
from nagraph.ir.builder import active, current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.integers import integer, integer_or_integers, is_integer
from nagraph.ir.sizes import same
from nagraph.ir.types import TensorType, is_float
from nagraph.ops.base import cast
from nagraph.ops.identities import stop_gradient as _stop
from nagraph.ops.movement import moveaxis
from nagraph.ops.rules import ones_of, or_zeros, with_batch_axis, zeros_of
from nagraph.regions.calls import Call
from nagraph.tracing.tracer import argument_names, as_value, check_function, function_name, leaf_type, trace_leaves
from nagraph.transforms.batching import batched_call
from nagraph.transforms.eager import Eager, Inner, frozen
from nagraph.transforms.forward import pushforward
from nagraph.transforms.reverse import grad_graph, pullback

Fn = Callable[..., Any]


def _transform(key: Any, emitted: Fn, fn: Fn, inner: Inner | None = None) -> Fn:
    """emitted(fn, *args) inside a trace; outside, its executable. key, inner: as of `Eager`; the key begins with the transform's name."""
    check_function(key[0], fn)
    eager = Eager(key, emitted, fn, inner)

    @functools.wraps(fn, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        return emitted(fn, *args, **kwargs) if active() is not None else eager(*args, **kwargs)

    return call


def directly(name: str, emitted: Fn) -> Fn:
    """emitted(*args), and outside of traces its executable; `name` is what errors call it."""
    if active() is not None:
        return emitted

    @functools.wraps(emitted)
    def named(*args: Any) -> Any:
        return emitted(*args)

    named.__name__ = name
    return Eager((), named)


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Of arguments (primals, ...) the primals: what the function itself takes."""
    return tuple(args[0]), {}


class _Traced:
    """A function traced on the leaves of its arguments, ready to be emitted on the outer values."""

    def __init__(self, fn: Fn, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, closed: bool = False):
        self.leaves, self.structure = tree.flatten((args, kwargs or {}))
        names = argument_names(fn, args)

        def on_leaves(*xs: Any) -> Any:
            a, k = tree.unflatten(self.structure, xs)
            return fn(*a, **k)

        self.graph, captured, self.out_structure, self.out_mask = trace_leaves(
            on_leaves, self.leaves, function_name(fn), names, closed=closed)
        #: For each input of the graph that is a leaf, the index of that leaf.
        self.leaf_of = [i for i, x in enumerate(self.leaves) if x is not None]
        self.operands = [as_value(self.leaves[i]) for i in self.leaf_of] + captured

    def result(self, outputs: Sequence[Any]) -> Any:
        """The outputs in the structure that the function returned."""
        found = iter(outputs)
        return tree.unflatten(self.out_structure, [next(found) if m else None for m in self.out_mask])

    def inputs_of(self, argnums: Sequence[int], name: str) -> list[int]:
        """The graph's inputs that belong to the positional arguments `argnums`."""
        arguments = self.structure.children[0].children
        ends = np.cumsum([0, *(a.leaf_count for a in arguments)])
        for n in argnums:
            if not -len(arguments) <= n < len(arguments):
                raise SignatureError(f"{name}: argnums {n} is out of range for {len(arguments)} positional arguments")
        wanted = {i for n in argnums for i in range(ends[n % len(arguments)], ends[n % len(arguments) + 1])}
        return [k for k, i in enumerate(self.leaf_of) if i in wanted]


def value_and_grad(fn: Fn, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Fn:
    """x -> (f(x), ∂f/∂x) of a function with a scalar result.

    The gradient has the structure of the argument; integer, bool and buffer leaves hold None.
    With `has_aux`, fn returns (loss, aux) and the result is ((loss, aux), gradient).
    """
    argnums = integer_or_integers("grad: argnums", argnums)
    single = isinstance(argnums, int)
    which = (argnums,) if isinstance(argnums, int) else argnums

    def emitted(fn: Fn, *args: Any, **kwargs: Any) -> Any:
        traced = _Traced(fn, args, kwargs)
        loss_type = _check_loss(traced, has_aux)
        chosen = traced.inputs_of(which, "grad")
        buffers = tree.buffer_flags(traced.structure)
        wrt = [k for k in chosen if is_float(traced.graph.inputs[k].dtype) and not buffers[traced.leaf_of[k]]]
        if not wrt:
            raise SignatureError(f"grad: argument {argnums} has no floating leaf to differentiate by")
        outputs, pull = pullback(traced.graph, traced.operands, wrt)
        found = pull([ones_of(loss_type), *(None for _ in outputs[1:])])
        by_leaf: dict[int, Value] = {}
        for k, c in zip(wrt, found, strict=True):
            by_leaf[traced.leaf_of[k]] = or_zeros(c, traced.graph.inputs[k].type)
        all_leaves = [by_leaf.get(i) for i in range(len(traced.leaves))]
        grads, _ = tree.unflatten(traced.structure, all_leaves)
        return traced.result(outputs), grads[which[0]] if single else tuple(grads[n] for n in which)

    return _transform(("value_and_grad", single, which, has_aux), emitted, fn)


def _check_loss(traced: _Traced, has_aux: bool) -> TensorType:
    structure = traced.out_structure
    if has_aux and not (structure.kind is tuple and len(structure.children) == 2):
        raise SignatureError(f"grad: with has_aux=True the function returns (loss, aux), got {structure}")
    loss = structure.children[0] if has_aux else structure
    if loss is not tree.LEAF and loss != tree.LEAF or not traced.out_mask[0]:
        hint = "" if has_aux else "; to return more beside the loss, pass has_aux=True"
        raise SignatureError(f"grad: the function must return one scalar, got {structure}{hint}")
    found = traced.graph.output_types[0]
    if found.shape or not is_float(found.dtype):
        raise SignatureError(f"grad: the function must return a floating scalar, got {found}; take its sum or mean")
    return found


def grad(fn: Fn | Graph, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Any:
    """x -> ∂f/∂x of a function with a scalar result; of a graph, the graph of its gradient.

    With `has_aux`, fn returns (loss, aux) and the result is (gradient, aux).
    """
    argnums = integer_or_integers("grad: argnums", argnums)
    if isinstance(fn, Graph):
        return grad_graph(fn, argnums)
    key = ("grad", argnums if isinstance(argnums, int) else tuple(argnums), has_aux)

    def emitted(fn: Fn, *args: Any, **kwargs: Any) -> Any:
        value, gradient = value_and_grad(fn, argnums, has_aux)(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return _transform(key, emitted, fn)


def vjp(fn: Fn, *args: Any) -> tuple[Any, Fn]:
    """f(x), and the function ct -> Jᵀ ct, a tuple with one entry for each argument: both of f and x as they are now."""
    check_function("vjp", fn)
    if active() is not None:
        return _vjp(fn, *args)
    now, kept = frozen(fn, args)
    pull = Eager("vjp", lambda fn, xs, ct: _vjp(fn, *xs)[1](ct), now, _first, mirrors=False)
    value = Eager("value", lambda fn, *xs: fn(*xs), now)(*args)
    return value, lambda ct: pull(kept, ct) if active() is None else _vjp(now, *kept)[1](ct)


def _vjp(fn: Fn, *args: Any) -> tuple[Any, Fn]:
    """`vjp` inside a trace."""
    traced = _Traced(fn, args)
    wrt = [k for k, _ in enumerate(traced.leaf_of) if is_float(traced.graph.inputs[k].dtype)]
    outputs, pull = pullback(traced.graph, traced.operands, wrt)

    def pulled_back(ct: Any) -> Any:
        found, structure = tree.flatten(ct)
        if structure != traced.out_structure:
            raise TreeError(f"vjp: the cotangent must have the structure of the result, {traced.out_structure}, got {structure}")
        given = [None if c is None else _like(as_value(c), v.type)
                 for c, v in zip((c for c, m in zip(found, traced.out_mask) if m), outputs, strict=True)]
        cts = pull([c if c is not None and is_float(v.dtype) else None for c, v in zip(given, outputs)])
        by_leaf = {traced.leaf_of[k]: or_zeros(c, traced.graph.inputs[k].type) for k, c in zip(wrt, cts, strict=True)}
        return tree.unflatten(traced.structure, [by_leaf.get(i) for i in range(len(traced.leaves))])[0]

    return traced.result(outputs), pulled_back


def _like(x: Value, type: TensorType) -> Value:
    """A cotangent or tangent as the type asks: dtype cast where weak, same shape."""
    if x.shape != type.shape:
        raise SignatureError(f"a cotangent or tangent must have the shape of its value, {type}, got {x.type}")
    result: Value = cast(x, type.dtype)
    return result


def jvp(fn: Fn, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(x) and J t: the result and how it moves when the arguments move along `tangents`."""
    check_function("jvp", fn)
    if active() is None:
        result: tuple[Any, Any] = Eager("jvp", jvp, fn, _first, mirrors=False)(tuple(primals), tuple(tangents))
        return result
    traced = _Traced(fn, tuple(primals))
    given = tree.leaves((tuple(tangents), {}))
    if len(given) != len(traced.leaves):
        raise TreeError(f"jvp: {len(traced.leaves)} primal leaves but {len(given)} tangent leaves")
    moved = [None if given[i] is None or not is_float(traced.graph.inputs[k].dtype)
             else _like(as_value(given[i]), traced.graph.inputs[k].type) for k, i in enumerate(traced.leaf_of)]
    moved += [None] * (len(traced.operands) - len(moved))
    outputs, found = pushforward(traced.graph, traced.operands, moved)
    full = [or_zeros(t, o.type) for o, t in zip(outputs, found)]
    return traced.result(outputs), traced.result(full)


def hvp(fn: Fn, x: Any, v: Any) -> Any:
    """The Hessian of a scalar function times a vector: H(x) v, forward over reverse."""
    check_function("hvp", fn)
    if active() is None:
        return Eager("hvp", hvp, fn, lambda args, kwargs: (args[:1], {}), mirrors=False)(x, v)
    return jvp(grad(fn), (x,), (v,))[1]


def vmap(fn: Fn, in_axes: Any = 0, out_axes: int = 0) -> Fn:
    """f mapped over an axis of its arguments, as one graph: y[i] = f(x[i]).

    in_axes: an axis for all arguments, or a tuple with an axis or None (not mapped) for each.
    """
    in_axes, out_axes = integer("vmap: in_axes", in_axes) if is_integer(in_axes) else in_axes, integer("vmap: out_axes", out_axes)

    def mapped(args: tuple[Any, ...]) -> tuple[list[Any], tree.Structure, list[int | None], int]:
        """The leaves, each with the axis that is mapped, and how long these axes are."""
        axes = in_axes if isinstance(in_axes, (tuple, list)) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise SignatureError(f"vmap: in_axes has {len(axes)} entries for {len(args)} arguments")
        given = [a for arg, axis in zip(args, axes) for a in _axes_of(arg, axis)]
        leaves, structure = tree.flatten(args)
        found: list[int | None] = []
        sizes: dict[int, None] = {}
        for x, axis in zip(leaves, given, strict=True):
            if x is not None and axis is not None:
                type, _ = leaf_type(x)
                if not -type.rank <= axis < type.rank:
                    raise SignatureError(f"vmap: axis {axis} is out of range for {type}")
                axis %= type.rank
                sizes[type.shape[axis]] = None
            found.append(None if x is None else axis)
        first, *others = sizes or (None,)
        if first is None or not all(same(first, n, "vmap") for n in others):
            shown = sorted(map(str, sizes), key=lambda s: (len(s), s))
            raise SignatureError(f"vmap: mapped axes need one common size, got {'[' + ', '.join(shown) + ']' if shown else 'none'}")
        return leaves, structure, found, first

    def example(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one example: types without the mapped axes."""
        leaves, structure, axes, _ = mapped(args)
        types = [x if axis is None else _without(leaf_type(x)[0], axis) for x, axis in zip(leaves, axes)]
        return tree.unflatten(structure, types), kwargs

    def emitted(fn: Fn, *args: Any) -> Any:
        leaves, structure, axes, size = mapped(args)
        examples, _ = example(args, {})
        graph, captured, out_structure, mask = trace_leaves(
            lambda *xs: fn(*tree.unflatten(structure, xs)), tree.leaves(examples), function_name(fn), argument_names(fn, args))
        fronted = [as_value(x) if not axis else moveaxis(as_value(x), axis, 0) for x, axis in zip(leaves, axes) if x is not None]
        flags = [axis is not None for x, axis in zip(leaves, axes) if x is not None] + [False] * len(captured)
        found = iter(
            moveaxis(with_batch_axis(x, b, size), 0, out_axes) if out_axes else with_batch_axis(x, b, size)
            for x, b in batched_call(graph, size, fronted + captured, flags)
        )
        return tree.unflatten(out_structure, [next(found) if m else None for m in mask])

    return _transform(("vmap", _hashable(in_axes), out_axes), emitted, fn, example)


def _without(type: TensorType, axis: int) -> TensorType:
    return type.with_shape((*type.shape[:axis], *type.shape[axis + 1:]))


def _hashable(axes: Any) -> Any:
    """Axes, or containers of them, as a key."""
    leaves, structure = tree.flatten(axes)
    return tuple(None if a is None else integer("vmap: axis", a) for a in leaves), structure


def _axes_of(arg: Any, axis: Any) -> list[int | None]:
    """The axis of each leaf of an argument; `axis` is one for all, or a container of the argument's shape."""
    count = tree.structure(arg).leaf_count
    if axis is None or is_integer(axis):
        return [None if axis is None else integer("vmap: axis", axis)] * count
    found = tree.leaves(axis)
    if len(found) != count:
        raise SignatureError(f"vmap: in_axes {axis} does not fit an argument of {count} leaves")
    return found


def jacobian(fn: Fn, argnums: int = 0) -> Fn:
    """J[i, j] = ∂f_i/∂x_j, of shape f(x).shape + x.shape: reverse mode, all rows at once through vmap."""
    argnums = integer("jacobian: argnums", argnums)

    def emitted(fn: Fn, *args: Any) -> Any:
        def of_one(x: Any) -> Any:
            return fn(*args[:argnums], x, *args[argnums + 1:])

        y, pull = vjp(of_one, args[argnums])
        if not isinstance(y, Value):
            raise SignatureError(f"jacobian: the function must return one array, got {tree.structure(y)}")
        n = y.size
        rows = namespace.reshape(namespace.eye(n, dtype=y.dtype), (n, *y.shape))
        found = vmap(lambda ct: pull(ct)[0])(rows)
        return tree.map(lambda g: namespace.reshape(g, (*y.shape, *g.shape[1:])), found)

    return _transform(("jacobian", argnums), emitted, fn)


def hessian(fn: Fn, argnums: int = 0) -> Fn:
    """H[i, j] = ∂²f/∂x_i∂x_j of a scalar function."""
    return _transform(("hessian", argnums), lambda fn, *args: jacobian(grad(fn, argnums), argnums)(*args), fn)


def stop_gradient(x: Any) -> Any:
    """x, taken as a constant by differentiation; trees leaf by leaf."""
    return tree.map(lambda leaf: _stop(leaf) if isinstance(leaf, Value) else leaf, x)


def eval_shape(fn: Fn, *args: Any) -> Any:
    """The types that fn(*args) would have, in its structure; nothing is computed."""
    check_function("eval_shape", fn)
    leaves, structure = tree.flatten(args)
    graph, _, out, mask = trace_leaves(lambda *xs: fn(*tree.unflatten(structure, xs)), leaves, function_name(fn))
    found = iter(graph.output_types)
    return tree.unflatten(out, [next(found) if m else None for m in mask])


def _as_call(fn: Fn, kind: str, label: str) -> Fn:
    """fn as one `call` node of this kind."""

    def emitted(fn: Fn, *args: Any, **kwargs: Any) -> Any:
        traced = _Traced(fn, args, kwargs)
        return traced.result(current().emit(Call(label, kind, traced.graph), traced.operands))

    return _transform((kind, label), emitted, fn)


def checkpoint(fn: Fn) -> Fn:
    """fn, whose backward pass recomputes it from its inputs instead of saving what is in between."""
    return _as_call(fn, "checkpoint", function_name(fn))


def composite(fn: Fn) -> Fn:
    """fn as a named region: one node in the graph, which a backend may claim whole."""
    return _as_call(fn, "composite", function_name(fn))


class custom_vjp:
    """A function with a derivative of its own.

        @ng.custom_vjp
        def f(x): ...
        f.defvjp(fwd, bwd)      # fwd(x) -> (f(x), residuals); bwd(residuals, ct) -> (ct_x,)

    bwd is linear in the cotangent: forward mode is its transpose. vmap keeps the derivative; second derivatives are those of
    fwd and bwd.
    """

    def __init__(self, fn: Fn):
        check_function("custom_vjp", fn)
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.fwd: Fn | None = None
        self.bwd: Fn | None = None

    def defvjp(self, fwd: Fn, bwd: Fn) -> None:
        """Declare the two halves of the derivative."""
        for half in (fwd, bwd):
            check_function(f"custom_vjp {function_name(self.fn)}: defvjp", half)
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise SignatureError("custom_vjp functions take positional arguments alone")
        if self.fwd is None or self.bwd is None:
            raise SignatureError(f"{function_name(self.fn)} has no derivative yet: call .defvjp(fwd, bwd)")
        return directly(function_name(self.fn), self._emit)(*args)

    def _emit(self, *args: Any) -> Any:
        assert self.fwd is not None and self.bwd is not None
        label = function_name(self.fn)
        body = _Traced(self.fn, args, closed=True)
        forward = _Traced(self.fwd, args, closed=True)
        count = len(body.leaf_of)
        if len(body.operands) != count or len(forward.operands) != count:
            raise TracerError(f"custom_vjp {label} uses traced values from outside; pass them as arguments")
        shape = forward.out_structure
        if shape.kind is not tuple or len(shape.children) != 2 or shape.children[0] != body.out_structure:
            raise TreeError(f"custom_vjp {label}: fwd must return (result, residuals), got {shape}")
        n = len(body.graph.outputs)
        cut = shape.children[0].leaf_count
        residual_shape, residual_mask = shape.children[1], forward.out_mask[cut:]
        residual_types, ct_types = forward.graph.output_types[n:], body.graph.output_types

        def backward(*leaves: Any) -> Any:
            residual_leaves = iter(leaves[:len(residual_types)])
            ct_leaves = iter(leaves[len(residual_types):])
            residuals = tree.unflatten(residual_shape, [next(residual_leaves) if m else None for m in residual_mask])
            cts = tree.unflatten(body.out_structure, [next(ct_leaves) if m else None for m in body.out_mask])
            assert self.bwd is not None
            found = tree.leaves((tuple(self.bwd(residuals, cts)), {}))
            if len(found) != len(body.leaves):
                raise TreeError(f"custom_vjp {label}: bwd must return a cotangent for each of "
                                f"{len(body.leaves)} argument leaves, got {len(found)}")
            out = []
            for k, i in enumerate(body.leaf_of):
                type = body.graph.inputs[k].type
                if is_float(type.dtype):
                    out.append(zeros_of(type) if found[i] is None else _like(as_value(found[i]), type))
            return out

        bwd, captured, _, _ = trace_leaves(backward, [*residual_types, *ct_types], f"{label}.bwd", closed=True)
        if captured:
            raise TracerError(f"custom_vjp {label}: bwd uses traced values from outside; pass them as residuals")
        op = Call(label, "custom", body.graph, forward.graph.with_name(f"{label}.fwd"), bwd)
        return body.result(current().emit(op, body.operands))
