"""ONNX's node tests through `ng.from_onnx`, on a backend. Each case is a sample: its model imported, compiled, run, compared."""

from __future__ import annotations

import re
import tomllib
import zlib
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import nagraph as ng
from nagraph.errors import OnnxError
from nagraph.onnx.dtypes import FORMAT_OF
from tests.oracles.onnx_backend.cases import cases
from tests.oracles.record import Outcome, skips
from tests.oracles.sampling import LeftOut, compared, problem_of

BACKENDS = ("numpy", "llvm")
#: Cases of an operator that the cut asks on each backend.
CUT = 2
_GIVE = re.compile(r"values=\{(.*)\}")


@cache
def refused() -> dict[str, str]:
    """The reason of each case that is refused, or differs."""
    found = tomllib.loads((Path(__file__).parent / "refused.toml").read_text())
    return {name: reason for reason, names in found.items() for name in names}


class OnnxBackend:
    """The node tests of the ONNX project."""

    name = "onnx"

    def cases(self) -> list[tuple[str, str]]:
        return [(operator, backend) for operator in cases() if operator not in skips(self.name)[0] for backend in BACKENDS]

    def cut(self) -> list[tuple[str, str]]:
        return self.cases()

    def check(self, entry: str, what: str, *, cut: bool = False, first_fault: bool = False) -> Outcome:
        reasons, named = refused(), cases()[entry]
        taken = sorted(named, key=lambda n: zlib.crc32(f"{n} {what}".encode()))[:CUT] if cut else named

        def asked(name: str) -> str | None:
            problem = problem_of(lambda: run(named[name], what))
            if name not in reasons:
                return problem
            if problem is not None:
                raise LeftOut(reasons[name])
            return f"agrees; remove it from refused.toml ({reasons[name]})"

        return compared(((f"{name} on {what}", partial(asked, name)) for name in taken), first_fault)


def run(case: Any, backend: str, folder: Path | None = None) -> str | None:
    """What is wrong with the results of a case; None if nothing is. OnnxError where the model is refused."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.onnx"
        onnx.save(case.model, path)
        for inputs, expected in case.data_sets:
            arrays = dict(zip((i.name for i in case.model.graph.input), map(carried, inputs), strict=True))
            graph = imported(path, arrays)
            found = ng.compile(graph, backend=backend, threads=1)(*(arrays[name] for name in graph.input_names))
            problem = next(filter(None, (different(a, b, case) for a, b in zip(found, expected, strict=True))), None)
            if problem:
                return problem
    return None


def imported(path: Path, arrays: dict[str, Any]) -> Any:
    """The graph for arrays. Where the error asks for the numbers of inputs, they are given: as a user would."""
    values: dict[str, Any] = {}
    while True:
        types = {name: array for name, array in arrays.items() if name not in values and isinstance(array, np.ndarray)}
        try:
            return ng.from_onnx(path, types=types, values=values)
        except OnnxError as error:
            asked = _GIVE.search(str(error))
            names = [n for n in re.findall(r"'([^']*)': \.\.\.", asked[1])] if asked else []
            if not names or all(n in values for n in names):
                raise
            values |= {n: arrays[n] for n in names}


def carried(x: Any) -> Any:
    """An array as a graph has it: what graphs have no dtype for is in the dtype that carries it."""
    array = onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x
    for f in FORMAT_OF.values():
        if isinstance(array, np.ndarray) and array.dtype == f.element:
            return array.astype(f.carrier)
    return np.asarray(array) if isinstance(array, np.generic) else array


def different(found: Any, expected: Any, case: Any) -> str | None:
    """What is different, by the tolerances of the ONNX project: 1e-3 of each number."""
    array = onnx.numpy_helper.to_array(expected) if isinstance(expected, onnx.TensorProto) else np.asarray(expected)
    wanted = carried(array)
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"is {found.dtype}{list(found.shape)}, expected {wanted.dtype}{list(wanted.shape)}"
    exact = wanted.dtype.kind in "iub" or array.dtype != wanted.dtype
    left, right = (a.astype(np.float64) if a.dtype.kind in "fV" else a for a in (found, wanted))
    near = np.array_equal(left, right, equal_nan=True) if exact and left.dtype.kind == "f" else (
        np.array_equal(left, right) if exact else
        np.allclose(left, right, max(case.rtol, 2**-6 if wanted.dtype.itemsize == 2 and wanted.dtype.kind == "V" else 0), case.atol,
                    equal_nan=True))
    return None if near else f"is {found.ravel()[:8]}, expected {wanted.ravel()[:8]}"
