"""Running: what was written is parsed, compiled and run by XLA, through jaxlib; JAX moves arrays. No device but the CPU is asked."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph.errors import ExportError

Array = np.ndarray[Any, Any]
#: XLA's freedom to leave out roundings to 16 bits is not taken: what is compared is what the text says. One run is not worth optimising.
_OPTIONS = [("xla_allow_excess_precision", "False"), ("xla_backend_optimization_level", "0"), ("xla_llvm_disable_expensive_passes", "True")]


def installed() -> bool:
    """Whether JAX is there, and with it jaxlib."""
    return all(importlib.util.find_spec(name) is not None for name in ("jax", "jaxlib"))


def version() -> str:
    import jaxlib

    return str(jaxlib.__version__)


@functools.cache
def _client() -> Any:
    from jaxlib import xla_client

    return xla_client.make_cpu_client()


def run(module: str | bytes, arrays: Sequence[Array]) -> list[Array]:
    """The results of a module's `main`. Raises what jaxlib raises."""
    import jax
    from jaxlib import xla_client

    client, options = _client(), xla_client.CompileOptions()
    options.env_option_overrides = _OPTIONS
    device = client.devices()[0]
    executable = client.compile_and_load(module, xla_client.DeviceList((device,)), options)
    with jax.enable_x64(True):
        given = [jax.device_put(a, device) for a in arrays]
    results = executable.execute_sharded(given).disassemble_into_single_device_arrays()
    return [np.asarray(shards[0]) for shards in results]


def read(artifact: bytes) -> bytes:
    """The module that a portable artifact holds, as this version of jaxlib has it."""
    from jaxlib.mlir.dialects import stablehlo

    return bytes(stablehlo.deserialize_portable_artifact_str(artifact))


def refined(text: str) -> bytes:
    """A module whose `main` has known sizes, with all other sizes found from these."""
    from jaxlib import xla_client
    from jaxlib.mlir.dialects import stablehlo

    module = read(stablehlo.serialize_portable_artifact_str(text, stablehlo.get_current_version()))
    return bytes(xla_client._xla.mlir.refine_polymorphic_shapes(module, True, True))


def bytecode(text: str) -> bytes:
    """The module as a portable artifact: of the version that software of the last twelve weeks reads."""
    if not installed():
        raise ExportError("portable bytecode is made by jaxlib, which is not installed: pip install 'nagraph[stablehlo]'")
    from jaxlib.mlir.dialects import stablehlo

    version = stablehlo.get_version_from_compatibility_requirement(stablehlo.StablehloCompatibilityRequirement.WEEK_12)
    try:
        return bytes(stablehlo.serialize_portable_artifact_str(text, version))
    except Exception as error:
        raise ExportError(f"StableHLO {version} does not hold what was written: {str(error)[:2000]}") from None
