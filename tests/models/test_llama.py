"""Llama by itself: sizes, causality, positions, dropout, its limits, and folders that are none."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import CheckpointError, TypeRuleError
from nagraph.models.llama import Llama, LlamaConfig
from nagraph.storage import write_safetensors

CONFIG = LlamaConfig(vocabulary=11, context=8, layers=2, heads=4, groups=2, width=8, inner=12)


@pytest.fixture(scope="module")
def model() -> Llama:
    return Llama.init(ng.random.key(3), CONFIG).map(lambda x: x * 10 if x.ndim == 2 else x + np.linspace(0, 0.5, 8, dtype=np.float32))


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 11, (3, 8))


forward = ng.jit(lambda model, ids: model(ids))
dropped = ng.jit(lambda model, ids, key: model(ids, key=key))


@pytest.mark.parametrize("config, expected", [
    (LlamaConfig(vocabulary=512, context=128, layers=4, heads=6, groups=0, width=192, inner=512), 1_967_808),
    (LlamaConfig(vocabulary=30, context=9, layers=1, heads=2, groups=1, width=6, inner=5, head_width=4, head="tied"),
     30 * 6 + 6 * 8 + 2 * 6 * 4 + 8 * 6 + 3 * 6 * 5 + 3 * 6),
], ids=["benchmark", "tied"])
def test_sizes(config: LlamaConfig, expected: int) -> None:
    assert Llama.init(ng.random.key(0), config).parameter_count == expected


def test_the_defaults_have_1_1_billion_parameters() -> None:
    c = LlamaConfig()
    attention = 2 * c.width * c.heads * c.d + 2 * c.width * c.shared * c.d
    block = attention + 3 * c.width * c.inner + 2 * c.width
    assert 2 * c.vocabulary * c.width + c.layers * block + c.width == 1_100_048_384


def test_start() -> None:
    """N(0, 0.02²), divided by √(2 layers) into the residual stream; norms 1; other keys, other weights."""
    config = LlamaConfig(vocabulary=300, context=8, layers=8, heads=4, groups=2, width=64, inner=96)
    start = Llama.init(ng.random.key(0), config).named_arrays()
    for name, x in start.items():
        assert x.dtype == np.float32
        if x.ndim == 1:
            assert np.all(x == 1) and name.endswith("norm.weight"), name
        else:
            into_residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
            np.testing.assert_allclose(x.std(), 0.02 / 4 if into_residual else 0.02, rtol=0.06, err_msg=name)
    matrices = [x.ravel()[:50].tobytes() for x in start.values() if x.ndim == 2]
    assert len(set(matrices)) == len(matrices) == 2 + 8 * 7, "no two matrices have the same numbers"
    assert Llama.init(ng.random.key(0), config, np.float64).token.table.dtype == np.float64
    assert not np.array_equal(Llama.init(ng.random.key(1), config).token.table, start["token.table"])


def test_a_position_sees_itself_and_the_past_only(model: Llama, ids: np.ndarray) -> None:
    before = forward(model, ids)
    assert before.shape == (3, 8, 11) and before.dtype == np.float32
    for t in range(8):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        after = forward(model, changed)
        assert np.array_equal(after[:, :t], before[:, :t])
        assert np.all(np.abs(after[:, t:] - before[:, t:]).max(axis=-1) > 0), "all that comes after sees the change"


def test_shorter_texts_and_any_batch_give_the_same_logits(model: Llama, ids: np.ndarray) -> None:
    whole = forward(model, ids)
    np.testing.assert_allclose(forward(model, ids[:, :5]), whole[:, :5], rtol=0, atol=1e-5)
    np.testing.assert_allclose(forward(model, ids[1]), whole[1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(forward(model, ids[None])[0], whole, rtol=0, atol=1e-5)


def test_only_distances_between_positions_count(model: Llama) -> None:
    """A first layer that turns queries and keys by another start gives the same scores; positions as such are nowhere."""
    x = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)
    attention, (cos, sin) = model.blocks[0].attention, model.rotations(16)
    run = ng.jit(lambda attention, x, cos, sin: attention(x, cos, sin)[0])
    first = run(attention, x, cos[:6], sin[:6])
    np.testing.assert_allclose(run(attention, x, cos[9:15], sin[9:15]), first, rtol=0, atol=1e-5 * np.abs(first).max())
    assert not np.allclose(run(attention, x, np.ones_like(cos[:6]), np.zeros_like(sin[:6])), first, rtol=0, atol=1e-3 * np.abs(first).max())


def test_query_heads_share_keys_and_values(model: Llama, ids: np.ndarray) -> None:
    """The same logits as with a key and value head for each query head, copied from its group's."""
    d = CONFIG.d

    def copied(linear: Any) -> Any:
        return linear.replace(weight=np.repeat(linear.weight.reshape(2, d, 8), 2, axis=0).reshape(4 * d, 8))

    blocks = tuple(b.replace(attention=b.attention.replace(key=copied(b.attention.key), value=copied(b.attention.value), groups=4))
                   for b in model.blocks)
    np.testing.assert_allclose(forward(model.replace(blocks=blocks), ids), forward(model, ids), rtol=0, atol=1e-5)


def test_heads(model: Llama, ids: np.ndarray) -> None:
    """Tied to the embedding, or none: what the blocks made, normalised."""
    config = {head: LlamaConfig(11, 8, 2, 4, 2, 8, 12, head=head) for head in ("tied", "none")}
    tied, bare = (model.replace(head=None, config=c) for c in config.values())
    y = forward(bare, ids)
    np.testing.assert_allclose(np.mean(y ** 2 / bare.norm.weight ** 2, axis=-1), 1, rtol=1e-2)
    np.testing.assert_allclose(forward(tied, ids), y @ model.token.table.T, rtol=0, atol=1e-4)
    np.testing.assert_allclose(forward(model, ids), y @ model.head.weight.T, rtol=0, atol=1e-4)


def test_dropout_falls_on_the_embedding_and_on_both_branches_of_each_block(model: Llama, ids: np.ndarray) -> None:
    without_a_key = ng.jit(lambda model, ids: model(ids))
    key, plain = ng.random.key(5), without_a_key(model, ids)
    np.testing.assert_allclose(dropped(model, ids, key), plain, rtol=1e-5, atol=1e-6, err_msg="at rate 0 the key changes nothing")
    half = LlamaConfig(11, 8, 2, 4, 2, 8, 12, dropout=0.5)
    a, b = model.blocks
    pairs = (a.replace(dropout=0.5), b), (a, b.replace(dropout=0.5))
    places = [model.replace(config=half), *(model.replace(blocks=pair) for pair in pairs)]
    for changed in places:
        found = dropped(changed, ids, key)
        assert not np.allclose(found, plain) and np.array_equal(dropped(changed, ids, key), found)
        assert not np.array_equal(dropped(changed, ids, ng.random.key(6)), found)
        assert np.array_equal(without_a_key(changed, ids), plain), "without a key nothing is dropped"
    assert all(b.dropout == 0.5 for b in Llama.init(ng.random.key(0), half).blocks)


def test_more_positions_than_the_context_are_an_error(model: Llama) -> None:
    with pytest.raises(TypeRuleError, match="9 positions do not fit its context of 8"):
        forward(model, np.zeros((1, 9), np.int32))


@pytest.mark.parametrize(("change", "message"), [
    ({"layers": 0}, "layers must be at least 1, got 0"), ({"inner": -1}, "inner must be at least 1"),
    ({"groups": 3}, "heads 4 must be a multiple of groups 3"), ({"groups": -1}, "multiple of groups -1"),
    ({"width": 10}, "width 10 must be a multiple of heads 4, or head_width be given"), ({"width": 12}, "must be even, got 3"),
    ({"head_width": 5}, "must be even, got 5"), ({"head_width": -2}, "or head_width be given"),
    ({"head": "both"}, "head must be one of own, tied, none, got 'both'"), ({"base": 0}, "base must be more than 0, got 0"),
    ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
])
def test_sizes_that_make_no_model(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LlamaConfig(**{"heads": 4, "groups": 2, "width": 8, **change})


# -- folders ------------------------------------------------------------------------------------------------

FACTS: dict[str, Any] = {"model_type": "llama", "vocab_size": 11, "max_position_embeddings": 8, "num_hidden_layers": 2,
                         "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 8, "intermediate_size": 12,
                         "rms_norm_eps": 1e-5, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
PARTS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm", "self_attn.q_proj": "attention.query",
         "self_attn.k_proj": "attention.key", "self_attn.v_proj": "attention.value", "self_attn.o_proj": "attention.output",
         "mlp.gate_proj": "mlp.gate", "mlp.up_proj": "mlp.up", "mlp.down_proj": "mlp.down"}


def write(folder: pathlib.Path, model: Llama, facts: Any = FACTS, **changes: Any) -> pathlib.Path:
    """The model's arrays under Hugging Face's names; a change of None takes a tensor out."""
    arrays = model.named_arrays()
    tensors = {"model.embed_tokens.weight": arrays["token.table"], "model.norm.weight": arrays["norm.weight"]}
    modules = {"lm_head": "head", **{f"model.layers.{i}.{a}": f"blocks.{i}.{b}" for i in range(2) for a, b in PARTS.items()}}
    tensors |= {f"{a}.weight": arrays[f"{b}.weight"] for a, b in modules.items()}
    tensors |= changes
    write_safetensors(folder / "model.safetensors", {n: x for n, x in tensors.items() if x is not None})
    (folder / "config.json").write_text(json.dumps(facts))
    return folder


def same(a: Llama, b: Llama) -> bool:
    x, y = a.named_arrays(), b.named_arrays()
    return x.keys() == y.keys() and all(np.array_equal(x[n], y[n]) for n in x)


def test_from_pretrained(model: Llama, tmp_path: pathlib.Path) -> None:
    """Frequencies that older files hold don't matter; the dtype is the one asked for; bfloat16 files are read."""
    write(tmp_path, model, **{"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(1, np.float32)})
    found = Llama.from_pretrained(tmp_path)
    assert same(found, model) and found.config == CONFIG
    assert not any(x.flags.owndata for x in found.named_arrays().values()), "views of the file"
    assert Llama.from_pretrained(tmp_path, np.float64).head.weight.dtype == np.float64
    half = model.astype(ml_dtypes.bfloat16)
    assert same(Llama.from_pretrained(write(tmp_path, half)), half.astype(np.float32))


def test_a_tied_head_is_not_read(model: Llama, tmp_path: pathlib.Path) -> None:
    write(tmp_path, model, {**FACTS, "tie_word_embeddings": True})
    assert Llama.from_pretrained(tmp_path).head is None and Llama.from_pretrained(tmp_path).config.head == "tied"


@pytest.mark.parametrize(("facts", "message"), [
    ({"model_type": "gpt2"}, "is for a model of type 'gpt2', not 'llama'"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not what LLaMA has, 'silu'"),
    ({"attention_bias": True}, "attention_bias True is not what LLaMA has, False"),
    ({"mlp_bias": True}, "mlp_bias True is not what LLaMA has, False"),
    ({"rope_parameters": {"rope_type": "llama3", "factor": 32.0}}, "rotary positions are scaled by 'llama3'; the model has 'default' ones"),
    ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary positions are scaled by 'linear'"),
    ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "are not one set for all layers"),
    ({"rope_parameters": 3}, "rope_parameters 3 are not one set"),
    ({"rope_parameters": {"rope_theta": "wide"}}, "describes no Llama"),
    ({"hidden_size": None}, "must name hidden_size, a whole number of at least 1; it says None"),
    ({"num_key_value_heads": 3}, "describes no Llama: heads 4 must be a multiple of groups 3"),
    ({"head_dim": "4"}, "describes no Llama"),
    ({"vocab_size": 12}, r"tensor embed_tokens.weight has shape \[11, 8\], .* \[12, 8\]; tensor lm_head.weight has shape \[11, 8\]"),
    ({"num_hidden_layers": 1}, r"the model has no place for layers.1.input_layernorm.weight, .* \(9 in all\)"),
    ({"architectures": ["LlamaModel"]}, "the model has no place for lm_head.weight"),
])
def test_configurations_of_something_else(facts: dict[str, Any], message: str, model: Llama, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        Llama.from_pretrained(write(tmp_path, model, {**FACTS, **facts}))
    assert "\n" not in str(caught.value)


def test_missing_tensors(model: Llama, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tensor layers.1.mlp.up_proj.weight, lm_head.weight$"):
        Llama.from_pretrained(write(tmp_path, model, **{"model.layers.1.mlp.up_proj.weight": None, "lm_head.weight": None}))
