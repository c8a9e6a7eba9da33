"""Recurrent layers: RNN, GRU and LSTM, each a scan over time in one or both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.onnx.operators.activations import RECURRENT
from nagraph.onnx.registry import Floats, Strings, operator
from nagraph.ops.movement import iota
from nagraph.transforms.flow import scan

#: A cell: from x w^T of a step, the state and r, the next state, whose first part is what a step gives.
Cell = Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]


class Layer(NamedTuple):
    """A layer as its node says: x [time, batch, width], w [directions, gates hidden, width], r [directions, gates hidden, hidden]."""

    x: Any
    w: Any
    r: Any
    bias: Any
    lengths: Any
    direction: str
    layout: int
    hidden: int


def _layer(gates: int, x: Any, w: Any, r: Any, bias: Any, lengths: Any, direction: str, layout: int, hidden_size: int | None) -> Layer:
    if direction not in ("forward", "reverse", "bidirectional"):
        raise OnnxError(f"direction is forward, reverse or bidirectional, not {direction!r}")
    if layout not in (0, 1):
        raise OnnxError(f"layout is 0 or 1, not {layout}")
    count, hidden = 2 if direction == "bidirectional" else 1, r.shape[-1] if len(r.shape) == 3 else -1
    if (len(x.shape) != 3 or tuple(w.shape) != (count, gates * hidden, x.shape[-1]) or tuple(r.shape) != (count, gates * hidden, hidden)
            or bias is not None and tuple(bias.shape) != (count, 2 * gates * hidden) or hidden_size not in (None, hidden)):
        raise OnnxError(f"x {list(x.shape)}, w {list(w.shape)}, r {list(r.shape)} and hidden_size {hidden_size} do not fit one another")
    x = F.swapaxes(x, 0, 1) if layout else x
    if lengths is not None and tuple(lengths.shape) != (x.shape[1],):
        raise OnnxError(f"sequence_lens has shape {list(lengths.shape)} for {x.shape[1]} sequences")
    bias = F.zeros((count, 2 * gates * hidden), x.dtype) if bias is None else bias
    return Layer(F.array(x), F.array(w), F.array(r), F.array(bias), lengths, direction, layout, hidden)


def _run(layer: Layer, states: list[Any], cell_of: Callable[[int], Cell], asked: int) -> Any:
    """What all directions give: y [time, directions, batch, hidden], then each last state [directions, batch, hidden]."""
    time, batch = layer.x.shape[:2]
    initial = []
    for state in states:
        if state is None:
            initial.append(F.zeros((layer.w.shape[0], batch, layer.hidden), layer.x.dtype))
        else:
            found = F.swapaxes(state, 0, 1) if layer.layout else state
            if tuple(found.shape) != (layer.w.shape[0], batch, layer.hidden):
                raise OnnxError(f"an initial state has shape {list(state.shape)}, which does not fit")
            initial.append(F.array(found))
    ys, lasts = [], []
    for d in range(layer.w.shape[0]):
        backwards = layer.direction == "reverse" or d == 1
        projected = F.matmul(layer.x, F.transpose(layer.w[d]))
        y, last = _direction(layer, cell_of(d), projected, tuple(s[d] for s in initial), backwards, time)
        ys.append(y)
        lasts.append(last)
    y = F.stack(ys, 1)
    finals = [F.stack([last[i] for last in lasts], 0) for i in range(len(states))]
    if layer.layout:
        y, finals = F.transpose(y, (2, 0, 1, 3)), [F.swapaxes(f, 0, 1) for f in finals]
    return (y, *finals)[:asked]


def _direction(layer: Layer, cell: Cell, projected: Any, initial: tuple[Any, ...], backwards: bool, time: int) -> Any:
    """One direction. Beyond its length a sequence keeps its state and gives zeros; so backwards it begins at its own end."""
    if not time:
        return F.zeros((0, *initial[0].shape), layer.x.dtype), initial
    steps = iota("int32", (time,), 0)

    def step(state: Any, at: Any) -> Any:
        now, t = at
        after = cell(now, state)
        if layer.lengths is None:
            return after, after[0]
        runs = F.expand_dims(F.less(t, F.astype(layer.lengths, "i32")), -1)
        return tuple(F.where(runs, new, old) for new, old in zip(after, state)), F.where(runs, after[0], F.zeros_like(after[0]))

    last, y = scan(step, initial, (projected, steps), reverse=backwards)
    return y, last


def _activations(names: Any, usual: tuple[str, ...], directions: int, alpha: Any, beta: Any) -> list[list[Callable[[Any], Any]]]:
    """The activations of each direction. alpha and beta are given one after another to those that take them."""
    given = list(usual * directions if names is None else names)
    if len(given) != len(usual) * directions:
        raise OnnxError(f"activations are {len(given)}, but must be {len(usual)} for each of {directions} directions")
    alphas, betas, made = list(alpha or ()), list(beta or ()), []
    for name in given:
        if name.lower() not in RECURRENT:
            raise OnnxError(f"there is no activation {name!r}; there is {', '.join(RECURRENT)}")
        function, a, b = RECURRENT[name.lower()]
        a = alphas.pop(0) if alphas and name.lower() not in ("sigmoid", "tanh", "relu", "softsign", "softplus") else a
        b = betas.pop(0) if betas and name.lower() in ("affine", "scaledtanh", "hardsigmoid") else b
        made.append(lambda x, function=function, a=a, b=b: function(x, a, b))
    return [made[i * len(usual):(i + 1) * len(usual)] for i in range(directions)]


def _clipped(clip: float | None) -> Callable[[Any], Any]:
    return (lambda x: x) if clip is None else (lambda x: F.clip(x, -clip, clip))


def _gates(x: Any, count: int) -> list[Any]:
    return F.split(x, count, -1)


@operator("RNN")
def rnn(x: Any, w: Any, r: Any, bias: Any = None, lengths: Any = None, state: Any = None, *, activation_alpha: Floats | None = None,
        activation_beta: Floats | None = None, activations: Strings | None = None, clip: float | None = None, direction: str = "forward",
        hidden_size: int | None = None, layout: int = 0, call: Any) -> Any:
    layer = _layer(1, x, w, r, bias, lengths, direction, layout, hidden_size)
    functions = _activations(activations, ("Tanh",), layer.w.shape[0], activation_alpha, activation_beta)
    clipped = _clipped(clip)

    def cell_of(d: int) -> Cell:
        recurrent, added = F.transpose(layer.r[d]), F.add(*_gates(layer.bias[d], 2))
        return lambda now, state: (functions[d][0](clipped(now + F.matmul(state[0], recurrent) + added)),)

    return _run(layer, [state], cell_of, call.outputs)


@operator("GRU")
def gru(x: Any, w: Any, r: Any, bias: Any = None, lengths: Any = None, state: Any = None, *, activation_alpha: Floats | None = None,
        activation_beta: Floats | None = None, activations: Strings | None = None, clip: float | None = None, direction: str = "forward",
        hidden_size: int | None = None, layout: int = 0, linear_before_reset: bool = False, call: Any) -> Any:
    """Gates z, r, h: h_t = (1 - z) h + z h_(t-1)."""
    layer = _layer(3, x, w, r, bias, lengths, direction, layout, hidden_size)
    functions = _activations(activations, ("Sigmoid", "Tanh"), layer.w.shape[0], activation_alpha, activation_beta)
    clipped, n = _clipped(clip), layer.hidden

    def cell_of(d: int) -> Cell:
        recurrent = F.transpose(layer.r[d])
        of_gates, of_hidden = recurrent[:, :2 * n], recurrent[:, 2 * n:]
        wb, rb = _gates(layer.bias[d], 2)
        gate_bias = wb[:2 * n] + rb[:2 * n]
        f, g = functions[d]

        def cell(now: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
            (h,) = state
            z, reset = _gates(f(clipped(now[:, :2 * n] + F.matmul(h, of_gates) + gate_bias)), 2)
            if linear_before_reset:
                inner = reset * (F.matmul(h, of_hidden) + rb[2 * n:])
            else:
                inner = F.matmul(reset * h, of_hidden) + rb[2 * n:]
            return ((1 - z) * g(clipped(now[:, 2 * n:] + inner + wb[2 * n:])) + z * h,)

        return cell

    return _run(layer, [state], cell_of, call.outputs)


@operator("LSTM")
def lstm(x: Any, w: Any, r: Any, bias: Any = None, lengths: Any = None, state: Any = None, memory: Any = None, peepholes: Any = None, *,
         activation_alpha: Floats | None = None, activation_beta: Floats | None = None, activations: Strings | None = None,
         clip: float | None = None, direction: str = "forward", hidden_size: int | None = None, input_forget: bool = False, layout: int = 0,
         call: Any) -> Any:
    """Gates i, o, f, c: c_t = f c_(t-1) + i g(c), h_t = o h(c_t)."""
    layer = _layer(4, x, w, r, bias, lengths, direction, layout, hidden_size)
    functions = _activations(activations, ("Sigmoid", "Tanh", "Tanh"), layer.w.shape[0], activation_alpha, activation_beta)
    clipped, n = _clipped(clip), layer.hidden
    if peepholes is not None and tuple(peepholes.shape) != (layer.w.shape[0], 3 * n):
        raise OnnxError(f"peepholes have shape {list(peepholes.shape)}, but must be {[layer.w.shape[0], 3 * n]}")

    def cell_of(d: int) -> Cell:
        recurrent, added = F.transpose(layer.r[d]), F.add(*_gates(layer.bias[d], 2))
        pi, po, pf = (np.zeros((), layer.x.dtype),) * 3 if peepholes is None else _gates(F.array(peepholes)[d], 3)
        f, g, h = functions[d]

        def cell(now: Any, state: tuple[Any, ...]) -> tuple[Any, ...]:
            before, c = state
            i, o, forget, new = _gates(now + F.matmul(before, recurrent) + added, 4)
            if peepholes is not None:
                i, forget = i + pi * c, forget + pf * c
            i = f(clipped(i))
            forget = 1 - i if input_forget else f(clipped(forget))
            c = forget * c + i * g(clipped(new))
            o = f(clipped(o if peepholes is None else o + po * c))
            return o * h(c), c

        return cell

    return _run(layer, [state, memory], cell_of, call.outputs)
