"""GPT-2 beside Hugging Face's in PyTorch: logits, gradients, and the curve of losses over 100 steps."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

import nagraph as ng
from nagraph.models.data.text import batch
from nagraph.models.data.tokens import Characters
from nagraph.models.gpt2 import GPT2
from nagraph.models.language_model import next_token_loss
from nagraph.models.tasks.gpt2 import GPT2Recipe, GPT2Task
from nagraph.models.training import init_state, make_step

#: A layer's parts in Hugging Face's model and in this one.
PARTS = {"ln_1": "attention_norm", "attn.c_attn": "attention.projection", "attn.c_proj": "attention.output",
         "ln_2": "mlp_norm", "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down"}


def names(layers: int) -> dict[str, str]:
    """Hugging Face's name of each tensor, and the path of the same one here."""
    found = {"wte.weight": "token.table", "wpe.weight": "position"}
    modules = {"ln_f": "norm", **{f"h.{i}.{a}": f"blocks.{i}.{b}" for i in range(layers) for a, b in PARTS.items()}}
    return found | {f"{a}.{x}": f"{b}.{x}" for a, b in modules.items() for x in ("weight", "bias")}


def hugging_face(**options: Any) -> GPT2Config:
    sizes = dict(vocab_size=61, n_positions=16, n_embd=24, n_layer=2, n_head=3, bos_token_id=None, eos_token_id=None)
    return GPT2Config(**{**sizes, **options}, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager")


def randomised(model: Any) -> Any:
    """Norms and biases away from 1 and 0, so that each of them counts."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


@pytest.mark.parametrize(("options", "saving"), [
    ({}, {}), ({"n_inner": 40, "layer_norm_epsilon": 1e-3}, {}), ({"activation_function": "gelu_pytorch_tanh"}, {}),
    ({}, {"max_shard_size": "10KB"}),
], ids=["plain", "n_inner", "gelu_pytorch_tanh", "shards"])
def test_logits_and_gradients(options: dict[str, Any], saving: dict[str, Any], tmp_path: pathlib.Path) -> None:
    theirs = randomised(GPT2LMHeadModel(hugging_face(**options)))
    theirs.save_pretrained(tmp_path, **saving)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == bool(saving)
    ours = GPT2.from_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(0, 61, (3, 16))
    expected = theirs(torch.tensor(ids)).logits
    found = ng.jit(lambda model, ids: model(ids))(ours, ids)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-5)

    loss = torch.nn.functional.cross_entropy(expected[:, :-1].reshape(-1, 61), torch.tensor(ids[:, 1:]).reshape(-1))
    loss.backward()
    our_loss, grads = ng.jit(ng.value_and_grad(next_token_loss))(ours, ids)
    np.testing.assert_allclose(our_loss, loss.item(), rtol=1e-5)
    gradients, mapped = grads.named_arrays(), names(2)
    assert set(mapped.values()) == set(gradients)
    for name, path in mapped.items():
        wanted = theirs.transformer.get_parameter(name).grad.numpy()
        np.testing.assert_allclose(gradients[path], wanted, rtol=0, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


def test_the_model_without_a_head(tmp_path: pathlib.Path) -> None:
    """GPT2Model is saved without the prefix `transformer.`."""
    theirs = randomised(GPT2Model(hugging_face()))
    theirs.save_pretrained(tmp_path)
    ours = GPT2.from_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(0, 61, (2, 9))
    expected = theirs(torch.tensor(ids)).last_hidden_state @ theirs.wte.weight.T
    np.testing.assert_allclose(ng.jit(lambda m, x: m(x))(ours, ids), expected.detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance", "horizon"), [("float64", 1e-8, None), ("float64", 1e-8, 80), ("float32", 1e-4, None)])
def test_the_loss_curve_of_100_steps(dtype: str, tolerance: float, horizon: int | None) -> None:
    recipe = GPT2Recipe(layers=2, heads=2, width=16, context=12, batch=4, dropout=0.0, warm_up=20, horizon=horizon, dtype=dtype)
    symbols, steps = 23, 100
    text = (np.arange(400) ** 2 % symbols).astype(np.int32)
    task = GPT2Task(recipe, {"tokenizer": Characters("".join(map(chr, range(symbols)))).to_json()})
    state = init_state(task)

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(hugging_face(vocab_size=symbols, n_positions=12, n_embd=16, n_head=2)).to(getattr(torch, dtype))
    start = state.model.named_arrays()
    with torch.no_grad():
        for name, path in names(2).items():
            theirs.transformer.get_parameter(name).copy_(torch.tensor(start[path]))
    parameters = list(theirs.parameters())
    decayed = [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
               {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(decayed, betas=(recipe.b1, recipe.b2))
    step = make_step(task)
    found, expected = [], []
    for i in range(steps):
        ids = batch(text, recipe.context, recipe.batch, recipe.seed, i)
        state, loss, norm = step(state, (ids,), np.int32(i))
        found.append((float(loss), float(norm)))

        windows = torch.tensor(ids, dtype=torch.long)
        logits = theirs(windows[:, :-1]).logits
        their_loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimiser.zero_grad()
        their_loss.backward()
        their_norm = torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
        rate = recipe.learning_rate * min(1, (i + 1) / recipe.warm_up)
        if horizon is not None:
            progress = min(1, max(0, i - recipe.warm_up) / (horizon - recipe.warm_up))
            rate *= 0.1 + 0.9 * (1 + np.cos(np.pi * progress)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
        expected.append((their_loss.item(), their_norm.item()))
    assert expected[-1][0] < expected[0][0] - 0.5 and max(n for _, n in expected) > 1, "the run learns, and clips"
    np.testing.assert_allclose([x for x, _ in found], [x for x, _ in expected], rtol=tolerance)
    np.testing.assert_allclose([n for _, n in found], [n for _, n in expected], rtol=100 * tolerance)
