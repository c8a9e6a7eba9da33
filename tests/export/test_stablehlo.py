"""StableHLO: what the text says, what is refused, what is left on disk. That XLA computes the same is tried in tests/oracles."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ExportError
from nagraph.export.subject import Subject
from nagraph.export.to_stablehlo import running
from nagraph.export.to_stablehlo.registry import translation_of
from nagraph.export.to_stablehlo.text import dense, number_text, string_text, type_text
from nagraph.export.to_stablehlo.writing import module_text
from nagraph.ir.constant import Constant
from nagraph.ir.op import op
from nagraph.ir.types import FLOATS
from nagraph.ops.base import Elementwise, Primitive
from tests.support import own_ops

F32 = np.float32


@op
class StablehloInPython(Primitive):
    """An op that Python alone computes."""

    name = "stablehlo_in_python"

    def infer(self, x: Any) -> Any:
        return x

    def reference(self, x: Any) -> Any:
        return x + 1


def text_of(what: Any, *specs: Any, **options: Any) -> str:
    return module_text(Subject.of(what, specs, **options))


def operations(text: str) -> list[str]:
    return re.findall(r'"([a-z]+\.\w+)"\(', text)


def test_every_op_has_a_translation() -> None:
    without = [name for name, cls in own_ops().items() if not (issubclass(cls, Elementwise) and "scalar" in dir(cls))
               and translation_of(object.__new__(cls)) is None]
    assert not without


def test_names_sizes_weights_and_lines() -> None:
    n = ng.Dim("n")
    w = np.arange(6, dtype=F32).reshape(3, 2)

    def logits(state: Any, x: Any) -> Any:
        return {"y": np.tanh(x @ state["w"])}

    text = text_of(logits, {"w": w}, ng.spec((n, 3)), names={"y": "scores"}, metadata={"made by": 'a "test"'})
    assert 'func.func public @main(%x: tensor<?x3xf32> {nagraph.name = "x"}) -> (tensor<?x2xf32> {nagraph.name = "scores"})' in text
    assert "dense<[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]> : tensor<3x2xf32>" in text and "nagraph.metadata" in text
    assert re.search(r'#loc1 = loc\("test_stablehlo.py":\d+:0\)', text) and '"stablehlo.tanh"' in text
    assert "/" not in text.split("#loc1 =")[1] and "custom_call" not in text


def test_composites_keep_their_names_and_share_their_bodies() -> None:
    def twice(x: Any) -> Any:
        return ng.nn.functional.softmax(ng.nn.functional.softmax(x))

    text = text_of(twice, ng.spec((2, 4)))
    assert text.count('name = "nagraph.softmax"') == 2 and text.count("func.func private") == 1
    assert 'axis' not in text or "composite_attributes" in text
    known_later = text_of(twice, ng.spec((ng.Dim("n"), 4)))
    assert "composite" not in known_later, "sizes are numbers of the function around"


def test_control_flow_is_operations_of_its_own() -> None:
    def looped(x: Any) -> Any:
        c, ys = ng.scan(lambda c, t: (c + t, c * t), x[0], x)
        c = ng.cond(c.sum() > 0, lambda c: c + 1, lambda c: c * 2, c)
        return ng.while_loop(lambda c: c.max() < 9, lambda c: c + 1, c, max_steps=4), ys

    found = operations(text_of(looped, ng.spec((3, 4))))
    assert found.count("stablehlo.while") == 2 and found.count("stablehlo.if") == 1 and "stablehlo.dynamic_update_slice" in found


def test_donated_arguments_are_marked() -> None:
    step = ng.jit(lambda x, state: (state + x, x.sum()), donate_argnames="state")
    text = text_of(step, ng.spec(3), ng.spec(3))
    assert '%state: tensor<3xf32> {nagraph.name = "state", tf.aliasing_output = 0 : i32}' in text


def test_sizes_are_computed_from_the_arguments() -> None:
    n, m = ng.Dim("n"), ng.Dim("m")
    found = operations(text_of(lambda x, y: (x.reshape(-1), y[1:], ng.numpy.arange(y.shape[0])), ng.spec((2 * n, 3)), ng.spec((m + 1,))))
    assert found.count("stablehlo.get_dimension_size") == 2 and {"stablehlo.dynamic_iota", "stablehlo.real_dynamic_slice"} <= {*found}
    with pytest.raises(ExportError, match="the dimension [nm] does not follow from the inputs x: no axis is [nm] alone"):
        text_of(lambda x: x + 1, ng.spec((n * m,)))


def test_all_that_has_no_translation_is_told_at_once(tmp_path: Any) -> None:
    def printed(x: Any) -> Any:
        ng.debug.print("x = {}", x)
        return StablehloInPython()(x)

    with pytest.raises(ExportError) as found:
        ng.export.stablehlo(printed, tmp_path / "deep" / "x.mlir", ng.spec((3,)))
    told = str(found.value)
    assert "for 2 reasons" in told and "debug_print" in told and "calls Python" in told and "ng.debug.print" in told
    assert told.count("test_stablehlo.py:") == 2 and not list(tmp_path.iterdir())


def test_what_does_not_compute_the_same_is_not_written(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(running, "installed", lambda: True)
    monkeypatch.setattr(running, "version", lambda: "9")
    monkeypatch.setattr(running, "run", lambda module, arrays: [np.tanh(arrays[0]) + F32(1e-3)])
    with pytest.raises(ExportError, match="output output differs in XLA of jaxlib 9: it is off by .* nothing was written; verify=False"):
        ng.export.stablehlo(np.tanh, tmp_path / "x.mlir", ng.spec(3))
    assert not list(tmp_path.iterdir())
    assert ng.export.stablehlo(np.tanh, tmp_path / "x.mlir", ng.spec(3), verify=False) == tmp_path / "x.mlir"
    assert (tmp_path / "x.mlir").read_text().startswith("module @") and not capsys.readouterr().out
    monkeypatch.setattr(running, "run", lambda module, arrays: [np.tanh(arrays[0])])
    ng.export.stablehlo(np.tanh, tmp_path / "x.mlir", ng.spec(3))
    assert re.search(r"x.mlir: agrees with XLA of jaxlib 9: largest error 0.0e", capsys.readouterr().out)


def test_without_jax_it_says_what_to_install(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(running, "installed", lambda: False)
    ng.export.stablehlo(np.tanh, tmp_path / "x.mlir", ng.spec(3))
    assert "it was not run: pip install 'nagraph[stablehlo]'" in capsys.readouterr().out
    with pytest.raises(ExportError, match=r"pip install 'nagraph\[stablehlo\]'"):
        ng.export.stablehlo(np.tanh, tmp_path / "y.mlirbc", ng.spec(3))
    with pytest.raises(ExportError, match="is written as text or bytecode, got format='hlo'"):
        ng.export.stablehlo(np.tanh, tmp_path / "y.mlir", ng.spec(3), format="hlo")
    assert [p.name for p in tmp_path.iterdir()] == ["x.mlir"]


@pytest.mark.parametrize("dtype", sorted(FLOATS, key=str), ids=str)
def test_numbers_read_back_to_the_same_bits(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 8 * dtype.itemsize, 500, dtype=f"u{dtype.itemsize}", endpoint=False)
    for x in bits.view(dtype):
        text = number_text(x, dtype)
        if text.startswith("0x"):
            with np.errstate(invalid="ignore"):  # of signalling nans
                assert int(text, 16) == int(x.view(f"u{dtype.itemsize}")) and not np.isfinite(x)
        else:
            assert np.asarray(float(text)).astype(dtype).tobytes() == x.tobytes() and re.fullmatch(r"-?\d+\.\d+(e[+-]?\d+)?", text)


def test_constants_of_each_form() -> None:
    assert dense(np.zeros((2, 3), F32)) == "dense<0.0>" and dense(np.array([1, 2])) == "dense<[1, 2]>"
    assert dense(np.array([-0.0, 0.0], F32)) == "dense<[-0.0, 0.0]>", "zeros of both signs are not one number"
    many = np.arange(100, dtype=np.uint16)
    assert dense(many) == f'dense<"0x{many.tobytes().hex().upper()}">'
    assert dense(np.arange(100) > 50).startswith("dense<[false,")
    assert Constant.of(many).infer() == ng.spec(100, "u16") and type_text(ng.spec((2, ng.Dim("n")), "bool")) == "tensor<2x?xi1>"
    assert string_text('a"\\é') == '"a\\22\\5C\\C3\\A9"'
