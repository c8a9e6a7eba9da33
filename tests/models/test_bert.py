"""BERT by itself: shapes, what padding hides, dropout, heads, slopes, its limits, and folders that are no BERT's."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import CheckpointError, TypeRuleError
from nagraph.models.bert import BERT, HEADS, BERTConfig, classification_loss, masked_loss
from nagraph.storage import write_safetensors

CONFIG = BERTConfig(vocabulary=11, context=8, layers=2, heads=2, width=6, inner=10, types=2, classes=3)
FACTS = {"model_type": "bert", "vocab_size": 11, "max_position_embeddings": 8, "type_vocab_size": 2, "num_hidden_layers": 2,
         "num_attention_heads": 2, "hidden_size": 6, "intermediate_size": 10, "hidden_dropout_prob": 0.25}


@pytest.fixture(scope="module")
def model() -> BERT:
    return BERT.init(ng.random.key(3), CONFIG).map(lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape).astype(x.dtype))


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 11, (3, 8))


def forward(model: BERT, ids: Any, types: Any = None, mask: Any = None, key: Any = None) -> Any:
    return model(ids, types, mask, key=key)


run = ng.jit(forward)


def test_start() -> None:
    """N(0, 0.02²), biases 0, norms 1; other keys, other weights; no two matrices alike."""
    config = BERTConfig(vocabulary=300, context=200, layers=3, heads=4, width=64, types=50, classes=70)
    start = BERT.init(ng.random.key(0), config).named_arrays()
    for name, x in start.items():
        if x.ndim == 1:
            assert np.all(x == (1 if name.endswith("norm.weight") else 0)), name
        else:
            np.testing.assert_allclose(x.std(), 0.02, rtol=0.15 if "next_sentence" in name else 0.05, err_msg=name)
        assert x.dtype == np.float32
    matrices = [x.ravel()[:50].tobytes() for x in start.values() if x.ndim == 2]
    assert len(set(matrices)) == len(matrices)
    query, key, value = np.split(start["blocks.0.attention.projection.weight"], 3, axis=1)
    assert not np.array_equal(query, key) and not np.array_equal(key, value)
    assert BERT.init(ng.random.key(0), config, np.float64).position.dtype == np.float64
    assert not np.array_equal(BERT.init(ng.random.key(1), config).position, start["position"])


def test_the_base_model_has_110_million_parameters() -> None:
    w, m, c = 768, 3072, BERTConfig()
    block = 2 * 2 * w + (w * 3 * w + 3 * w) + (w * w + w) + (w * m + m) + (m * w + w)
    encoder = (c.vocabulary + c.context + c.types) * w + 2 * w + 12 * block + w * w + w
    assert c.mlp_width == m and encoder == 109_482_240
    small = BERT.init(ng.random.key(0), CONFIG, heads=["pooler"])
    w, m = 6, 10
    block = 2 * 2 * w + (w * 3 * w + 3 * w) + (w * w + w) + (w * m + m) + (m * w + w)
    assert small.parameter_count == (11 + 8 + 2) * w + 2 * w + 2 * block + w * w + w


def test_padding_changes_nothing_for_tokens(model: BERT, ids: np.ndarray) -> None:
    mask = (np.arange(8) < np.array([[8], [5], [2]])).astype(np.int32)
    before = run(model, ids, None, mask)
    assert before.shape == (3, 8, 6)
    other = np.where(mask == 1, ids, (ids + 3) % 11)
    after = run(model, other, None, mask)
    assert np.array_equal(before[mask == 1], after[mask == 1])
    np.testing.assert_allclose(run(model, ids[1:2, :5]), before[1:2, :5], rtol=0, atol=1e-5, err_msg="as if it were not there")
    assert np.array_equal(run(model, ids, None, mask == 1), before), "a mask of bool is the same mask"
    unmasked = run(model, ids)
    np.testing.assert_allclose(unmasked[0], before[0], rtol=0, atol=1e-6)
    assert not np.allclose(unmasked[1, :5], before[1, :5], atol=1e-3)


def test_every_token_sees_every_other(model: BERT, ids: np.ndarray) -> None:
    before = run(model, ids)
    for t in range(8):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % 11
        assert np.all(np.abs(run(model, changed) - before).max(axis=-1) > 0)


def test_types_and_places_count(model: BERT, ids: np.ndarray) -> None:
    zeros = np.zeros_like(ids)
    np.testing.assert_allclose(run(model, ids, zeros), run(model, ids), rtol=0, atol=1e-6, err_msg="the first type unless others are given")
    assert not np.allclose(run(model, ids, zeros + 1), run(model, ids), atol=1e-3)
    same = run(model, np.full((1, 8), 4))
    assert not np.allclose(same[0, 0], same[0, 5], atol=1e-3)
    np.testing.assert_allclose(run(model, ids[0]), run(model, ids)[0], rtol=0, atol=1e-5, err_msg="one text without a batch")


def test_dropout_needs_a_rate_and_a_key(model: BERT, ids: np.ndarray) -> None:
    run = ng.jit(forward)
    plain = run(model, ids)
    dropping = BERT.init(ng.random.key(3), dataclasses.replace(CONFIG, dropout=0.5))
    assert all(b.dropout == 0.5 for b in dropping.blocks)
    key, other = ng.random.key(1), ng.random.key(2)
    np.testing.assert_allclose(run(model, ids, None, None, key), plain, rtol=1e-6, atol=1e-6, err_msg="at rate 0 the key changes nothing")
    dropped = run(dropping, ids, None, None, key)
    assert np.array_equal(run(dropping, ids, None, None, key), dropped)
    assert not np.array_equal(dropped, run(dropping, ids)) and not np.array_equal(run(dropping, ids, None, None, other), dropped)
    h = np.ones((1, 3, 6), np.float32)
    scores = ng.jit(lambda m, h, key: m.class_scores(h, key=key))
    assert not np.array_equal(scores(dropping, h, key), scores(dropping, h, other)), "what is pooled is dropped too"


def test_dropout_falls_on_the_embedding_each_block_and_the_pooled(model: BERT, ids: np.ndarray) -> None:
    """With all other rates 0, dropping in one place alone changes the vectors; the loss drops in the head too."""
    key, plain = ng.random.key(5), run(model, ids)
    config = dataclasses.replace(CONFIG, dropout=0.5)
    first = model.blocks[0].replace(dropout=0.5)
    for place in (model.replace(config=config), model.replace(blocks=(first, model.blocks[1])),
                  model.replace(blocks=(model.blocks[0], first))):
        assert not np.allclose(ng.jit(forward)(place, ids, None, None, key), plain, atol=1e-3)
    labels, dropping = np.array([2, 0, 1]), model.replace(config=config)
    k_model, k_head = ng.random.split(key, 2)
    scores = ng.jit(lambda m: m.class_scores(m(ids, key=k_model), key=k_head))(dropping)
    expected = ng.jit(ng.nn.losses.cross_entropy)(scores, labels)
    np.testing.assert_allclose(ng.jit(classification_loss)(dropping, ids, labels, key=key), expected, rtol=1e-5)


def test_losses(model: BERT, ids: np.ndarray) -> None:
    labels = np.where(np.arange(8) % 3 == 0, (ids + 1) % 11, -100)
    logits = ng.jit(lambda m: m.token_scores(m(ids)))(model).astype(np.float64)
    assert logits.shape == (3, 8, 11)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(logp, np.maximum(labels, 0)[..., None], -1)[..., 0]
    np.testing.assert_allclose(ng.jit(masked_loss)(model, ids, labels), -picked[labels >= 0].mean(), rtol=1e-5)
    assert ng.jit(masked_loss)(model, ids, np.full_like(ids, -100)) == 0, "nothing to guess"
    scores = ng.jit(lambda m: m.class_scores(m(ids)))(model).astype(np.float64)
    classes = np.array([2, 0, 1])
    expected = np.log(np.exp(scores).sum(-1)) - scores[np.arange(3), classes]
    np.testing.assert_allclose(ng.jit(classification_loss)(model, ids, classes), expected.mean(), rtol=1e-5)


def test_every_array_has_a_slope(model: BERT, ids: np.ndarray) -> None:
    def loss(m: BERT) -> Any:
        h = m(ids, ids % 2)
        return (masked_loss(m, ids, ids) + classification_loss(m, ids, np.array([0, 1, 2]), ids % 2)
                + ng.numpy.sum(m.next_sentence_scores(h)[:, 0]))

    for name, g in ng.jit(ng.grad(loss))(model).named_arrays().items():
        assert np.isfinite(g).all() and np.abs(g).max() > 1e-6, name


@pytest.mark.parametrize(("heads", "present"), [
    ((), ()), (("masked",), ("masked",)), (("classifier",), ("pooler", "classifier")), (("next_sentence",), ("pooler", "next_sentence")),
    (HEADS, HEADS),
])
def test_heads_that_are_wanted(heads: tuple[str, ...], present: tuple[str, ...]) -> None:
    model = BERT.init(ng.random.key(0), CONFIG, heads=heads)
    assert tuple(n for n in HEADS if getattr(model, n) is not None) == present
    h = np.zeros((2, 4, 6), np.float32)
    calls = {"pooler": model.pooled, "masked": model.token_scores, "next_sentence": model.next_sentence_scores,
             "classifier": model.class_scores}
    shapes = {"pooler": (2, 6), "masked": (2, 4, 11), "next_sentence": (2, 2), "classifier": (2, 3)}
    for name, call in calls.items():
        if name in present:
            assert ng.jit(call)(h).shape == shapes[name]
        else:
            shown = ", ".join(present) or "none"
            with pytest.raises(TypeRuleError, match=f"this model has no head {name}; it has {shown}"):
                ng.jit(call)(h)


def test_heads_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="no head of BERT is called tail; there are pooler, masked, next_sentence, classifier"):
        BERT.init(ng.random.key(0), CONFIG, heads=("tail",))


def test_inputs_that_do_not_fit(model: BERT, ids: np.ndarray) -> None:
    with pytest.raises(TypeRuleError, match="9 positions do not fit its context of 8"):
        run(model, np.zeros((1, 9), np.int32))
    with pytest.raises(TypeRuleError, match=r"a mask has the shape of the ids, \(3, 8\), got \(3, 7\)"):
        run(model, ids, None, np.ones((3, 7), np.int32))


@pytest.mark.parametrize(("change", "message"), [
    ({"width": 7}, "width 7 must be a multiple of heads 2"), ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ({"heads": 0}, "heads must be at least 1, got 0"), ({"types": 0}, "types must be at least 1"),
    ({"inner": -4}, "inner must be at least 0"),
    ({"activation": "relu"}, "activation must be 'gelu' or 'quick_gelu', got 'relu'"),
])
def test_sizes_that_make_no_model(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BERTConfig(**{"width": 6, "heads": 2, **change})


# -- folders ------------------------------------------------------------------------------------------------

MODULES = {"embeddings.LayerNorm": "norm", "pooler.dense": "pooler", "classifier": "classifier", "cls.seq_relationship": "next_sentence",
           "cls.predictions.transform.dense": "masked.transform", "cls.predictions.transform.LayerNorm": "masked.norm"}
PARTS = {"attention.output.dense": "attention.output", "attention.output.LayerNorm": "attention_norm", "intermediate.dense": "mlp.up",
         "output.dense": "mlp.down", "output.LayerNorm": "mlp_norm"}


def write(folder: pathlib.Path, model: BERT, facts: Any = None, drop: str = "", **changes: np.ndarray) -> pathlib.Path:
    """The model's arrays under Hugging Face's names."""
    arrays = model.named_arrays()
    tensors = {"embeddings.word_embeddings.weight": arrays["token.table"], "embeddings.position_embeddings.weight": arrays["position"],
               "embeddings.token_type_embeddings.weight": arrays["type.table"], "cls.predictions.bias": arrays["masked.bias"]}
    layers = {f"encoder.layer.{i}.{a}": f"blocks.{i}.{b}" for i in range(2) for a, b in PARTS.items()}
    for theirs, ours in {**MODULES, **layers}.items():
        tensors |= {f"{theirs}.weight": arrays[f"{ours}.weight"].T, f"{theirs}.bias": arrays[f"{ours}.bias"]}
    for i in range(2):
        for x in ("weight", "bias"):
            parts = np.split(arrays[f"blocks.{i}.attention.projection.{x}"], 3, axis=-1)
            tensors |= {f"encoder.layer.{i}.attention.self.{n}.{x}": p.T for n, p in zip(("query", "key", "value"), parts)}
    named = {n if n.startswith("cl") else f"bert.{n}": np.ascontiguousarray(x) for n, x in tensors.items()}
    write_safetensors(folder / "model.safetensors", {n: x for n, x in {**named, **changes}.items() if n != drop})
    (folder / "config.json").write_text(json.dumps(FACTS if facts is None else facts))
    return folder


def test_from_pretrained(model: BERT, tmp_path: pathlib.Path) -> None:
    """The same arrays; what older files hold beside them does not matter; the dtype is the one asked for."""
    folder = write(tmp_path, model, **{"bert.embeddings.position_ids": np.arange(8)[None],
                                       "cls.predictions.decoder.weight": model.token.table})
    found = BERT.from_pretrained(folder)
    x, y = found.named_arrays(), model.named_arrays()
    assert x.keys() == y.keys() and all(np.array_equal(x[n], y[n]) for n in x)
    assert found.config == dataclasses.replace(CONFIG, dropout=0.25)
    assert all(a.dtype == np.float64 for a in BERT.from_pretrained(folder, np.float64).named_arrays().values())


@pytest.mark.parametrize(("facts", "message"), [
    ({"model_type": "gpt2"}, "is for a model of type 'gpt2', not 'bert'"),
    ({"hidden_size": None}, "must name hidden_size, a whole number of at least 1; it says None"),
    ({"num_attention_heads": 4}, "describes no BERT: width 6 must be a multiple of heads 4"),
    ({"hidden_dropout_prob": 3}, r"describes no BERT: dropout must lie in \[0, 1\)"), ({"layer_norm_eps": "x"}, "describes no BERT"),
    ({"hidden_act": "relu"}, "hidden_act 'relu' is not what BERT has, 'gelu'"),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key' is not what BERT has, 'absolute'"),
    ({"is_decoder": True}, "is_decoder True is not what BERT has, False"),
    ({"tie_word_embeddings": False}, "tie_word_embeddings False is not what BERT has, True"),
    ({"max_position_embeddings": 9},
     r"tensor embeddings.position_embeddings.weight has shape \[8, 6\], the configuration asks for \[9, 6\]"),
    ({"num_hidden_layers": 3}, "holds no tensor encoder.layer.2.attention.self.query.weight"),
    ({"hidden_size": 2 * 10**6, "intermediate_size": 3 * 10**6}, "the configuration asks for"),
    ({"num_hidden_layers": 1}, "has no place for encoder.layer.1."),
])
def test_configurations_of_something_else(facts: Any, message: str, model: BERT, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        BERT.from_pretrained(write(tmp_path, model, {**FACTS, **facts}))
    assert "\n" not in str(caught.value)


def test_tensors_that_are_missing_misshapen_or_unknown(model: BERT, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tensor encoder.layer.1.output.dense.bias"):
        BERT.from_pretrained(write(tmp_path, model, drop="bert.encoder.layer.1.output.dense.bias"))
    with pytest.raises(CheckpointError, match=r"tensor pooler.dense.bias has shape \[5\], the configuration asks for \[6\]"):
        BERT.from_pretrained(write(tmp_path, model, **{"bert.pooler.dense.bias": np.ones(5)}))
    with pytest.raises(CheckpointError, match="no place for qa_outputs.weight"):
        BERT.from_pretrained(write(tmp_path, model, **{"qa_outputs.weight": np.ones((2, 6))}))
