"""Published models at their true sizes, with random weights: Hugging Face's in PyTorch saves a folder, the one here loads it.

    python tests/benchmarks/true_sizes.py                    # all of them
    python tests/benchmarks/true_sizes.py bert-base --threads 2

A row says how far the outputs of a small batch are apart, as a share of the largest output (or of 1), how long loading takes,
and the median time of a forward pass of both after the first. A difference above 1e-5 is a failure. Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import gc
import json
import pathlib
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
from nagraph.models.gpt2 import GPT2
from nagraph.models.llama import Llama, LlamaConfig
from nagraph.models.resnet import ResNet
from nagraph.models.vit import ViT
from nagraph.storage import write_safetensors

LIMIT = 1e-5
Inputs = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Case:
    """A published model.

    theirs: the names of Hugging Face's class and of its configuration's, whose defaults, with `options`, are the true sizes.
    inputs: a small batch, under the names that their call has. output: what to take of theirs; call: the same of ours.
    write: writes the folder instead of them, where it is large.
    """

    theirs: tuple[str, str]
    ours: Any
    inputs: Callable[[np.random.Generator], Inputs]
    output: str
    call: Callable[[Any, Inputs], Any]
    options: tuple[tuple[str, Any], ...] = ()
    write: Callable[[pathlib.Path], None] | None = None


def texts(count: int, time: int, vocabulary: int) -> Callable[[np.random.Generator], Inputs]:
    """Ids and masks of texts of several lengths, padded to the longest."""
    def draw(rng: np.random.Generator) -> Inputs:
        lengths = np.linspace(time, time // 2, count).astype(int)[:, None]
        return {"input_ids": rng.integers(0, vocabulary, (count, time)), "attention_mask": (np.arange(time) < lengths).astype(np.int64)}

    return draw


def tokens(count: int, time: int, vocabulary: int) -> Callable[[np.random.Generator], Inputs]:
    return lambda rng: {"input_ids": rng.integers(0, vocabulary, (count, time))}


def images(count: int, size: int) -> Callable[[np.random.Generator], Inputs]:
    return lambda rng: {"pixel_values": rng.normal(size=(count, 3, size, size)).astype(np.float32)}


def both(rng: np.random.Generator) -> Inputs:
    """Images, and texts that end with CLIP's last id."""
    found = images(2, 224)(rng) | texts(2, 77, 49406)(rng)
    ends = found["attention_mask"].sum(axis=1) - 1
    found["input_ids"][np.arange(2), ends] = 49407
    return found


def write_llama(folder: pathlib.Path) -> None:
    """A folder of TinyLlama's sizes with random weights, a shard for each layer, so that one layer at a time is in memory."""
    c, rng, where = LlamaConfig(), np.random.default_rng(0), {}
    w, m, kv = c.width, c.inner, c.shared * c.d
    layer = {"self_attn.q_proj": (w, w), "self_attn.k_proj": (kv, w), "self_attn.v_proj": (kv, w), "self_attn.o_proj": (w, w),
             "mlp.gate_proj": (m, w), "mlp.up_proj": (m, w), "mlp.down_proj": (w, m), "input_layernorm": (w,),
             "post_attention_layernorm": (w,)}
    shards: list[dict[str, tuple[int, ...]]] = [{"model.embed_tokens": (c.vocabulary, w)},
                                                {"lm_head": (c.vocabulary, w), "model.norm": (w,)}]
    shards += [{f"model.layers.{i}.{name}": shape for name, shape in layer.items()} for i in range(c.layers)]

    def weight(shape: tuple[int, ...]) -> Any:
        x = rng.standard_normal(shape, np.float32)
        return x * np.float32(0.02) if len(shape) > 1 else x * np.float32(0.1) + np.float32(1)  # norms are about 1

    for i, shapes in enumerate(shards):
        drawn = {f"{name}.weight": weight(shape) for name, shape in shapes.items()}
        write_safetensors(folder / f"{i}.safetensors", drawn, {"format": "pt"})
        where |= {f"{name}.weight": f"{i}.safetensors" for name in shapes}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": c.vocabulary, "max_position_embeddings": c.context,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.groups, "hidden_size": w,
        "intermediate_size": m, "rms_norm_eps": c.eps, "tie_word_embeddings": False, "dtype": "float32"}))


CASES = {
    "bert-base": Case(("BertModel", "BertConfig"), BERT, texts(2, 128, 30522), "pooler_output",
                      lambda m, x: m.pooled(m(x["input_ids"], mask=x["attention_mask"]))),
    "bert-base-tokens": Case(("BertForMaskedLM", "BertConfig"), BERT, texts(2, 64, 30522), "logits",
                             lambda m, x: m.token_scores(m(x["input_ids"], mask=x["attention_mask"]))),
    "vit-b16": Case(("ViTForImageClassification", "ViTConfig"), ViT, images(2, 224), "logits", lambda m, x: m(x["pixel_values"]),
                    (("num_labels", 1000),)),
    "clip-vit-b32": Case(("CLIPModel", "CLIPConfig"), CLIP, both, "logits_per_image",
                         lambda m, x: m(x["pixel_values"], x["input_ids"], x["attention_mask"])),
    "gpt2-124m": Case(("GPT2LMHeadModel", "GPT2Config"), GPT2, tokens(2, 128, 50257), "logits", lambda m, x: m(x["input_ids"])),
    "resnet-50": Case(("ResNetForImageClassification", "ResNetConfig"), ResNet, images(2, 224), "logits", lambda m, x: m(x["pixel_values"]),
                      (("num_labels", 1000),)),
    "llama-1.1b": Case(("LlamaForCausalLM", "LlamaConfig"), Llama, tokens(1, 64, 32000), "logits",
                       lambda m, x: m(x["input_ids"]), write=write_llama),
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


def save(model: Any, folder: str) -> None:
    """Save a model of theirs, its norms, biases and statistics moved away from 1 and 0, so that each of them counts."""
    import torch

    with torch.no_grad():
        for x in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            if x.ndim == 1:
                x.add_(0.1 * torch.rand_like(x))  # upwards: variances stay above 0
    model.save_pretrained(folder)


def measure(name: str, case: Case, threads: int, repeats: int) -> bool:
    """Print a case's row; whether the outputs agree."""
    import torch
    import transformers

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model_class, config_class = (getattr(transformers, n) for n in case.theirs)
    inputs = case.inputs(np.random.default_rng(0))
    tensors = {n: torch.tensor(x) for n, x in inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        if case.write is not None:
            case.write(pathlib.Path(folder))
        else:
            save(model_class(config_class(**dict(case.options))), folder)
        gc.collect()  # the model that was saved
        start = time.perf_counter()
        theirs = model_class.from_pretrained(folder).eval()
        their_load = time.perf_counter() - start

        def their_forward() -> Any:
            with torch.inference_mode():
                return getattr(theirs(**tensors), case.output)

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
