"""Published models at their true sizes, with random weights: Hugging Face's in PyTorch saves a folder, the one here loads it.

    python tests/benchmarks/true_sizes.py                    # all of them
    python tests/benchmarks/true_sizes.py bert-base --threads 2

A row says how far the outputs of a small batch are apart, as a share of the largest output (or of 1), how long loading takes,
and the median time of a forward pass of both after the first. A difference above 1e-5 is a failure. Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.models.bert import BERT
from nagraph.models.clip import CLIP
from nagraph.models.vit import ViT

LIMIT = 1e-5
Inputs = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """A published model.

    theirs: the names of Hugging Face's class and of its configuration's, whose defaults, with `options`, are the true sizes.
    inputs: a small batch, under the names that their call has. output: what to take of theirs; call: the same of ours.
    """

    theirs: tuple[str, str]
    ours: Any
    inputs: Callable[[np.random.Generator], Inputs]
    output: str
    call: Callable[[Any, Inputs], Any]
    options: tuple[tuple[str, Any], ...] = ()


def texts(count: int, time: int, vocabulary: int) -> Callable[[np.random.Generator], Inputs]:
    """Ids and masks of texts of several lengths, padded to the longest."""
    def draw(rng: np.random.Generator) -> Inputs:
        lengths = np.linspace(time, time // 2, count).astype(int)[:, None]
        return {"input_ids": rng.integers(0, vocabulary, (count, time)), "attention_mask": (np.arange(time) < lengths).astype(np.int64)}

    return draw


def images(count: int, size: int) -> Callable[[np.random.Generator], Inputs]:
    return lambda rng: {"pixel_values": rng.normal(size=(count, 3, size, size)).astype(np.float32)}


def both(rng: np.random.Generator) -> Inputs:
    """Images, and texts that end with CLIP's last id."""
    found = images(2, 224)(rng) | texts(2, 77, 49406)(rng)
    ends = found["attention_mask"].sum(axis=1) - 1
    found["input_ids"][np.arange(2), ends] = 49407
    return found


CASES = {
    "bert-base": Case(("BertModel", "BertConfig"), BERT, texts(2, 128, 30522), "pooler_output",
                      lambda m, x: m.pooled(m(x["input_ids"], mask=x["attention_mask"]))),
    "bert-base-tokens": Case(("BertForMaskedLM", "BertConfig"), BERT, texts(2, 64, 30522), "logits",
                             lambda m, x: m.token_scores(m(x["input_ids"], mask=x["attention_mask"]))),
    "vit-b16": Case(("ViTForImageClassification", "ViTConfig"), ViT, images(2, 224), "logits", lambda m, x: m(x["pixel_values"]),
                    (("num_labels", 1000),)),
    "clip-vit-b32": Case(("CLIPModel", "CLIPConfig"), CLIP, both, "logits_per_image",
                         lambda m, x: m(x["pixel_values"], x["input_ids"], x["attention_mask"])),
}


def median_time(run: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(name: str, case: Case, threads: int, repeats: int) -> bool:
    """Print a case's row; whether the outputs agree."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model_class, config_class = (getattr(transformers, n) for n in case.theirs)
    theirs = model_class(config_class(**dict(case.options))).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))  # norms and biases away from 1 and 0, so that each of them counts
    inputs = case.inputs(np.random.default_rng(0))
    tensors = {n: torch.tensor(x) for n, x in inputs.items()}

    def their_forward() -> Any:
        with torch.inference_mode():
            return getattr(theirs(**tensors), case.output)

    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        start = time.perf_counter()
        model_class.from_pretrained(folder)
        their_load = time.perf_counter() - start
        start = time.perf_counter()
        ours = case.ours.from_pretrained(folder)
        load = time.perf_counter() - start
        run = ng.jit(case.call, threads=threads)
        start = time.perf_counter()
        found = np.asarray(run(ours, inputs))
        first = time.perf_counter() - start
        expected = their_forward().numpy()
        error = float(np.abs(found - expected).max() / max(1, np.abs(expected).max()))
        forward, their_time = median_time(lambda: run(ours, inputs), repeats), median_time(their_forward, repeats)
    print(f"{name:<18}{ours.parameter_count / 1e6:>8.1f} M{error:>10.1e}{load:>9.2f} s{their_load:>9.2f} s{first:>9.2f} s"
          f"{1000 * forward:>9.0f} ms{1000 * their_time:>9.0f} ms", flush=True)
    return error <= LIMIT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all where none is named")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    names = given.cases or [*CASES]
    if unknown := set(names) - set(CASES):
        parser.error(f"no case is called {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    print(f"{'model':<18}{'parameters':>10}{'error':>10}{'load':>11}{'theirs':>11}{'first':>11}{'forward':>12}{'theirs':>12}")
    good = [measure(name, CASES[name], given.threads, given.repeats) for name in names]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
