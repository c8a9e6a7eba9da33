"""The oracles by name, each loaded when it is asked."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from tests.oracles.record import Oracle, Outcome


def _torch() -> Oracle:
    from tests.oracles.torch_database.checks import TorchDatabase

    return TorchDatabase()


def _jax() -> Oracle:
    from tests.oracles.jax_derivatives.checks import JaxDerivatives

    return JaxDerivatives()


def _array_api() -> Oracle:
    from tests.oracles.array_api.checks import ArrayApi

    return ArrayApi()


def _onnx() -> Oracle:
    from tests.oracles.onnx_backend.checks import OnnxBackend

    return OnnxBackend()


def _stablehlo() -> Oracle:
    from tests.oracles.stablehlo.checks import StableHlo

    return StableHlo()


def _onnx_export() -> Oracle:
    from tests.oracles.onnx_export.checks import OnnxExport

    return OnnxExport()


ORACLES: dict[str, Callable[[], Oracle]] = {
    "torch": _torch, "jax": _jax, "array-api": _array_api, "onnx": _onnx, "onnx-export": _onnx_export,
    "stablehlo": _stablehlo,
}


@functools.cache
def oracle_of(name: str) -> Oracle:
    """The oracle of this process."""
    return ORACLES[name]()


def ask(name: str, entry: str, what: str, cut: bool) -> tuple[Outcome, float]:
    """The outcome of a check, and how many seconds it took."""
    start = time.perf_counter()
    return oracle_of(name).check(entry, what, cut=cut), time.perf_counter() - start
