"""GPT-2 by itself: sizes, causality, dropout, its limits, and folders that are no GPT-2's."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import CheckpointError, TypeRuleError
from nagraph.models.gpt2 import GPT2, GPT2Config
from nagraph.models.language_model import next_token_loss
from nagraph.models.workloads import workload
from nagraph.storage import write_safetensors

CONFIG = GPT2Config(vocabulary=11, context=8, layers=2, heads=2, width=6)
FACTS = {"model_type": "gpt2", "vocab_size": 11, "n_positions": 8, "n_layer": 2, "n_head": 2, "n_embd": 6}


@pytest.fixture(scope="module")
def model() -> GPT2:
    return GPT2.init(ng.random.key(3), CONFIG).map(lambda x: x + np.float32(0.1))


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 11, (3, 8))


def forward(model: GPT2, ids: np.ndarray, key: Any) -> np.ndarray:
    found: np.ndarray = compiled[key is None](model, ids, key)
    return found


compiled = [ng.jit(lambda model, ids, key: model(ids, key=key)) for _ in range(2)]


def test_the_default_recipe_has_about_545_000_parameters() -> None:
    found = workload("gpt2", "infer").arguments[0]
    config, w, m = found.config, found.config.width, found.config.mlp_width
    block = 2 * 2 * w + (w * 3 * w + 3 * w) + (w * w + w) + (w * m + m) + (m * w + w)
    assert found.parameter_count == (103 + 128) * w + config.layers * block + 2 * w == 548_808


def test_start(model: GPT2) -> None:
    """N(0, 0.02²), divided by √(2 layers) into the residual stream; biases 0, norms 1; other keys, other weights."""
    config = GPT2Config(vocabulary=300, context=200, layers=8, heads=4, width=64)
    start = GPT2.init(ng.random.key(0), config).named_arrays()
    for name, x in start.items():
        if x.ndim == 1:
            assert np.all(x == (1 if name.endswith("norm.weight") else 0)), name
        else:
            into_residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
            np.testing.assert_allclose(x.std(), 0.02 / 4 if into_residual else 0.02, rtol=0.05, err_msg=name)
        assert x.dtype == np.float32
    matrices = [x.ravel()[:50].tobytes() for x in start.values() if x.ndim == 2]
    assert len(set(matrices)) == len(matrices), "no two matrices have the same numbers"
    assert GPT2.init(ng.random.key(0), config, np.float64).token.table.dtype == np.float64
    assert not np.array_equal(GPT2.init(ng.random.key(1), config).token.table, start["token.table"])


def test_a_position_sees_itself_and_the_past_only(model: GPT2, ids: np.ndarray) -> None:
    before = forward(model, ids, None)
    assert before.shape == (3, 8, 11)
    for t in range(8):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        after = forward(model, changed, None)
        assert np.array_equal(after[:, :t], before[:, :t])
        assert np.all(np.abs(after[:, t:] - before[:, t:]).max(axis=-1) > 0), "all that comes after sees the change"


def test_shorter_texts_and_any_batch_give_the_same_logits(model: GPT2, ids: np.ndarray) -> None:
    whole = forward(model, ids, None)
    np.testing.assert_allclose(forward(model, ids[:, :5], None), whole[:, :5], rtol=0, atol=1e-5)
    np.testing.assert_allclose(forward(model, ids[1], None), whole[1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(forward(model, ids[None], None)[0], whole, rtol=0, atol=1e-5)


def test_the_loss_is_the_mean_cross_entropy_of_what_follows(model: GPT2, ids: np.ndarray) -> None:
    logits = forward(model, ids[:, :-1], None).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, ids[:, 1:, None], axis=-1)).mean()
    np.testing.assert_allclose(ng.jit(next_token_loss)(model, ids), expected, rtol=1e-5)


def with_dropout(model: GPT2, rate: float) -> GPT2:
    """The model with another dropout rate."""
    blocks = tuple(b.replace(dropout=rate) for b in model.blocks)
    return model.replace(blocks=blocks, config=dataclasses.replace(model.config, dropout=rate))


def test_dropout_needs_a_rate_and_a_key(model: GPT2, ids: np.ndarray) -> None:
    plain = forward(model, ids, None)
    dropping = with_dropout(model, 0.5)
    key, other = ng.random.key(1), ng.random.key(2)
    assert dropping.config.dropout == 0.5 and model.config.dropout == 0
    assert np.array_equal(forward(dropping, ids, None), plain), "without a key nothing is dropped"
    np.testing.assert_allclose(forward(model, ids, key), plain, rtol=1e-6, err_msg="at rate 0 the key changes nothing")
    dropped = forward(dropping, ids, key)
    assert np.array_equal(forward(dropping, ids, key), dropped)
    assert not np.array_equal(dropped, plain) and not np.array_equal(forward(dropping, ids, other), dropped)


def test_dropout_falls_on_the_embedding_and_on_both_branches_of_each_block(ids: np.ndarray) -> None:
    """Each place has its own mask: with all other rates 0, dropping there alone changes the logits."""
    model = GPT2.init(ng.random.key(0), CONFIG)
    key = ng.random.key(5)
    plain = forward(model, ids, None)
    config = with_dropout(model, 0.5).config
    first = model.blocks[0].replace(dropout=0.5), model.blocks[1]
    places = [model.replace(config=config), model.replace(blocks=first), model.replace(blocks=(model.blocks[0], first[0]))]
    results = [forward(m, ids, key) for m in places]
    assert all(not np.allclose(r, plain) for r in results)


def test_more_positions_than_the_context_are_an_error(model: GPT2) -> None:
    with pytest.raises(TypeRuleError, match="9 positions do not fit its context of 8"):
        forward(model, np.zeros((1, 9), np.int32), None)


@pytest.mark.parametrize(("change", "message"), [
    ({"width": 7}, "width 7 must be a multiple of heads 2"), ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ({"heads": 0}, "heads must be at least 1, got 0"), ({"layers": -1}, "layers must be at least 1"),
    ({"inner": -4}, "inner must be at least 0"),
])
def test_sizes_that_make_no_model(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPT2Config(**{"width": 6, "heads": 2, **change})


# -- folders ------------------------------------------------------------------------------------------------

PARTS = {"ln_1": "attention_norm", "attn.c_attn": "attention.projection", "attn.c_proj": "attention.output",
         "ln_2": "mlp_norm", "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down"}


def hugging_face_tensors(model: GPT2, prefix: str = "transformer.") -> dict[str, np.ndarray]:
    """The model's arrays under Hugging Face's names."""
    arrays = model.named_arrays()
    modules = {"ln_f": "norm", **{f"h.{i}.{a}": f"blocks.{i}.{b}" for i in range(2) for a, b in PARTS.items()}}
    found = {"wte.weight": arrays["token.table"], "wpe.weight": arrays["position"]}
    found |= {f"{a}.{x}": arrays[f"{b}.{x}"] for a, b in modules.items() for x in ("weight", "bias")}
    return {prefix + name: x for name, x in found.items()}


def write(folder: pathlib.Path, model: GPT2, facts: Any = None, drop: str = "", **changes: np.ndarray) -> pathlib.Path:
    tensors = {**hugging_face_tensors(model), **changes}
    write_safetensors(folder / "model.safetensors", {n: x for n, x in tensors.items() if n != drop})
    (folder / "config.json").write_text(json.dumps(FACTS if facts is None else facts))
    return folder


def same(a: GPT2, b: GPT2) -> bool:
    x, y = a.named_arrays(), b.named_arrays()
    return x.keys() == y.keys() and all(np.array_equal(x[n], y[n]) for n in x)


def test_from_pretrained(model: GPT2, tmp_path: pathlib.Path) -> None:
    """Buffers that older files hold don't matter; the dtype is the one asked for; bfloat16 files are read."""
    folder = write(tmp_path, model, **{"h.0.attn.bias": np.ones((1, 1, 8, 8), np.uint8)})
    found = GPT2.from_pretrained(folder)
    assert same(found, model) and found.config == CONFIG
    assert GPT2.from_pretrained(folder, np.float64).position.dtype == np.float64
    half = model.astype("bfloat16")
    write(tmp_path, half)
    assert same(GPT2.from_pretrained(folder), half.astype(np.float32))


def test_shards(model: GPT2, tmp_path: pathlib.Path) -> None:
    tensors = list(hugging_face_tensors(model, "").items())
    write(tmp_path, model)
    (tmp_path / "model.safetensors").unlink()
    for name, part in (("a.safetensors", tensors[:5]), ("b.safetensors", tensors[5:])):
        write_safetensors(tmp_path / name, dict(part))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {n: "a.safetensors" if i < 5 else "b.safetensors" for i, (n, _) in enumerate(tensors)}}))
    assert same(GPT2.from_pretrained(tmp_path), model)
    for text in ("{}", "[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": 5}}', '{"weight_map": {"a": ["b"]}}', "[" * 100_000):
        index.write_text(text)
        with pytest.raises(CheckpointError, match="index.json (is no index of shards|is damaged|names the shard)|does not exist"):
            GPT2.from_pretrained(tmp_path)
    index.write_text('{"weight_map": {"wte.weight": "c.safetensors"}}')
    with pytest.raises(CheckpointError, match="c.safetensors does not exist"):
        GPT2.from_pretrained(tmp_path)


def without(name: str) -> dict[str, Any]:
    return {k: v for k, v in FACTS.items() if k != name}


@pytest.mark.parametrize(("facts", "message"), [
    ({**FACTS, "model_type": "bert"}, "is for a model of type 'bert', not 'gpt2'"),
    (without("model_type"), "is for a model of type None, not 'gpt2'"),
    ([1, 2], "config.json is damaged: it holds a list"),
    (without("n_layer"), "must name n_layer, a whole number of at least 1; it says None"),
    ({**FACTS, "n_embd": "6"}, "must name n_embd, a whole number of at least 1; it says '6'"),
    ({**FACTS, "n_head": 0}, "must name n_head, a whole number of at least 1; it says 0"),
    ({**FACTS, "n_head": 4}, "describes no GPT-2: width 6 must be a multiple of heads 4"),
    ({**FACTS, "n_inner": "wide"}, "describes no GPT-2"),
    ({**FACTS, "layer_norm_epsilon": None}, "describes no GPT-2"),
    ({**FACTS, "activation_function": "relu"}, "activation_function 'relu' is not what GPT-2 has, 'gelu_new'"),
    ({**FACTS, "scale_attn_weights": False}, "scale_attn_weights False is not what GPT-2 has, True"),
    ({**FACTS, "tie_word_embeddings": False}, "tie_word_embeddings False is not what GPT-2 has, True"),
    ({**FACTS, "n_positions": 9}, r"tensor wpe.weight has shape \[8, 6\], the configuration asks for \[9, 6\]"),
    ({**FACTS, "n_layer": 3}, r"holds no tensor h.2.ln_1.weight, h.2.ln_1.bias, .* \(12 in all\)"),
])
def test_configurations_of_something_else(facts: Any, message: str, model: GPT2, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        GPT2.from_pretrained(write(tmp_path, model, facts))
    assert "\n" not in str(caught.value)


BREAK: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "configuration that is no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
    "binary configuration": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\0"), "config.json is damaged"),
    "no tensors": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors does not exist"),
    "cut": (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]), "is damaged"),
    "foreign": (lambda f: (f / "model.safetensors").write_bytes(b"PK\3\4 a zip"), "is damaged, or no safetensors file"),
}


@pytest.mark.parametrize("name", BREAK)
def test_damaged_folders(name: str, model: GPT2, tmp_path: pathlib.Path) -> None:
    break_it, message = BREAK[name]
    break_it(write(tmp_path, model))
    with pytest.raises(CheckpointError, match=message):
        GPT2.from_pretrained(tmp_path)


def test_missing_and_misshapen_tensors(model: GPT2, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tensor h.1.mlp.c_fc.bias"):
        GPT2.from_pretrained(write(tmp_path, model, drop="transformer.h.1.mlp.c_fc.bias"))
    with pytest.raises(CheckpointError, match=r"tensor ln_f.weight has shape \[5\], the configuration asks for \[6\]"):
        GPT2.from_pretrained(write(tmp_path, model, **{"transformer.ln_f.weight": np.ones(5)}))
    with pytest.raises(CheckpointError, match="holds no config.json"):
        GPT2.from_pretrained(tmp_path / "nowhere")
