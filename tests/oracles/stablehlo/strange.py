"""The functions that the oracle of ONNX asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles.onnx_export.functions import FUNCTIONS
from tests.oracles.sampling import Compare
from tests.oracles.stablehlo import functions

CHECKS = tuple(name for name in FUNCTIONS if name not in functions.FUNCTIONS)
CUT = CHECKS[::8]


def samples(what: str, different: Any) -> Iterator[tuple[str, Compare]]:
    return functions.asked(what, FUNCTIONS[what], different)
