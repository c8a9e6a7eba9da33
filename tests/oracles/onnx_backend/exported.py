"""python -m tests.oracles.onnx_backend.exported [MODEL ...]: models as PyTorch exports them, held against ONNX Runtime.

They are of the Hugging Face zoo, tiny, with random weights. An export takes seconds, so that a cut of two is an ordinary test.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers

import nagraph as ng

#: The largest difference, as a part of the largest number, or of 1.
TOLERANCE = 1e-5


def ids(vocabulary: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, vocabulary, shape))


def image(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


class Part(torch.nn.Module):
    """One result of a model, without the cache that exports can't hold."""

    def __init__(self, model: Any, *names: str, **fixed: Any):
        super().__init__()
        self.model, self.names, self.fixed = model, names, fixed

    def forward(self, *arguments: torch.Tensor) -> Any:
        found = self.model(*arguments, **self.fixed)
        return tuple(getattr(found, name) for name in self.names)


class Encoded(torch.nn.Module):
    """An encoder and decoder on ids of both."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, decoder_ids: torch.Tensor) -> Any:
        return self.model(input_ids=ids, decoder_input_ids=decoder_ids, use_cache=False).logits


def _gpt2() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = transformers.GPT2Config(vocab_size=97, n_positions=32, n_embd=32, n_layer=2, n_head=4)
    return Part(transformers.GPT2LMHeadModel(config), "logits", use_cache=False), (ids(97, 2, 9),)


def _bert() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = transformers.BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    seen = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    return Part(transformers.BertModel(config), "last_hidden_state", "pooler_output"), (ids(97, 2, 9), seen)


def _vit() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=16,
                                    patch_size=4)
    return Part(transformers.ViTForImageClassification(config), "logits"), (image(2, 3, 16, 16),)


def _clip() -> tuple[Any, tuple[torch.Tensor, ...]]:
    text = dict(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=16,
                eos_token_id=96, bos_token_id=0, pad_token_id=1)
    vision = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4)
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    return Part(model, "logits_per_image", "text_embeds"), (ids(97, 2, 8), image(2, 3, 16, 16))


def _resnet() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], layer_type="basic")
    return Part(transformers.ResNetForImageClassification(config), "logits"), (image(2, 3, 32, 32),)


def _llama() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = transformers.LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                                      num_key_value_heads=2, max_position_embeddings=32)
    return Part(transformers.LlamaForCausalLM(config), "logits", use_cache=False), (ids(97, 2, 9),)


def _t5() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = transformers.T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    return Encoded(transformers.T5ForConditionalGeneration(config)), (ids(97, 2, 9), ids(97, 2, 5))


def _mamba() -> tuple[Any, tuple[torch.Tensor, ...]]:
    config = transformers.MambaConfig(vocab_size=97, hidden_size=32, state_size=8, num_hidden_layers=2)
    return Part(transformers.MambaForCausalLM(config), "logits", use_cache=False), (ids(97, 2, 9),)


MODELS: dict[str, Callable[[], tuple[Any, tuple[torch.Tensor, ...]]]] = {
    "gpt2": _gpt2, "bert": _bert, "vit": _vit, "clip": _clip, "resnet": _resnet, "llama": _llama, "t5": _t5, "mamba": _mamba}


def export(make: Callable[[], tuple[Any, tuple[torch.Tensor, ...]]], path: Path, open_sizes: Any = None) -> None:
    """Write the model that `make` makes with arguments; its inputs are named x0, x1, ...

    open_sizes: names of axes whose sizes it leaves open, as PyTorch takes them.
    """
    torch.manual_seed(0)
    model, arguments = make()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(model.eval(), arguments, path, dynamo=True, opset_version=20, verbose=False,
                              input_names=[f"x{i}" for i in range(len(arguments))], dynamic_shapes=open_sizes)
    finally:
        logging.disable(logging.NOTSET)


def named(arguments: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    return {f"x{i}": a.numpy() for i, a in enumerate(arguments)}


def difference(name: str, folder: Path) -> float:
    """How far the results are from those of ONNX Runtime, relative to the largest number, or to 1."""
    path, arrays = folder / f"{name}.onnx", named(MODELS[name]()[1])
    export(MODELS[name], path)
    expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, arrays)
    graph = ng.from_onnx(path)
    found = ng.compile(graph, threads=1)(*(arrays[n] for n in graph.input_names))
    return max(float(np.abs(a - b).max() / max(1, np.abs(b).max())) for a, b in zip(found, expected, strict=True))


def difference_of_sizes(name: str, folder: Path, sizes: Sequence[tuple[int, int]]) -> float:
    """As `difference`, the largest one over batches and lengths, of a language model that leaves both open; it is read once."""
    path, axes = folder / f"{name}.onnx", {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    export(lambda: (MODELS[name]()[0], (ids(97, 2, 9),)), path, ((axes,),))
    session, graph = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]), ng.from_onnx(path)
    assert len(graph.dims) == 2, "both stay open"
    run, apart = ng.compile(graph), 0.0
    for shape in sizes:
        x = ids(97, *shape).numpy()
        (found, *_), (expected, *_) = run(x), session.run(None, {"x0": x})
        apart = max(apart, float(np.abs(found - expected).max() / max(1, np.abs(expected).max())))
    return apart


def main() -> int:
    apart = []
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or MODELS:
            apart.append(difference(name, Path(folder)))
            print(f"{name}: {apart[-1]:.1e}", flush=True)
    return max(apart) > TOLERANCE


if __name__ == "__main__":
    sys.exit(main())
