"""BERT beside Hugging Face's in PyTorch: every head, padding, gradients of every tensor, and losses of training."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertForSequenceClassification, BertModel

import nagraph as ng
from nagraph.models.bert import BERT, classification_loss, masked_loss
from tests.oracles.encoders import blocks, check_curve, check_gradients, close, modules, saved

PARTS = {"attention.output": "attention.output.dense", "attention_norm": "attention.output.LayerNorm", "mlp.up": "intermediate.dense",
         "mlp.down": "output.dense", "mlp_norm": "output.LayerNorm"}
QUERY = [f"attention.self.{x}" for x in ("query", "key", "value")]
POOLER = modules(pooler="pooler.dense")
MASKED = {**modules(masked__transform="cls.predictions.transform.dense", masked__norm="cls.predictions.transform.LayerNorm"),
          "masked.bias": ("cls.predictions.bias",)}


def names(prefix: str = "bert.", pooler: bool = True) -> dict[str, tuple[str, ...]]:
    """The path of each tensor here, and Hugging Face's name of the same."""
    found = {"token.table": ("embeddings.word_embeddings.weight",), "position": ("embeddings.position_embeddings.weight",),
             "type.table": ("embeddings.token_type_embeddings.weight",), **modules(norm="embeddings.LayerNorm"),
             **blocks("blocks", "encoder.layer", 2, PARTS, QUERY), **(POOLER if pooler else {})}
    return {ours: tuple(prefix + n for n in theirs) for ours, theirs in found.items()}


def hugging_face(**options: Any) -> BertConfig:
    """Small; without a padding token, whose embedding PyTorch gives no gradient."""
    sizes = dict(vocab_size=61, max_position_embeddings=16, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                 intermediate_size=40, type_vocab_size=3, pad_token_id=None)
    return BertConfig(**{**sizes, **options}, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


rng = np.random.default_rng(0)
IDS, TYPES = rng.integers(0, 61, (4, 13)), rng.integers(0, 3, (4, 13))
MASK = (np.arange(13) < np.array([[13], [5], [1], [9]])).astype(np.int64)
WHERE = (rng.random((4, 13)) < 0.3) & (MASK == 1)
LABELS = np.where(WHERE, rng.integers(0, 61, (4, 13)), -100)
CLASSES = np.array([1, 0, 2, 1])
INPUT = {"input_ids": torch.tensor(IDS), "token_type_ids": torch.tensor(TYPES), "attention_mask": torch.tensor(MASK)}


@pytest.mark.parametrize(("options", "saving"), [
    ({}, {}), ({"layer_norm_eps": 1e-3}, {"max_shard_size": "10KB"}),
], ids=["plain", "eps, shards"])
def test_the_model_without_heads(options: dict[str, Any], saving: dict[str, Any], tmp_path: pathlib.Path) -> None:
    theirs = saved(BertModel(hugging_face(**options)), tmp_path, **saving)
    ours = BERT.from_pretrained(tmp_path)
    expected = theirs(**INPUT)
    run = ng.jit(lambda m, *xs: (h := m(*xs), m.pooled(h)))
    h, pooled = run(ours, IDS, TYPES, MASK)
    close(h, expected.last_hidden_state, "vectors")
    close(pooled, expected.pooler_output, "pooled")
    plain = theirs(input_ids=INPUT["input_ids"])
    close(ng.jit(lambda m, x: m(x))(ours, IDS), plain.last_hidden_state, "no types, no mask")
    boolean = ng.jit(lambda m, x, mask: m(x, mask=mask))(ours, IDS, MASK == 1)
    close(boolean, theirs(input_ids=INPUT["input_ids"], attention_mask=INPUT["attention_mask"]).last_hidden_state, "mask of bool")

    weights = rng.normal(size=h.shape).astype(np.float32), rng.normal(size=pooled.shape).astype(np.float32)
    (expected.last_hidden_state * torch.tensor(weights[0])).sum().add((expected.pooler_output * torch.tensor(weights[1])).sum()).backward()

    def loss(m: BERT, a: Any, b: Any) -> Any:
        h = m(IDS, TYPES, MASK)
        return ng.numpy.sum(h * a) + ng.numpy.sum(m.pooled(h) * b)

    check_gradients(ng.jit(ng.grad(loss))(ours, *weights), theirs, names(""))


def test_masked_tokens(tmp_path: pathlib.Path) -> None:
    theirs = saved(BertForMaskedLM(hugging_face()), tmp_path)
    ours = BERT.from_pretrained(tmp_path)
    assert ours.pooler is None and ours.classifier is None and ours.next_sentence is None
    expected = theirs(**INPUT, labels=torch.tensor(LABELS))
    close(ng.jit(lambda m: m.token_scores(m(IDS, TYPES, MASK)))(ours), expected.logits)
    expected.loss.backward()
    loss, grads = ng.jit(ng.value_and_grad(masked_loss))(ours, IDS, LABELS, TYPES, MASK)
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)
    check_gradients(grads, theirs, {**names(pooler=False), **MASKED})


def test_masked_tokens_and_next_sentence(tmp_path: pathlib.Path) -> None:
    theirs = saved(BertForPreTraining(hugging_face()), tmp_path, max_shard_size="10KB")
    ours = BERT.from_pretrained(tmp_path)
    follows = CLASSES % 2
    expected = theirs(**INPUT, labels=torch.tensor(LABELS), next_sentence_label=torch.tensor(follows))
    scores, pair = ng.jit(lambda m: (m.token_scores(h := m(IDS, TYPES, MASK)), m.next_sentence_scores(h)))(ours)
    close(scores, expected.prediction_logits)
    close(pair, expected.seq_relationship_logits)
    expected.loss.backward()

    def loss(m: BERT) -> Any:
        pair = m.next_sentence_scores(m(IDS, TYPES, MASK))
        return masked_loss(m, IDS, LABELS, TYPES, MASK) + ng.nn.losses.cross_entropy(pair, follows)

    value, grads = ng.jit(ng.value_and_grad(loss))(ours)
    np.testing.assert_allclose(value, expected.loss.item(), rtol=1e-5)
    check_gradients(grads, theirs, {**names(), **MASKED, **modules(next_sentence="cls.seq_relationship")})


def test_classes(tmp_path: pathlib.Path) -> None:
    theirs = saved(BertForSequenceClassification(hugging_face(num_labels=3)), tmp_path)
    ours = BERT.from_pretrained(tmp_path)
    assert ours.config.classes == 3 and ours.masked is None
    expected = theirs(**INPUT, labels=torch.tensor(CLASSES))
    close(ng.jit(lambda m: m.class_scores(m(IDS, TYPES, MASK)))(ours), expected.logits)
    expected.loss.backward()
    loss, grads = ng.jit(ng.value_and_grad(classification_loss))(ours, IDS, CLASSES, TYPES, MASK)
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)
    check_gradients(grads, theirs, {**names(), **modules(classifier="classifier")})


def test_older_names(tmp_path: pathlib.Path) -> None:
    """Folders converted from TensorFlow call the weight of a norm gamma and its bias beta, and may name the decoder's bias alone."""
    theirs = saved(BertForMaskedLM(hugging_face()), tmp_path)
    file = tmp_path / "model.safetensors"
    norms = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta", "predictions.bias": "predictions.decoder.bias"}
    renamed = {}
    for name, x in load_file(file).items():
        for new, old in norms.items():
            name = name.replace(new, old)
        renamed[name] = x
    save_file(renamed, file)
    close(ng.jit(lambda m: m.token_scores(m(IDS)))(BERT.from_pretrained(tmp_path)), theirs(INPUT["input_ids"]).logits)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_loss_curve_of_50_steps(dtype: str, tmp_path: pathlib.Path) -> None:
    theirs = saved(BertForPreTraining(hugging_face()), tmp_path)

    def batch(i: int) -> tuple[Any, ...]:
        rng = np.random.default_rng(i)
        ids = (rng.integers(0, 61, (6, 1)) + np.arange(12) * 3) % 61
        hidden = rng.random(ids.shape) < 0.3
        hidden[:, 2] = True
        mask = np.arange(12) < rng.integers(6, 13, (6, 1))
        return np.where(hidden, 60, ids), np.where(hidden, ids, -100), ids % 2, mask.astype(np.int64)

    def their_loss(m: Any, ids: Any, labels: Any, types: Any, mask: Any) -> Any:
        return m(input_ids=ids, token_type_ids=types, attention_mask=mask, labels=labels, next_sentence_label=ids[:, 0] % 2).loss

    def loss(m: BERT, ids: Any, labels: Any, types: Any, mask: Any) -> Any:
        pair = m.next_sentence_scores(m(ids, types, mask))
        return masked_loss(m, ids, labels, types, mask) + ng.nn.losses.cross_entropy(pair, ids[:, 0] % 2)

    check_curve(BERT.from_pretrained(tmp_path, dtype), loss, theirs, their_loss, batch, dtype)
