"""What kernels with products take of GPUs, as NVRTC compiles them: registers, spills, shared memory, occupancy; and who computes them.

    python tests/benchmarks/gpu_products.py                 all kernels, for sm_80, sm_90 and sm_100
    python tests/benchmarks/gpu_products.py sm_90 attention

No time is measured: it runs on machines without a GPU.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import nagraph as ng
from nagraph import backends
from nagraph.backends.cuda import nvrtc
from nagraph.backends.cuda.driver import Function
from nagraph.backends.cuda.resources import Resources
from nagraph.backends.gpu.dialect import CUDA
from nagraph.backends.gpu.emit import emit
from nagraph.backends.gpu.products.block_form import block_form
from nagraph.backends.gpu.products.choose import choose
from nagraph.backends.gpu.products.library import chosen
from nagraph.backends.gpu.target import gpu_target
from nagraph.kernel.form import Kernel
from nagraph.nn import functional as F
from nagraph.ops.convolution import conv
from nagraph.pipeline import Pipeline
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.program.lowering import lower

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


def spec(*shape: int, dtype: str = "float32") -> Any:
    return ng.spec(shape, dtype)


def attention_gradient(q: Any, k: Any, v: Any) -> Any:
    return ng.grad(lambda q, k, v: (F.attention(q, k, v, causal=True) ** 2).sum(), argnums=(0, 1, 2))(q, k, v)


def linear(x: Any, w: Any, b: Any) -> Any:
    return F.gelu(x @ w + b)


def with_norm(x: Any, w: Any, b: Any, r: Any, scale: Any, shift: Any) -> Any:
    return F.layer_norm(r + (x @ w + b), scale, shift)


#: GPT-2's shapes at a batch of eight sequences of 1024, and a convolution of ResNet.
PROGRAMS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "product": (np.matmul, (spec(8192, 768), spec(768, 768))),
    "product, float64": (np.matmul, (spec(1024, 512, dtype="float64"), spec(512, 1024, dtype="float64"))),
    "linear and gelu": (linear, (spec(8192, 768), spec(768, 3072), spec(3072))),
    "linear and gelu, bfloat16": (linear, tuple(spec(*s, dtype="bfloat16") for s in ((8192, 768), (768, 3072), (3072,)))),
    "linear, residual, norm": (with_norm, (spec(8192, 3072), spec(3072, 768), spec(768), spec(8192, 768), spec(768), spec(768))),
    "attention": (lambda q, k, v: F.attention(q, k, v, causal=True), (spec(8, 12, 1024, 64),) * 3),
    "attention, bfloat16": (lambda q, k, v: F.attention(q, k, v, causal=True), (spec(8, 12, 1024, 64, dtype="bfloat16"),) * 3),
    "attention's gradient": (attention_gradient, (spec(8, 12, 1024, 64),) * 3),
    "convolution": (lambda x, w: F.relu(conv(x, w, padding=1)), (spec(64, 64, 32, 32), spec(64, 64, 3, 3))),
}


def kernels(name: str) -> list[Kernel]:
    """The kernels with products of a program."""
    function, operands = PROGRAMS[name]
    found: list[Any] = []
    planner, plan = kernel_plan(Pipeline.parse(backends.find("llvm").pipeline)(ng.trace(function, *operands)), {})
    lower(planner, plan, lambda work: found.append(work))
    return [k for k in found if isinstance(k, Kernel) and block_form(k) is not None]


def main(words: list[str]) -> int:
    """Prints the table; the number of kernels that spill."""
    names = [n for n in PROGRAMS if all(w in n for w in words if w not in ARCHITECTURES)]
    spilling = 0
    for name in names:
        for kernel in kernels(name):
            print(f"{name}: {chosen(kernel, gpu_target('sm_90')).reason}")  # type: ignore[union-attr]
            for architecture in [a for a in ARCHITECTURES if a in words] or ARCHITECTURES:
                target = gpu_target(architecture)
                schedule, function = choose(kernel, target), emit(kernel, target, CUDA)
                (built,) = nvrtc.built([function], architecture)
                taken = Resources.of(Function.of(function, built), 1, architecture)
                said = str(schedule).splitlines()[1].strip().removeprefix("block: ") if schedule is not None else "by points"
                print(f"  {architecture:7}{said}: {taken.blocks} blocks, {taken.registers} registers, {taken.spilled_nbytes} bytes spilled,"
                      f" {taken.shared_nbytes:,} bytes shared, occupancy {taken.occupancy:.0%}", flush=True)
                spilling += built.spilled_nbytes > 0
    return spilling


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
