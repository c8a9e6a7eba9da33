"""ng.export.program and ng.load_program: what was exported is called as it was, wherever it is opened."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pathlib
import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ExportError, SignatureError
from nagraph.export.program_file import CONSTANTS, MANIFEST, TEXT, WEIGHTS
from nagraph.ir.types import DTYPES
from nagraph.storage import read_safetensors
from nagraph.testing import Way, check, random_program
from tests.export.programs import DATA, Layer, Point, State, everything, programs, results, specs, train
from tests.support import CPU_BACKENDS, own_ops

F32 = np.float32
PROGRAMS = programs()


def equal(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gives_the_bits_of_its_function(name: str, backend: str, tmp_path: pathlib.Path) -> None:
    function, arguments, given = PROGRAMS[name]
    path = ng.export.program(function, tmp_path / "a.ngx", given)
    loaded = ng.load_program(path, backend=backend)
    expected = results(ng.jit(getattr(function, "fn", function), backend=backend), arguments)
    equal(results(loaded, arguments), expected)
    assert all(e.executable.graph is not None for e in loaded.jitted._entries.values()) and len(expected) > 1


@pytest.mark.parametrize("path", sorted(DATA.glob("*-*.safetensors")), ids=lambda p: p.stem)
def test_files_of_every_version_open(path: pathlib.Path) -> None:
    """What earlier versions wrote is called with what it was called with, and gives what it gave, without the code that defined it."""
    loaded = ng.load_program(path.with_suffix(".ngx"), backend="numpy")
    arrays = read_safetensors(path)[0]
    assert loaded.metadata == {"made for": "the tests of program files"} and loaded.subject.tree_in is not None
    each = (arrays[f"argument{i}"] for i in range(len(arrays)))
    leaves = [next(each) if m else None for m in loaded.subject.tree_in.mask]
    found = results(loaded, ng.tree.unflatten(dataclasses.replace(loaded.subject.tree_in.structure), leaves))
    for i, a in enumerate(found):
        expected = arrays[f"result{i}"]
        assert a.dtype == expected.dtype and np.allclose(a.astype("f8"), expected.astype("f8"), 1e-6, 1e-6), (i, a, expected)
    assert f"result{len(found)}" not in arrays


def test_files_with_every_op_open() -> None:
    stored = sorted(DATA.glob("everything-*.ngx"))
    loaded = [ng.load_program(p) for p in stored]
    assert stored and all({n.op.name for n in p.graph.nodes} for p in loaded)
    newest = {n.op.name for n in everything().nodes}
    assert newest >= own_ops().keys()


def test_every_program_of_a_version_is_stored() -> None:
    assert {p.stem for p in DATA.glob("*.ngx")} >= {f"{name}-1" for name in (*PROGRAMS, "everything")}


# -- trees ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    function, _, given = PROGRAMS["train"]
    found: pathlib.Path = ng.export.program(function, tmp_path_factory.mktemp("trained") / "step.ngx", given)
    return found


def fresh() -> tuple[Any, ...]:
    return ng.tree.map(lambda a: None if a is None else np.array(a), PROGRAMS["train"].arguments)


def test_results_are_of_the_classes_of_arguments(trained: pathlib.Path) -> None:
    loaded = ng.load_program(trained)
    state, (loss, aux) = loaded(*fresh())
    assert type(state) is State and state.activation is np.tanh and state.moments["v"] is None and state.rate == 0.5
    assert type(aux) is dict and loss.shape == ()
    batch = fresh()[1]
    by_name, _ = loaded(batch=batch, lr=0.1, state=fresh()[0])
    assert np.array_equal(by_name.w, state.w), "arguments are taken by name, and a Python number for a float"
    again, _ = loaded(state, batch, F32(0.1))
    assert not np.array_equal(again.w, by_name.w) and str(inspect.signature(loaded)) == "(state, batch, lr)"


def test_donated_arguments_are_overwritten(trained: pathlib.Path) -> None:
    loaded = ng.load_program(trained)
    given = fresh()
    state, _ = loaded(*given)
    assert state.w is given[0].w and state.moments["m"] is given[0].moments["m"]
    assert "state.w is donated: it is overwritten by the result" in loaded.explain()


def test_a_program_opens_where_nothing_of_its_code_is(trained: pathlib.Path) -> None:
    code = f"""
import numpy as np, nagraph as ng
step = ng.load_program({str(trained)!r}, backend="numpy")
made = ng.tree.map(lambda t: t and np.ones(t.shape, t.dtype), step.arguments["state"])
new, (loss, aux) = step(made, {{"x": np.ones((4, 3), np.float32), "y": np.zeros((4, 2), np.float32)}}, np.float32(0.5))
new, _ = step(new, {{"x": np.ones((9, 3), np.float32), "y": np.zeros((9, 2), np.float32)}}, 0.5)
print(type(new).__name__, new.rate, new.activation, sorted(aux), new)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("State 0.5 numpy.tanh ['norm'] State(w=array([[")


def test_any_class_with_the_same_fields_will_do(trained: pathlib.Path) -> None:
    @dataclasses.dataclass
    class Other:
        w: Any
        moments: Any
        mean: Any = None
        rate: float = 0.5
        activation: Any = np.tanh

    state, batch, lr = fresh()
    new, _ = ng.load_program(trained)(Other(state.w, state.moments), batch, lr)
    assert type(new) is Other


@pytest.mark.parametrize("change, told", [
    (lambda s, b, lr: (s, b), "train: missing a required argument: 'lr'"),
    (lambda s, b, lr: (s, b, lr, lr), "train: too many positional arguments"),
    (lambda s, b, lr: (s, {"x": b["x"]}, lr), "train: batch is a dict with x, expected a dict with x, y"),
    (lambda s, b, lr: (s.w, b, lr), "train: state is an array, expected record State with w, moments, mean"),
    (lambda s, b, lr: (s.replace(rate=0.25), b, lr), "train: state.rate is 0.25, and the program was made with 0.5"),
    (lambda s, b, lr: (s.replace(activation=np.sin), b, lr), "state.activation is <ufunc 'sin'>, and the program was made with numpy.tanh"),
    (lambda s, b, lr: (s.replace(moments={"m": None, "v": None}), b, lr), "train: state.moments.m is None, and an array in the program"),
    (lambda s, b, lr: (s.replace(mean=s.w), b, lr), "train: state.mean is an array, and None in the program"),
    (lambda s, b, lr: (s, {**b, "x": b["x"].astype("f8")}, lr), r"train: batch.x is f32\[n,3\], got f64\[n,3\]"),
    (lambda s, b, lr: (s, {**b, "y": b["y"][1:]}, lr), "batch.y, axis 0 has the size 5, and should have n = 6"),
    (lambda s, b, lr: (s, b, np.int32(1)), r"train: lr is f32\[\], got i32\[\]"),
])
def test_other_arguments_are_refused(trained: pathlib.Path, change: Any, told: str) -> None:
    with pytest.raises(SignatureError, match=told):
        ng.load_program(trained)(*change(*fresh()))


def test_a_star_takes_what_it_took(tmp_path: pathlib.Path) -> None:
    def total(*xs: Any) -> Any:
        return xs[0] + 2 * xs[1] + 3 * xs[2]

    loaded = ng.load_program(ng.export.program(total, tmp_path / "a.ngx", (np.ones(3, F32), ng.spec((3,)), ng.spec((3,)))))
    assert str(inspect.signature(loaded)) == "(*xs)" and list(loaded.weights) == ["xs[0]"]
    assert np.array_equal(loaded(np.ones(3, F32), np.ones(3, F32)), np.full(3, 6, F32))
    with pytest.raises(SignatureError, match=r"takes 2 arguments \(xs\[0\], xs\[1\]\), got 1"):
        loaded(np.ones(3, F32))


# -- graphs, weights, what is in the file -------------------------------------------------------------------


def test_graphs_and_executables(tmp_path: pathlib.Path) -> None:
    n = ng.Dim("n")
    graph = ng.trace(lambda p: (p["a"] * 2, p["b"] + 1), {"a": ng.spec((n,)), "b": ng.spec((2,))})
    for what in (graph, ng.compile(graph)):
        loaded = ng.load_program(ng.export.program(what, tmp_path / "a.ngx"))
        assert loaded.graph == graph and str(inspect.signature(loaded)) == "(p_a, p_b)"
        equal(list(loaded(np.ones(5, F32), p_b=np.ones(2, F32))), [np.full(5, 2, F32), np.full(2, 2, F32)])
    single = ng.load_program(ng.export.program(ng.trace(np.square, ng.spec((2,))), tmp_path / "b.ngx"))
    equal([single(np.full(2, 3, F32))], [np.full(2, 9, F32)])


def test_weights_are_mapped_and_aligned(tmp_path: pathlib.Path) -> None:
    function, arguments, given = PROGRAMS["forward"]
    path = ng.export.program(function, tmp_path / "a.ngx", given)
    loaded = ng.load_program(path)
    assert list(loaded.weights) == ["w", "b"] and loaded.subject.free == ("pixels",)
    for name, array in loaded.weights.items():
        assert np.array_equal(array, getattr(function, name)) and not array.flags.owndata and not array.flags.writeable
    assert loaded.weights["w"].ctypes.data % 64 == 0
    path.unlink()
    equal(results(loaded, arguments), results(ng.jit(Layer.__call__), (function, *arguments)))


@pytest.mark.parametrize("name", DTYPES)
def test_weights_of_every_dtype(name: str, tmp_path: pathlib.Path) -> None:
    arrays = {"a": np.arange(3).astype(DTYPES[name]), "b": np.ones((2, 0), DTYPES[name]), "c": np.ones((), DTYPES[name])[()],
              "big": np.arange(24).astype(DTYPES[name]).reshape(4, 6)[::2, ::-1]}
    loaded = ng.load_program(ng.export.program(lambda p, x: p | {"d": x}, tmp_path / "a.ngx", (arrays, ng.spec((3,), name))))
    found = loaded(np.ones(3, DTYPES[name]))
    equal([found[k] for k in arrays], [np.asarray(a) for a in arrays.values()])


def test_large_constants_are_tensors_and_shared(tmp_path: pathlib.Path) -> None:
    table = np.random.default_rng(0).standard_normal((100, 10)).astype(F32)

    def looked_up(i: Any) -> Any:
        first = ng.cond(i > 3, lambda: ng.numpy.take(table.copy(), i - i, axis=0), lambda: np.zeros(10, F32))
        return ng.numpy.take(table, i, axis=0) + first

    path = ng.export.program(looked_up, tmp_path / "a.ngx", ng.spec((), "i32"))
    with zipfile.ZipFile(path) as opened:
        assert opened.testzip() is None and opened.namelist() == [MANIFEST, TEXT, WEIGHTS, CONSTANTS]
        held = opened.getinfo(CONSTANTS).file_size
        assert table.nbytes < held < table.nbytes + 400 and b"blob sha256:" in opened.read(TEXT)
        manifest = json.loads(opened.read(MANIFEST))
        assert manifest["ops"]["cond"] == 1 and manifest["weights"] == [] and manifest["inputs"] == {"i": "i32[]"}
        (tmp_path / "c.safetensors").write_bytes(opened.read(CONSTANTS))
    assert [a.shape for a in read_safetensors(tmp_path / "c.safetensors")[0].values()] == [(100, 10)], "as the library reads it"
    equal([ng.load_program(path)(np.int32(7))], [table[7] + table[0]])


def test_equal_programs_give_equal_files(tmp_path: pathlib.Path) -> None:
    function, _, given = PROGRAMS["control"]
    a, b = (ng.export.program(function, tmp_path / name, given).read_bytes() for name in ("a.ngx", "b.ngx"))
    assert a == b


def test_the_pipeline_and_other_names_are_kept(tmp_path: pathlib.Path) -> None:
    function = ng.jit(lambda x: np.exp(x) * 1, passes="simplify,dce", backend="numpy")
    loaded = ng.load_program(ng.export.program(function, tmp_path / "a.ngx", ng.spec((3,)), names={"x": "pixels", "output": "scores"}))
    assert loaded.subject.pipeline == "simplify,dce" and loaded.inputs == ("pixels",) and loaded.outputs == ("scores",)
    assert [n.op.name for n in loaded.lower(ng.spec((3,))).executable.graph.nodes] == ["exp"], "nothing but these passes ran"
    assert str(inspect.signature(loaded)) == "(x)", "it is called as it was"


def test_a_program_can_be_differentiated_and_batched(tmp_path: pathlib.Path) -> None:
    layer = PROGRAMS["forward"].function
    loaded = ng.load_program(ng.export.program(layer, tmp_path / "a.ngx", PROGRAMS["forward"].specs))
    x = PROGRAMS["forward"].arguments[0]
    for transform in (lambda f: ng.grad(lambda a: ng.numpy.sum(f(a)["logits"] ** 2))(x), lambda f: ng.jit(lambda a: f(a + 1)["logits"])(x),
                      lambda f: ng.vmap(lambda a: f(a)["logits"])(x[None])):
        assert np.allclose(transform(loaded), transform(layer), 1e-5, 1e-6)


def test_a_program_is_exported_again(tmp_path: pathlib.Path) -> None:
    function, arguments, given = PROGRAMS["forward"]
    first = ng.export.program(function, tmp_path / "a.ngx", given, metadata={"by": "me"})
    loaded = ng.load_program(first)
    second = ng.export.program(loaded, tmp_path / "b.ngx")
    assert second.read_bytes() == first.read_bytes()
    fixed = ng.load_program(ng.export.program(loaded, tmp_path / "c.ngx", ng.spec((5, 4)), optimised=True))
    assert not fixed.graph.dims and sorted(fixed.weights) == ["b", "w"]
    equal(results(fixed, arguments), results(loaded, arguments))


# -- what can't be exported -----------------------------------------------------------------------------------


def test_ops_of_others_are_refused_all_at_once(tmp_path: pathlib.Path) -> None:
    from nagraph.ir.op import REGISTRY, op
    from nagraph.ops.base import Elementwise

    class Doubled(Elementwise):
        name = "program_test_doubled"
        reference = staticmethod(lambda x: x * 2)

    made = REGISTRY.get(Doubled.name) or op(Doubled)

    def mine(x: Any) -> Any:
        y = made()(x)
        return made()(y + 1)

    with pytest.raises(ExportError, match=r"mine can't be exported to a program file: program_test_doubled: it is defined in .*test_program"
                                          r", .*\(test_program.py:\d+, test_program.py:\d+\)$"):
        ng.export.program(mine, tmp_path / "new" / "a.ngx", ng.spec((3,)))
    assert list(tmp_path.iterdir()) == []


def test_trees_that_no_file_holds_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ExportError, match="a program can't hold a dict with the keys"):
        ng.export.program(lambda d: d, tmp_path / "a.ngx", {frozenset({1}): ng.spec((2,))})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_reads_back_as_another_one_is_not_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nagraph.export import program_file

    path = tmp_path / "a.ngx"
    path.write_bytes(b"old")
    monkeypatch.setattr(program_file, "parse", lambda text, **rest: ng.parse(text.replace("tanh", "sin"), **rest))
    with pytest.raises(ExportError, match="reads back as another one"):
        ng.export.program(np.tanh, path, ng.spec((2,)))
    monkeypatch.setattr(program_file, "parse", lambda text, **rest: ng.parse(text.replace("tanh", "tahn"), **rest))
    with pytest.raises(ExportError, match="the program that was written can't be read back: line 2, column 16: unknown op 'tahn'"):
        ng.export.program(np.tanh, path, ng.spec((2,)))
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.ngx"]


def test_specs_and_state_of_a_model(tmp_path: pathlib.Path) -> None:
    """A step whose first state is in the file: its arrays are weights, and no argument."""
    state, batch, _ = fresh()
    loaded = ng.load_program(ng.export.program(train, tmp_path / "a.ngx", (state, specs(batch), ng.spec(()))))
    new, _ = loaded(batch, 0.1)
    assert sorted(loaded.weights) == ["state.moments.m", "state.w"] and type(new).__name__ == "State" and type(new) is not State
    assert isinstance(new.moments, dict) and Point(1, 2).x == 1


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_go_through_files(seed: int, tmp_path: pathlib.Path) -> None:
    def by_file(function: Any) -> Any:
        def call(*arrays: Any) -> Any:
            path = ng.export.program(function, tmp_path / "a.ngx", ng.eval_shape(lambda *xs: xs, *arrays))
            return ng.to_numpy(ng.load_program(path, backend="numpy")(*arrays))

        return call

    assert check(random_program(900 + seed), [Way("program file", by_file)], derivatives=False) is None
    assert (tmp_path / "a.ngx").exists()
