"""Agreement with other software: which sizes are tried, what rounding explains, and what is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ExportError
from nagraph.export.agreement import agree, apart, rounded_otherwise, sizes_to_try
from nagraph.export.subject import Subject

F32 = np.float32
N = ng.Dim("n")


def test_three_sizes_of_each_dimension() -> None:
    graph = ng.trace(lambda x: x + 1, ng.spec((N, ng.Dim("m", min=2, max=3))))
    rows = list(sizes_to_try(graph))
    assert 1 in {r["n"] for r in rows} and len(rows) == len({r["n"] for r in rows}) == 3 and {r["m"] for r in rows} == {2, 3}
    assert list(sizes_to_try(graph.specialise({"n": 2, "m": 2}))) == [{}]


def test_what_rounding_explains() -> None:
    x = np.array([1, 2, np.nan, np.inf], F32)
    assert apart(x, x, 2e-5) == (0.0, "") and "float64[4] in place of float32[4]" in apart(x.astype("f8"), x, 2e-5)[1]
    assert "not finite elsewhere" in apart(np.array([1, 2, np.nan, 3], F32), x, 2e-5)[1]
    near = np.array([1, 2.0005, np.nan, np.inf], F32)
    assert "2.0e-05 is allowed" in apart(near, x, 2e-5)[1]
    assert apart(near, x, 2e-5, [near])[1] == "", "rounding decides where other roundings give as much"
    places, others = np.array([3, 4]), np.array([3, 5])
    assert "1 of 2 elements are others" in apart(places, others, 0)[1] and not apart(places, others, 0, [others, places])[1]
    assert apart(np.array([0, 4]), others, 0, [places])[1], "in other elements it does not"


def test_every_size_is_run_and_a_fault_is_told_with_it() -> None:
    subject = Subject.of(lambda x, w: x @ w, (ng.spec((N, 2)), np.ones((2, 3), F32)))
    asked: list[int] = []

    def run(sizes: Any, arrays: Any) -> Any:
        assert list(arrays) == ["x"] and arrays["x"].shape == (sizes["n"], 2)
        asked.append(sizes["n"])
        return [arrays["x"] @ np.ones((2, 3), F32) * F32(1 if len(asked) < 4 else 1.1)]

    assert agree(subject, "it", run).startswith(f"agrees with it for n={asked[0]}; ") and len(asked) == 3
    with pytest.raises(ExportError, match="output output for n=1 differs in it: it is off by 1.0e-01 .* verify=False"):
        agree(subject, "it", run)
    with pytest.raises(ExportError, match="it fails on what was made for n=1: no memory"):
        agree(subject, "it", lambda sizes, arrays: (_ for _ in ()).throw(RuntimeError("no memory")))


def test_other_roundings_are_of_compiled_code_and_of_inputs_a_unit_away() -> None:
    x = np.array([1, 2, 3], F32)
    graph = ng.trace(lambda x, n: ((x * 1e4 - 1e4) * 1e3, n + 1), x, np.int32(3))
    wide, whole = rounded_otherwise(graph, [x, np.int32(3)])
    assert len(wide) == 3 and 0.5 < abs(wide[1][0] - wide[0][0]) < 3 and [int(n) for n in whole] == [4, 4, 4]
