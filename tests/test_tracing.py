"""Tracing: what graph a function becomes, with which names, types, constants and lines."""

import copy
import dataclasses
import functools
import importlib.util
import pathlib

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import LeakedTracerError, SignatureError
from nagraph.ir.builder import active_stack
from nagraph.ir.interpret import interpret
from nagraph.ir.location import is_internal
from nagraph.passes.expand import Expand

V = np.arange(3, dtype=np.float32)
HERE = pathlib.Path(__file__).name


def ops(graph):
    return [n.op.name for n in graph.nodes]


def test_a_function_becomes_a_graph():
    def mlp(x, w, b):
        return np.tanh(x @ w + b).sum(axis=-1)

    graph = ng.trace(mlp, ng.spec((2, 3)), ng.spec((3, 4)), ng.spec((4,)))
    assert graph.name == "mlp" and [v.name for v in graph.inputs] == ["x", "w", "b"]
    assert graph.input_types == (ng.spec((2, 3)), ng.spec((3, 4)), ng.spec((4,))) and graph.output_types == (ng.spec((2,)),)
    assert ops(graph) == ["dot_general", "add", "tanh", "sum"]
    assert ng.parse(str(graph)) == graph
    ng.verify(graph)


@dataclasses.dataclass
class Model:
    w: object
    kind: str = "linear"


def test_inputs_are_named_by_their_place():
    graph = ng.trace(lambda model, batch, *rest: model.w * batch["x"][1] + rest[0], Model(V), {"x": [V, V], "y": None}, V)
    assert [v.name for v in graph.inputs] == ["model.w", "batch.x.0", "batch.x.1", "rest[0]"]


def test_types_come_from_specs_arrays_and_numbers():
    graph = ng.trace(lambda *xs: xs, ng.spec((2,), "bf16"), V, np.float16(1), np.int8([1]), True, 3, 2.5, np.ones((0, 4)))
    assert [str(t) for t in graph.output_types] == ["bf16[2]", "f32[3]", "f16[]", "i8[1]", "bool[]", "i64[]", "f64[]", "f64[0,4]"]
    assert str(ng.trace(lambda x: x * 2, np.ones(2, ">f4")).output_types[0]) == "f32[2]"


def test_python_numbers_stay_weak_until_they_meet_an_array():
    def f(x, k):
        return x * (k + 1) / 2, k * 2, np.sqrt(k)

    graph = ng.trace(f, V, 3)
    assert [str(t) for t in graph.output_types] == ["f32[3]", "i64[]", "f64[]"]
    assert [str(t) for t in ng.trace(f, V.astype(np.int8), 3).output_types] == ["f64[3]", "i64[]", "f64[]"]
    with pytest.warns(UserWarning, match="float64 scalar"):
        assert ng.trace(lambda x, k: x * k.astype("float64"), V, 2.0).output_types[0].dtype == np.float64
    assert ng.trace(lambda x, k: np.where(x > 0, x, k), V, 2.0).output_types[0].dtype == np.float32
    assert ng.trace(lambda x, k: x + np.maximum(k, 0), V, 2.0).output_types[0].dtype == np.float32
    assert ng.trace(lambda x, k: x + k, V, True).output_types[0].dtype == np.float32


@pytest.mark.parametrize("result", [lambda x: (), lambda x: x, lambda x: (x, x), lambda x: 1, lambda x: {"a": np.ones(3), "b": None},
                                    lambda x: [x + 1, 2.5, np.int8(3)], lambda x: np.zeros((2, 50))])
def test_results_may_be_anything_with_arrays(result):
    graph = ng.trace(result, V)
    ng.verify(graph)
    assert ng.parse(str(graph)) == graph
    for got, expected in zip(interpret(graph, (V,)), [x for x in ng.tree.leaves(result(V)) if x is not None], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_tracing_is_deterministic():
    def f(x):
        return ng.grad(lambda y: ng.scan(lambda c, r: (np.tanh(c + r), c), y, x)[1].sum())(x[0]) @ np.eye(4)

    x = ng.spec((5, 4), "f64")
    assert ng.trace(f, x) == ng.trace(f, x) and str(ng.trace(f, x)) == str(ng.trace(f, x))


def test_nodes_carry_the_users_line():
    def f(x):
        y = x + 1
        z = np.tanh(
            y)
        return z.sum()

    first = f.__code__.co_firstlineno
    graph = ng.trace(f, V)
    assert [(pathlib.Path(n.location.file).name, n.location.line, n.location.function) for n in graph.nodes if n.op.name != "const"] == [
        (HERE, first + 1, "f"), (HERE, first + 2, "f"), (HERE, first + 4, "f")]
    derived = [n.location for n in ng.trace(ng.grad(f), V).nodes]
    assert all(where is not None and where.file.endswith(HERE) for where in derived)
    assert {where.line for where in derived} >= {first + 2}


@pytest.mark.parametrize("name,internal", [("my_functools.py", False), ("numpy_tricks.py", False), ("nagraph_model.py", False)])
def test_files_of_the_users_with_odd_names_are_the_users(tmp_path, name, internal):
    path = tmp_path / name
    path.write_text("def f(x):\n    return x * 2\n")
    spec = importlib.util.spec_from_file_location("odd", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert is_internal(str(path)) is internal and is_internal(functools.__file__) and is_internal(np.__file__)
    (where,) = {n.location for n in ng.trace(module.f, V).nodes if n.op.name == "multiply"}
    assert (where.file, where.line) == (str(path), 2)


def test_lines_of_the_models_are_shown_and_of_the_layers_not():
    layer = ng.nn.Linear.init(ng.random.key(0), 3, 4)
    graph = ng.trace(lambda m, x: m(x), layer, V)
    assert {pathlib.Path(n.location.file).name for n in graph.nodes} == {HERE}
    assert not is_internal(str(pathlib.Path(ng.models.__file__).with_name("gpt2.py")))


def test_what_a_layer_expands_to_has_the_line_of_its_call():
    """In the derivative too, which most layers declare: the table of a profile names lines by that."""
    def f(x):
        y = ng.nn.functional.softmax(x)
        return ng.nn.functional.layer_norm(y).sum()

    graph = Expand()(ng.trace(ng.value_and_grad(f), np.ones((3, 4), np.float32)))
    first = f.__code__.co_firstlineno
    assert {n.op.name for n in graph.nodes} >= {"exp", "rsqrt"} and all(n.location is not None for n in graph.nodes)
    assert {n.location.line for n in graph.nodes if n.location.file.endswith(HERE)} >= {first + 1, first + 2}


def test_names_that_the_text_form_cannot_write_are_made_so():
    for fn in (lambda x: x, functools.partial(np.multiply, 2), np.tanh):
        graph = ng.trace(fn, V)
        assert ng.parse(str(graph)) == graph
    odd = lambda x: x  # noqa: E731
    odd.__name__ = "naïve <name>!"
    assert ng.parse(str(ng.trace(odd, V))).output_types == (ng.spec(3),)


def test_small_captures_are_printed_and_large_ones_shared():
    small, large = np.array([1.0, 2.0, 3.0]), np.arange(3000.0)
    taken = ng.numpy.take
    graph = ng.trace(lambda x, i: x * small + taken(large, i) + taken(large, i + 3) + taken(large, i + 1), ng.spec(3, "f64"), np.arange(3))
    constants = [n for n in graph.nodes if n.op.name == "const" and n.result.shape == (3000,)]
    assert len(constants) == 1 and "sha256" in str(graph) and "[1.0,2.0,3.0]" in str(graph)
    large[:] = 0
    (found,) = interpret(graph, (np.ones(3), np.arange(3)))
    np.testing.assert_array_equal(found, small + [0, 1, 2] + np.array([3, 4, 5]) + [1, 2, 3])
    assert ng.parse(str(graph)) == graph


def test_what_the_result_does_not_need_is_traced_but_not_kept():
    def f(x):
        np.exp(x)
        return x + 1

    assert "exp" in ops(ng.trace(f, V))
    assert "exp" not in ops(ng.jit(f).lower(V).executable.graph)


def test_a_tracer_looks_like_an_array():
    seen = {}

    def f(x):
        seen.update(shape=x.shape, dtype=x.dtype, ndim=x.ndim, size=x.size, length=len(x), nbytes=x.nbytes, text=repr(x),
                    attributes=[hasattr(x, n) for n in ("sum", "T", "astype", "ctypes", "nonsense", "__array__")])
        assert copy.copy(x) is x and copy.deepcopy(x) is x and isinstance(x, ng.Tracer) and isinstance(x, ng.Value)
        assert isinstance(hash(x), int) and np.shape(x) == (2, 3) and np.ndim(x) == 2 and np.size(x) == 6
        return x

    ng.trace(f, ng.spec((2, 3)))
    assert seen == {"shape": (2, 3), "dtype": np.float32, "ndim": 2, "size": 6, "length": 2, "nbytes": 24, "text": "Tracer<f32[2,3]>",
                    "attributes": [True, True, True, False, False, True]}


def test_a_value_of_rank_zero_has_no_length():
    for use in (len, iter, list):
        with pytest.raises(TypeError, match="rank 0"):
            ng.trace(lambda x, use=use: use(x), ng.spec(()))


def test_unknown_attributes_are_named():
    with pytest.raises(AttributeError, match=r"a traced value of type f32\[3\] has no attribute 'nonsense'"):
        ng.trace(lambda x: x.nonsense, V)


def test_long_python_loops_trace():
    def f(x):
        for _ in range(5000):
            x = x + 1
        return x

    graph = ng.trace(f, np.float64(0))
    assert len(graph.nodes) >= 5000
    assert ng.jit(f)(0.0) == 5000


def test_arguments_of_trace():
    with pytest.raises(SignatureError, match="str is no array"):
        ng.trace(lambda x: x, "text")
    with pytest.raises(TypeError):
        ng.trace(lambda x: x, V, V)
    assert active_stack() == ()


def test_trace_inside_of_a_trace_is_separate():
    inner = []

    def f(x):
        inner.append(ng.trace(lambda y: y * 2, x))
        return x + 1

    outer = ng.trace(f, V)
    assert "multiply" in ops(inner[0]) and "multiply" not in ops(outer)
    with pytest.raises(LeakedTracerError, match="pass them as arguments"):
        ng.trace(lambda x: ng.trace(lambda y: y * x, V) and x, V)


def test_op_functions_on_arrays_compute_at_once():
    found = ng.numpy.tanh(V)
    assert type(found) is np.ndarray and found.dtype == np.float32
    np.testing.assert_allclose(ng.where(V > 1, V, 0), [0, 0, 2])
    assert active_stack() == ()
