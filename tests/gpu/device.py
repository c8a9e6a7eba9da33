"""Checks of the CUDA backend on a device. `tests/gpu/run.sh` runs them; they end with 77 where there is no device.

    python -m tests.gpu.device suite     ops in all their dtypes, sizes, orders of storage, models' train steps, against NumPy and LLVM
    python -m tests.gpu.device replay    train steps replayed from a graph and launched one by one: the same bits
    python -m tests.gpu.device sample    some kernels of every kind, for compute-sanitizer
    python -m tests.gpu.device cpu       train steps of all models by the whole backend, their CUDA text run on this CPU, in two minutes
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import os
import random
import sys
import time
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("NAGRAPH_STRICT", "1")

import nagraph as ng  # noqa: E402
from nagraph.backends.cuda import resident  # noqa: E402
from nagraph.errors import MissingRuleError  # noqa: E402
from nagraph.models.training import Run  # noqa: E402
from nagraph.nn import functional as F  # noqa: E402
from nagraph.storage import named_leaves  # noqa: E402
from tests.gpu.cases import Case, model_cases, op_cases, order_cases, size_cases  # noqa: E402
from tests.gpu.compare import compare  # noqa: E402

#: Seconds after which no more cases are begun, and compilers that work side by side.
MOST_SECONDS, COMPILERS = 95.0, max(4, os.cpu_count() or 1)
NO_DEVICE = 77


def suite(backend: str = "cuda", seconds: float = MOST_SECONDS, cases: list[Case] | None = None) -> list[str]:
    """What is wrong, in words. Cases come in an order at random, so that those which time leaves out are of no one kind."""
    began = time.monotonic()
    if cases is None:
        cases = [*model_cases(), *random.Random(0).sample(found := [*op_cases(), *order_cases(), *size_cases()], len(found))]
    wrong, left_out, done = [], collections.Counter[str](), 0

    def made(case: Case) -> Any:
        return ng.compile(case.graph, backend=backend) if time.monotonic() - began < seconds else None

    with concurrent.futures.ThreadPoolExecutor(COMPILERS) as pool:
        for case, future in [(c, pool.submit(made, c)) for c in cases]:
            try:
                executable = future.result()
                if executable is None:
                    left_out["no time was left"] += 1
                    continue
                arrays = ng.device_put(case.operands, backend)
                for _ in range(3):  # launched one by one, captured, replayed
                    found = ng.to_numpy(executable(*arrays))
                    if told := (step_apart if case.name.startswith("train ") else compare)(case, found):
                        wrong.append(f"{case.name}: {told}")
                        break
                done += 1
            except MissingRuleError as error:
                left_out[str(error).partition(";")[0][:80]] += 1
            except Exception as error:  # noqa: BLE001 - whatever stops it is a fault
                wrong.append(f"{case.name}: {type(error).__name__}: {str(error)[:300]}")
    print(f"{done} of {len(cases)} cases ran in {time.monotonic() - began:.0f} s, {len(wrong)} wrong")
    print("\n".join([*(f"left out: {n} ({why})" for why, n in left_out.items()), *wrong[:40]]))
    return wrong


def step_apart(case: Case, found: tuple[Any, ...]) -> str:
    """What is wrong with a training step, in words.

    Nine of ten results are to be as the LLVM backend's, within a thousandth of their largest element. Some are not: a gradient that is zero
    but for rounding, as that of a bias of keys, has Adam make steps of what rounding left.
    """
    wrong = []
    wanted = ng.compile(case.graph)(*case.operands)
    for j, (got, want) in enumerate(zip(found, wanted, strict=True)):
        if (got.dtype, got.shape) != (want.dtype, want.shape):
            return f"output {j} is {got.dtype}{list(got.shape)} in place of {want.dtype}{list(want.shape)}"
        a, b = got.astype(np.float64), want.astype(np.float64)
        off, scale = np.abs(a - b).max(initial=0.0), np.abs(b).max(initial=0.0)
        if not np.isfinite(a).all() or off > 1e-3 * scale:
            wrong.append(f"output {j} is off by {off:.3g} of {scale:.3g}")
    return "" if len(wrong) <= len(wanted) / 10 else f"{len(wrong)} of {len(wanted)}: {', '.join(wrong[:5])}"


def replay(backend: str = "cuda", steps: int = 12) -> list[str]:
    """What differs between training from graphs and launch by launch, in words."""
    from tests.models.test_training import task

    states, is_known = [], resident._is_known
    for graphs in (True, False):
        resident._is_known = is_known if graphs else lambda key, seen: False  # type: ignore[assignment]
        run = Run(task(), backend)
        for _ in range(steps):
            run.advance()
        states.append(named_leaves(ng.to_numpy(run.state)))
        run.close()
    resident._is_known = is_known  # type: ignore[assignment]
    one, other = states
    wrong = [name for name in one if one[name].tobytes() != other[name].tobytes()]
    print(f"{steps} steps of GPT-2, {len(one)} arrays of its state: {len(wrong)} differ in a bit")
    return wrong


def sample(backend: str = "cuda") -> list[str]:
    """Kernels of every kind, three calls each; sanitizers look on."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 2, 40, 16)).astype(np.float32) for _ in range(3))
    x, w, labels = rng.normal(size=(33, 70)).astype(np.float32), rng.normal(size=(70, 20)).astype(np.float32), rng.integers(0, 20, 33)

    def loss(w: Any) -> Any:
        return F.cross_entropy(np.tanh(x @ w), labels).mean()

    runs = {
        "attention": lambda: ng.jit(ng.grad(lambda q: (F.attention(q, k, v, causal=True) ** 2).sum()), backend=backend)(q),
        "loss": lambda: ng.jit(ng.value_and_grad(loss), backend=backend)(w),
        "sort": lambda: ng.jit(lambda x: (np.sort(x, axis=1), np.argsort(x, axis=0)), backend=backend)(x),
        "scan": lambda: ng.jit(lambda x: ng.scan(lambda c, r: (np.tanh(c + r), c.sum()), x[0] * 0, x), backend=backend)(x),
        "gather": lambda: ng.jit(ng.grad(lambda x, i: (x[i] ** 2).sum()), backend=backend)(x, labels),
        "norm": lambda: ng.jit(lambda x: F.softmax(F.layer_norm(x, x[0], x[1])), backend=backend)(x),
        "half": lambda: ng.jit(lambda x, w: (x @ w).astype("f4").sum(0), backend=backend)(x.astype("f2"), w.astype("f2")),
    }
    for name, run in runs.items():
        for _ in range(3):
            found = ng.to_numpy(run())
        print(name, [a.shape for a in ng.tree.leaves(found)])
    return []


def on_cpu() -> list[str]:
    """What is wrong with the models' train steps where the device is this CPU, and with the graphs that replay them."""
    from tests.backends.cuda.conftest import usable_as
    from tests.backends.cuda.lazy_device import LazyBackend
    from tests.backends.cuda.on_cpu import OnCpuDriver

    wrong = []
    with pytest.MonkeyPatch.context() as patch:
        usable_as(patch, LazyBackend(OnCpuDriver()))
        for case in model_cases():
            executable, arrays = ng.compile(case.graph, backend="lazy"), ng.device_put(case.operands, "lazy")
            first, replayed = (ng.to_numpy(executable(*arrays)) for _ in range(2))
            told = step_apart(case, first) or ", ".join(f"output {j} is another when replayed" for j, (a, b) in enumerate(
                zip(first, replayed, strict=True)) if a.tobytes() != b.tobytes())
            print(f"{case.name}: {told or 'as the LLVM backend has it, and replayed bit for bit'}", flush=True)
            wrong += [told] if told else []
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("suite", "replay", "sample", "cpu"))
    given = parser.parse_args()
    if given.what == "cpu":
        return 1 if on_cpu() else 0
    if missing := ng.backends.find("cuda").missing():
        print(missing)
        return NO_DEVICE
    return 1 if {"suite": suite, "replay": replay, "sample": sample}[given.what]() else 0


if __name__ == "__main__":
    sys.exit(main())
