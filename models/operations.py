"""Single operations at fixed sizes: what benchmarks time beside whole models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nagraph.nn import functional as F

Array = Any

#: Functions of float32 arrays.
OPERATIONS: dict[str, Callable[..., Array]] = {
    "ew_chain": lambda x, a, b, c: F.gelu_tanh(x * a + b) + c,
    "softmax": F.softmax,
    "layernorm": F.layer_norm,
    "sgemm": lambda a, b: a @ b,
    "conv3x3": lambda x, w: F.conv(x, w, padding=1),
    "sum": lambda x: x.sum(),
}

#: Each benchmark: its operation, and the shapes of its arguments. Images are [batch, channels, height, width].
CASES: dict[str, tuple[str, tuple[tuple[int, ...], ...]]] = {
    "ew_chain_4M": ("ew_chain", ((4 << 20,),) * 4),
    "softmax_4096x1024": ("softmax", ((4096, 1024),)),
    "layernorm_4096x1024": ("layernorm", ((4096, 1024), (1024,), (1024,))),
    "sgemm_64": ("sgemm", ((64, 64),) * 2),
    "sgemm_256": ("sgemm", ((256, 256),) * 2),
    "sgemm_1024": ("sgemm", ((1024, 1024),) * 2),
    "conv3x3_32x64x32x32": ("conv3x3", ((32, 64, 32, 32), (64, 64, 3, 3))),
    "sum_16M": ("sum", ((16 << 20,),)),
}
