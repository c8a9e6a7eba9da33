"""Random programs of nagraph.testing: a check is some of them, with sizes that are known (`known`) or not (`later`)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.testing import Undetermined, Way, check, random_program
from tests.oracles.exported import of_any_size
from tests.oracles.sampling import Compare, LeftOut

#: Programs of a check.
SIZE = 20
CHECKS = tuple(f"{first:04}-{sizes}" for first in range(0, 120, SIZE) for sizes in ("known", "later"))
CUT = ("0020-later",)


def samples(what: str, different: Any) -> Iterator[tuple[str, Compare]]:
    first, sizes = what.split("-")
    for seed in range(int(first), int(first) + SIZE):
        yield f"program {seed}", partial(_known if sizes == "known" else of_any_size, seed, different)


def _known(seed: int, different: Any) -> str | None:
    from tests.oracles.stablehlo.checks import run as under_xla

    def exported(function: Any) -> Any:
        def call(*arrays: Any) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return under_xla(ng.trace(function, *arrays), [np.asarray(a, order="C") for a in arrays], True)

        return call

    try:
        failure = check(random_program(seed=seed), [Way("XLA", exported)], derivatives=False)
    except Undetermined as why:
        raise LeftOut("rounding decides about it") from why
    return failure and f"{failure.kind}: {failure.message}"
