"""Programs for the tests of program files, and `python -m tests.export.programs`, which writes them to tests/data.

The files there were written by the version of the format in their names, with what they are called with and what comes of it beside them.
They are never written anew: a new version adds files of its own, and all of them must open.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import nagraph as ng
from nagraph.export.manifest import VERSION
from nagraph.ir import Graph, build
from nagraph.ir.emitter import current
from nagraph.storage import write_safetensors
from nagraph.tree import leaves
from tests.ir.corpus import one_node_graphs, region_graphs

DATA = pathlib.Path(__file__).parents[1] / "data"
F32 = np.float32


class Point(NamedTuple):
    x: Any
    y: Any


class State(ng.nn.Module):
    """A training state with a static number, a static function, a buffer and a leaf that is None."""

    w: Any
    moments: dict[str, Any]
    mean: Any = ng.nn.buffer(default=None)
    rate: float = 0.5
    activation: Callable[..., Any] = np.tanh


class Layer(ng.nn.Module):
    w: Any
    b: Any

    def __call__(self, pixels: Any) -> Any:
        return {"logits": ng.nn.functional.layer_norm(ng.nn.functional.gelu(pixels @ self.w + self.b)),
                "table": ng.numpy.asarray(np.arange(40, dtype=F32).reshape(20, 2)) * 2}


def train(state: State, batch: Any, lr: Any) -> Any:
    def loss(w: Any) -> Any:
        return ng.numpy.mean((state.activation(batch["x"] @ w) - batch["y"]) ** 2)

    value, grad = ng.value_and_grad(loss)(state.w)
    m = state.moments["m"] * state.rate + grad
    return state.replace(w=state.w - lr * m, moments={"m": m, "v": None}), (value, {"norm": ng.numpy.sum(grad * grad)})


def control(key: Any, p: Point, *xs: Any) -> Any:
    """A scan, a branch, a loop, random bits, a sort, and most dtypes."""
    def body(c: Any, x: Any) -> Any:
        return c * 0.5 + x, np.sort(c)

    last, rows = ng.scan(body, p.x, xs[0])
    noisy = last + ng.random.uniform(key, (3,), dtype=F32)
    found = ng.cond(ng.numpy.sum(p.y) > 0, lambda a: a * 2, lambda a: -a, noisy)
    count = ng.while_loop(lambda n: n < 100, lambda n: n * 3, xs[1])
    return Point({1: found, 2: rows}, [count, p.y.astype(ng.bfloat16), p.x.astype(np.float16), p.y > 1])


class Program(NamedTuple):
    """A program is a function, arguments as arrays and as what it is exported with."""

    function: Any
    arguments: tuple[Any, ...]
    specs: tuple[Any, ...]


def programs() -> dict[str, Program]:
    """A forward pass with weights and an open size, a train step, and control flow."""
    rng = np.random.default_rng(0)
    n = ng.Dim("n", max=64)
    pixels, x = rng.standard_normal((5, 4)).astype(F32), rng.standard_normal((6, 3)).astype(F32)
    layer = Layer(rng.standard_normal((4, 3)).astype(F32), np.ones(3, F32))
    state = State(rng.standard_normal((3, 2)).astype(F32), {"m": np.zeros((3, 2), F32), "v": None})
    batch = {"x": x, "y": np.ones((6, 2), F32)}
    some = ng.random.key(3), Point(np.arange(3, dtype=F32), np.ones(2, F32)), np.ones((4, 3), F32), np.int32(1)
    return {
        "forward": Program(layer, (pixels,), (ng.spec((n, 4)),)),
        "train": Program(ng.jit(train, donate_argnames="state"), (state, batch, F32(0.1)), (
            specs(state), {"x": ng.spec((n, 3)), "y": ng.spec((n, 2))}, ng.spec(()))),
        "control": Program(control, some, specs(some)),
    }


def specs(tree: Any) -> Any:
    return ng.eval_shape(lambda x: x, tree)


def everything() -> Graph:
    """Every op, most with several attributes, and every kind of region, in one graph."""
    parts = [*one_node_graphs().values(), *region_graphs().values()]
    types = [t for g in parts for t in g.input_types]

    def body(*values: Any) -> list[Any]:
        given = iter(values)
        return [v for g in parts for v in current().inline(g, [next(given) for _ in g.inputs])]

    return build("everything", types, body)


def results(made: Any, arguments: tuple[Any, ...]) -> list[np.ndarray[Any, Any]]:
    """The arrays that come of a call, whose arguments may be written to."""
    found = made(*ng.tree.map(lambda a: None if a is None else np.array(a), arguments))
    return [np.asarray(ng.to_numpy(a)) for a in leaves(found) if a is not None]


def store() -> None:
    DATA.mkdir(exist_ok=True)
    for name, (function, arguments, given) in programs().items():
        path = DATA / f"{name}-{VERSION}.ngx"
        if path.exists():
            raise SystemExit(f"{path} exists, and files that were written stay as they are")
        ng.export.program(function, path, given, metadata={"made for": "the tests of program files"})
        arrays = [a for a in leaves(arguments) if a is not None]
        held = {f"argument{i}": np.asarray(a) for i, a in enumerate(arrays)}
        held |= {f"result{i}": a for i, a in enumerate(results(ng.load_program(path, backend="numpy"), arguments))}
        write_safetensors(path.with_suffix(".safetensors"), held)
    ng.export.program(everything(), DATA / f"everything-{VERSION}.ngx")


if __name__ == "__main__":
    store()
