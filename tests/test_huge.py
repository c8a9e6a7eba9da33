"""Numbers, shapes and nestings that are too large: an error of ours, at once, from every function, eagerly and under trace."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph import numpy as np_
from nagraph.errors import NagraphError, TypeRuleError

X, WHOLE = np.arange(6.0, dtype=np.float32).reshape(2, 3), np.arange(6).reshape(2, 3)
HUGE = [10**30, -10**30, 10**400, 2**63, -2**63 - 1, 2**62]
#: What a Python user would see of our insides, or of NumPy's. (A call that lacks an argument is Python's own TypeError.)
INTERNAL = (OverflowError, RecursionError, AssertionError, SystemError, IndexError, KeyError, ZeroDivisionError, UnboundLocalError)
#: Their decimals are taken as they are.
LEFT_OUT = {"round", "around"}


def functions() -> Iterator[str]:
    for name in dir(np_):
        fn = getattr(np_, name)
        ours = str(getattr(fn, "__module__", "nagraph")).startswith("nagraph")
        if ours and callable(fn) and not isinstance(fn, type) and not name.startswith("_"):
            yield name


def calls(fn: Any, v: int) -> Iterator[Callable[[Any], Any]]:
    """The function with the number in every place: alone, in a tuple, by position and by name."""
    yield lambda x: fn(v)
    yield lambda x: fn((v, v))
    yield lambda x: fn(v, x)
    for given in (v, (v,), (v, v)):
        yield lambda x, given=given: fn(x, given)
        yield lambda x, given=given: fn(x, x, given)
        for p in list(inspect.signature(fn).parameters.values())[1:]:
            if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD):
                yield lambda x, given=given, name=p.name: fn(x, **{name: given})


@pytest.mark.parametrize("name", sorted(set(functions()) - LEFT_OUT))
def test_a_huge_number_in_every_place_of_every_function(name: str) -> None:
    for v in HUGE:
        for call in calls(getattr(np_, name), v):
            for x in (X, WHOLE):
                for way in (call, lambda x, call=call: ng.trace(call, x)):
                    try:
                        way(x)
                    except NagraphError:
                        pass
                    except INTERNAL as error:
                        pytest.fail(f"{name} with {v}: {type(error).__name__} {error}")
                    except (ValueError, MemoryError) as error:
                        assert "Maximum allowed" not in str(error) and "too big" not in str(error), (name, v, error)
                    except (TypeError, AttributeError):
                        pass


@pytest.mark.parametrize("v", HUGE[:5])
@pytest.mark.parametrize("dtype", ["i8", "u8", "i64", "u64", "bool"])
def test_a_huge_constant(v: int, dtype: str) -> None:
    x = np.ones(3, np.dtype(ng.spec((), dtype).dtype))
    for call in (lambda x: x + v, lambda x: v - x, lambda x: ng.numpy.where(x > 0, x, v), lambda x: ng.numpy.full_like(x, v),
                 lambda x: ng.numpy.minimum(x, v)):
        try:
            found = ng.trace(call, x)
            assert dtype == "u64" and v == 2**63 or dtype == "bool", found
        except TypeRuleError as error:
            assert len(str(error)) < 400


@pytest.mark.parametrize("call", [
    lambda x: np_.broadcast_to(x, (2**40, 2**40, 2, 3)), lambda x: np_.broadcast_to(x, (2**62, 2, 3)),
    lambda x: np_.zeros((2**61,)), lambda x: np_.ones((0, 2**40, 2**40)), lambda x: np_.pad(x, 2**61),
    lambda x: np_.tile(x, 2**60), lambda x: np_.repeat(x, 2**60), lambda x: np_.one_hot(x, 2**61), lambda x: np_.eye(2**40),
    lambda x: np_.zeros((1,) * 65), lambda x: np_.reshape(x, (1,) * 65 + (6,)), lambda x: np_.expand_dims(x, tuple(range(70))),
    lambda x: np_.matmul(np_.broadcast_to(x[:, :1], (2**40, 2, 1)), np_.broadcast_to(x[:1], (2**30, 1, 1, 3))),
    lambda x: np_.outer(np_.broadcast_to(x[0, 0], (2**35,)), np_.broadcast_to(x[0, 0], (2**35,))),
    lambda x: ng.random.normal(ng.random.key(0), (2**62,)),
], ids=range(15))
@pytest.mark.parametrize("way", ["eager", "trace", "grad", "vmap"])
def test_a_shape_that_no_array_has(call: Callable[[Any], Any], way: str) -> None:
    """The type rule says so, wherever it is met; before memory is asked for."""
    ways = {"eager": lambda: call(X), "trace": lambda: ng.trace(call, X), "grad": lambda: ng.trace(ng.grad(lambda x: call(x).sum()), X),
            "vmap": lambda: ng.trace(ng.vmap(call), np.stack([X, X]))}
    kinds = (TypeRuleError, MemoryError) if way == "eager" else TypeRuleError
    with pytest.raises(kinds, match="Unable to allocate|2\\^63 bytes|axes|size|Maximum"):
        ways[way]()


def test_a_spec_that_no_array_has() -> None:
    for shape in ((2**63,), (-1,), (10**30,), (1,) * 65, (2**40, 2**40)):
        with pytest.raises(TypeRuleError):
            ng.spec(shape)


# -- nesting -------------------------------------------------------------------------------------------------------------

def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    found: Any = np.ones(2)
    for _ in range(depth):
        found = wrap(found)
    return found


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x, None), lambda x: {"a": x}], ids=["list", "tuple", "dict"])
@pytest.mark.parametrize("depth", [90, 100_000])
def test_deep_trees(wrap: Callable[[Any], Any], depth: int) -> None:
    """They are either taken or refused in a sentence, never by Python's limit of recursion."""
    tree = nested(depth, wrap)
    for call in (lambda: ng.tree.map(lambda x: x, tree), lambda: ng.jit(lambda t: t)(tree), lambda: ng.tree.paths(ng.tree.structure(tree)),
                 lambda: ng.trace(lambda t: t, tree), lambda: ng.grad(lambda t: ng.tree.leaves(t)[0].sum())(tree)):
        try:
            call()
            assert depth < 100
        except NagraphError as error:
            assert "nested" in str(error) and len(str(error)) < 400


def test_a_tree_that_holds_itself() -> None:
    tree: list[Any] = [np.ones(2)]
    tree.append(tree)
    with pytest.raises(NagraphError, match="nested"):
        ng.jit(lambda t: t[0])(tree)


def test_deep_graphs() -> None:
    """A long chain is no nesting; regions within regions have a limit."""
    def chain(x: Any) -> Any:
        for _ in range(5_000):
            x = x + 1
        return x

    graph = ng.trace(chain, np.ones(2))
    assert ng.parse(str(graph)) == graph
    assert ng.compile(graph, backend="numpy", passes="dce")(np.ones(2))[0].tolist() == [5_001] * 2

    def regions(x: Any, depth: int) -> Any:
        return ng.cond(x.sum() > 0, lambda x: regions(x, depth - 1) if depth else x, lambda x: x, x)

    with pytest.raises(NagraphError, match="nested"):
        ng.trace(lambda x: regions(x, 1000), np.ones(2))
