"""Random programs of nagraph.testing: a check is some of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import nagraph as ng
from nagraph.errors import ExportError
from nagraph.testing import Undetermined, Way, check, random_program
from tests.oracles.exported import of_any_size
from tests.oracles.sampling import Compare, LeftOut

#: Programs of a check.
SIZE = 20
CHECKS = tuple(f"{first:03}-{sizes}" for first in range(0, 240, SIZE) for sizes in ("known", "later"))
#: Programs that differ, and why.
KNOWN = {
    166: "sums of a product in float64 are added in another order than noise tells",
    205: "ONNX Runtime 1.32 takes a scale away from a product where another one reads it, and refuses what is left",
}
CUT = ("020-later",)


def samples(what: str) -> Iterator[tuple[str, Compare]]:
    first, sizes = what.split("-")
    for seed in range(int(first), int(first) + SIZE):
        yield f"program {seed}", partial(_known if sizes == "known" else _later, seed)


def _later(seed: int) -> str | None:
    from tests.oracles.onnx_export.checks import different

    if seed in KNOWN:
        raise LeftOut(KNOWN[seed])
    return of_any_size(seed, different)


def _known(seed: int) -> str | None:
    if seed in KNOWN:
        raise LeftOut(KNOWN[seed])
    try:
        failure = check(random_program(seed=seed), [WAY], derivatives=False)
    except Undetermined as why:
        raise LeftOut("rounding decides about it") from why
    if failure is not None and failure.kind == ExportError.__name__:
        raise LeftOut("an op of it is refused")
    return failure and f"{failure.kind}: {failure.message}"


def _exported(function: Any) -> Any:
    from tests.oracles.onnx_export.checks import written

    def call(*arrays: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return written(ng.trace(function, *arrays), arrays)

    return call


WAY = Way("ONNX Runtime", _exported)
