"""The oracles by name, each loaded when it is asked."""

from __future__ import annotations

from collections.abc import Callable

from tests.oracles.record import Oracle


def _torch() -> Oracle:
    from tests.oracles.torch_database.checks import TorchDatabase

    return TorchDatabase()


def _jax() -> Oracle:
    from tests.oracles.jax_derivatives.checks import JaxDerivatives

    return JaxDerivatives()


def _array_api() -> Oracle:
    from tests.oracles.array_api.checks import ArrayApi

    return ArrayApi()


ORACLES: dict[str, Callable[[], Oracle]] = {"torch": _torch, "jax": _jax, "array-api": _array_api}
