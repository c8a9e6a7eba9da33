"""The benchmarks in PyTorch, eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph.cli.peers.gpt2 import Start, logits, start
from nagraph.models.operations import CASES
from nagraph.models.workloads import operation


class Adapter:
    """An adapter gives the benchmarks: calls(name) is a function that does one call of it, None where there is none of that name."""

    def __init__(self, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.version: str = torch.__version__

    def calls(self, name: str) -> Callable[[], Any] | None:
        import torch
        import torch.nn.functional as F

        if name in ("gpt2_train", "gpt2_infer"):
            begin = start(dropout=0.0)
            return train(begin) if name == "gpt2_train" else infer(begin)
        if name not in CASES:
            return None
        functions: dict[str, Callable[..., Any]] = {
            "ew_chain": lambda x, a, b, c: F.gelu(x * a + b, approximate="tanh") + c,
            "softmax": lambda x: torch.softmax(x, -1),
            "layernorm": lambda x, w, b: F.layer_norm(x, w.shape, w, b),
            "sgemm": lambda a, b: a @ b,
            "conv3x3": lambda x, w: F.conv2d(x, w, padding=1),
            "sum": lambda x: x.sum(),
        }
        function, arguments = functions[CASES[name][0]], [torch.from_numpy(a) for a in operation(name).arguments]

        def call() -> Any:
            with torch.inference_mode():
                return function(*arguments).numpy()

        return call


def _logits(p: dict[str, Any], ids: Any, begin: Start) -> Any:
    import torch
    import torch.nn.functional as F

    class Own:
        norm = staticmethod(lambda x, w, b: F.layer_norm(x, w.shape, w, b))
        gelu = staticmethod(lambda x: F.gelu(x, approximate="tanh"))
        attention = staticmethod(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        split = staticmethod(lambda x: torch.chunk(x, 3, -1))

    return logits(Own, p, ids, begin.recipe)


def infer(begin: Start) -> Callable[[], Any]:
    """The logits of the batch."""
    import torch

    p = {name: torch.from_numpy(w) for name, w in begin.weights.items()}
    ids = torch.from_numpy(begin.ids[:, :-1].astype(np.int64))

    def call() -> Any:
        with torch.inference_mode():
            return _logits(p, ids, begin).numpy()

    return call


def train(begin: Start) -> Callable[[], float]:
    """One step of the recipe: forward, backward, clipping, AdamW, the average of the weights."""
    import torch
    import torch.nn.functional as F

    r = begin.recipe
    p = {name: torch.from_numpy(w.copy()).requires_grad_() for name, w in begin.weights.items()}
    average = [w.detach().clone() for w in p.values()]
    ids = torch.from_numpy(begin.ids.astype(np.int64))
    groups = [{"params": [w for w in p.values() if w.ndim >= 2], "weight_decay": r.weight_decay},
              {"params": [w for w in p.values() if w.ndim < 2], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, begin.rate(0), betas=(r.b1, r.b2), eps=1e-8, fused=True)
    done = 0

    def step() -> float:
        nonlocal done
        for group in optimiser.param_groups:
            group["lr"] = begin.rate(done)
        optimiser.zero_grad(set_to_none=True)
        scores = _logits(p, ids[:, :-1], begin)
        loss = F.cross_entropy(scores.reshape(-1, scores.shape[-1]), ids[:, 1:].reshape(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(p.values(), r.clip)
        if torch.isfinite(loss) and torch.isfinite(norm):
            optimiser.step()
            done += 1
            keep = min(r.average, (done + 1) / (done + 10))
            with torch.no_grad():
                torch._foreach_lerp_(average, list(p.values()), 1 - keep)  # type: ignore[attr-defined]
        return float(loss.detach())

    return step
