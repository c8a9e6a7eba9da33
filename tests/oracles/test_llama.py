"""Llama beside Hugging Face's in PyTorch: logits, gradients, and the curve of losses over 50 steps."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

import nagraph as ng
from nagraph.models.language_model import next_token_loss
from nagraph.models.llama import Llama

torch.set_num_threads(1)

SMALL = dict(vocab_size=61, max_position_embeddings=40, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=6,
             num_key_value_heads=2, bos_token_id=None, eos_token_id=None)
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {}, "tied": {"tie_word_embeddings": True, "num_key_value_heads": None},
    "wide heads": {"head_dim": 10, "num_key_value_heads": 1, "rms_norm_eps": 1e-3,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 300.0}},
}
#: A layer's parts in Hugging Face's model and in this one.
PARTS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm", "self_attn.q_proj": "attention.query",
         "self_attn.k_proj": "attention.key", "self_attn.v_proj": "attention.value", "self_attn.o_proj": "attention.output",
         "mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down"}
NAMES = {"model.embed_tokens.weight": "token.table", "model.norm.weight": "norm.weight", "lm_head.weight": "head.weight",
         **{f"model.layers.{i}.{a}.weight": f"blocks.{i}.{b}.weight" for i in range(2) for a, b in PARTS.items()}}


def randomised(options: dict[str, Any], kind: Any = LlamaForCausalLM) -> Any:
    """Norms away from 1, and matrices large enough that each of them counts."""
    torch.manual_seed(1)
    model = kind(LlamaConfig(**{**SMALL, **options}))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


def texts(steps: int = 1, time: int = 32) -> Iterator[np.ndarray]:
    """Sequences in which each symbol follows from the one before, so that there is something to learn."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        yield (rng.integers(0, 61, (3, 1)) + 7 * np.arange(time)) % 61


def their_loss(logits: torch.Tensor, ids: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(ids[:, 1:]).flatten())


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_gradients(variant: str, tmp_path: pathlib.Path) -> None:
    theirs = randomised(VARIANTS[variant])
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = Llama.from_pretrained(tmp_path)
    ids = next(texts())
    logits = theirs(torch.tensor(ids)).logits
    expected = logits.detach().numpy()
    assert expected.std() > 0.1
    found = ng.jit(lambda model, ids: model(ids))(ours, ids)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))

    loss = their_loss(logits, ids)
    loss.backward()
    our_loss, grads = ng.jit(ng.value_and_grad(next_token_loss))(ours, ids)
    np.testing.assert_allclose(our_loss, loss.item(), rtol=1e-5)
    gradients = grads.named_arrays()
    there = {NAMES[n]: p.grad.numpy() for n, p in theirs.named_parameters()}
    assert there.keys() == gradients.keys() and ("head.weight" in there) == (variant != "tied")
    for path, wanted in there.items():
        np.testing.assert_allclose(gradients[path], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max(), err_msg=path)


def test_the_model_without_a_head(tmp_path: pathlib.Path) -> None:
    """LlamaModel is saved without the prefix `model.`; what comes out is the last norm's result."""
    theirs = randomised({}, LlamaModel)
    theirs.save_pretrained(tmp_path)
    ours = Llama.from_pretrained(tmp_path)
    ids = next(texts(time=9))
    expected = theirs(torch.tensor(ids)).last_hidden_state.detach().numpy()
    assert ours.config.head == "none"
    np.testing.assert_allclose(ng.jit(lambda m, x: m(x))(ours, ids), expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def test_configurations_as_they_were_written_before(tmp_path: pathlib.Path) -> None:
    """rope_theta beside the other sizes, no head_dim, and a checkpoint in bfloat16."""
    randomised({}).to(torch.bfloat16).save_pretrained(tmp_path)
    facts = json.loads((tmp_path / "config.json").read_text())
    del facts["rope_parameters"], facts["head_dim"]
    (tmp_path / "config.json").write_text(json.dumps({**facts, "rope_theta": 77.0, "rope_scaling": None}))
    ids = next(texts())
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert theirs.config.rope_parameters["rope_theta"] == 77
    expected = theirs(torch.tensor(ids)).logits.detach().numpy()
    found = ng.jit(lambda m, x: m(x))(Llama.from_pretrained(tmp_path), ids)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


class Norm(torch.nn.Module):
    """RMSNorm that stays in the dtype of its input; Hugging Face's computes in float32."""

    def __init__(self, weight: torch.nn.Parameter, eps: float):
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class Rotations(torch.nn.Module):
    """cos and sin in the dtype of x; Hugging Face's angles are float32."""

    def __init__(self, base: float, d: int):
        super().__init__()
        self.frequencies = base ** -(torch.arange(0, d, 2, dtype=torch.float64) / d)

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = position_ids[..., None] * self.frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def in_its_dtype(model: Any) -> Any:
    """The model with the parts replaced that compute in float32 whatever the weights are."""
    eps = model.config.rms_norm_eps
    for layer in model.model.layers:
        layer.input_layernorm = Norm(layer.input_layernorm.weight, eps)
        layer.post_attention_layernorm = Norm(layer.post_attention_layernorm.weight, eps)
    model.model.norm = Norm(model.model.norm.weight, eps)
    model.model.rotary_emb = Rotations(model.config.rope_parameters["rope_theta"], model.config.head_dim)
    return model


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-8), ("float32", 1e-4)])
def test_the_loss_curve_of_50_steps(dtype: str, tolerance: float, tmp_path: pathlib.Path) -> None:
    randomised({}).save_pretrained(tmp_path)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    theirs = in_its_dtype(theirs) if dtype == "float64" else theirs
    optimiser = torch.optim.AdamW(theirs.parameters(), 1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    model = Llama.from_pretrained(tmp_path, dtype)
    ours = ng.optim.AdamW(1e-2, 0.9, 0.99, weight_decay=0.1)
    state = ours.init(model)

    @ng.jit
    def step(model: Llama, state: Any, ids: Any) -> Any:
        loss, grads = ng.value_and_grad(next_token_loss)(model, ids)
        return *ours.update(model, grads, state), loss

    found, expected = [], []
    for ids in texts(steps=50, time=24):
        model, state, our_loss = step(model, state, ids)
        found.append(float(our_loss))
        loss = their_loss(theirs(torch.tensor(ids)).logits, ids)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        expected.append(loss.item())
    assert np.mean(expected[-5:]) < np.mean(expected[:5]) - 2, "the run learns"
    np.testing.assert_allclose(found, expected, rtol=tolerance)
