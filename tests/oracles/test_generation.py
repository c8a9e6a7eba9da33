"""Generation beside Hugging Face's: what may be drawn, with which probability, and the greedy text of a GPT-2."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from nagraph.models.data.subwords import BytePairs
from nagraph.models.generation import Sampling, generate
from nagraph.models.gpt2 import GPT2
from tests.cli.running import run


@pytest.mark.parametrize("options", [
    {}, {"temperature": 0.6}, {"temperature": 3.0}, {"top_k": 1}, {"top_k": 7}, {"top_k": 500}, {"top_p": 1e-6}, {"top_p": 0.3},
    {"top_p": 0.95}, {"repetition_penalty": 1.4}, {"repetition_penalty": 0.5},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "repetition_penalty": 1.2}, {"temperature": 1.7, "top_k": 5, "top_p": 0.6},
], ids=str)
def test_probabilities(options: dict[str, Any]) -> None:
    """The processors in the order of `model.generate`."""
    kinds = {"repetition_penalty": RepetitionPenaltyLogitsProcessor, "temperature": TemperatureLogitsWarper,
             "top_k": TopKLogitsWarper, "top_p": TopPLogitsWarper}
    theirs = LogitsProcessorList([kind(options[name]) for name, kind in kinds.items() if name in options])
    rng = np.random.default_rng(0)
    for _ in range(20):
        logits, known = 3 * rng.normal(size=50), rng.integers(0, 50, 30)
        expected = torch.softmax(theirs(torch.tensor(known[None]), torch.tensor(logits[None])), -1)[0].numpy()
        found = Sampling(**options).probabilities(logits, np.isin(np.arange(50), known))
        np.testing.assert_array_equal(found > 0, expected > 0)
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("length", [1, 5, 39])
def test_the_likeliest_text(penalty: float, length: int, tmp_path: pathlib.Path) -> None:
    """Token for token, up to the border of the context."""
    torch.manual_seed(length)
    config = GPT2Config(vocab_size=61, n_positions=80, n_embd=24, n_layer=2, n_head=3, bos_token_id=None, eos_token_id=None)
    theirs = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.mul_(8)
    theirs.save_pretrained(tmp_path)
    ids = np.random.default_rng(length).integers(0, 61, (1, length))
    more = 80 - length
    given = torch.tensor(ids)
    expected = theirs.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=more, do_sample=False, pad_token_id=0,
                               repetition_penalty=penalty)[0, length:].tolist()
    ours = GPT2.from_pretrained(tmp_path)
    assert len(expected) == more and len(set(expected)) > 3, "the text does not repeat one symbol"
    for cache in (True, False):
        assert list(generate(ours, ids, more, temperature=0, repetition_penalty=penalty, cache=cache)) == expected


def test_the_command_continues_a_text_with_a_folder_of_hugging_face(tmp_path: pathlib.Path) -> None:
    """The greedy text of `model.generate`, by the tokenizer beside the model; a tokenizer of another size is refused."""
    tokenizer = BytePairs.train(["the cat sat on the mat and the dog ran " * 20], 280)
    torch.manual_seed(0)
    sizes = dict(n_positions=64, n_embd=24, n_layer=2, n_head=3, bos_token_id=None, eos_token_id=None)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=tokenizer.size, **sizes)).eval()
    theirs.save_pretrained(tmp_path)
    assert "holds no tokenizer" in run("generate", tmp_path, "--prompt", "the cat").one_sentence()
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer.to_json()["tokenizer"]))
    found = run("generate", tmp_path, "--prompt", "the cat", "--length", 12, "--temperature", 0)
    ids = tokenizer.encode("the cat")
    expected = theirs.generate(torch.tensor(ids[None].astype(np.int64)), max_new_tokens=12, do_sample=False, pad_token_id=0)[0, len(ids):]
    assert found.code == 0 and found.out == "the cat" + tokenizer.decode(expected.numpy()) + "\n"
    other = tmp_path / "other"
    GPT2LMHeadModel(GPT2Config(vocab_size=tokenizer.size + 1, **sizes)).save_pretrained(other)
    (other / "tokenizer.json").write_bytes((tmp_path / "tokenizer.json").read_bytes())
    assert "use the one that it was trained with" in run("generate", other, "--prompt", "the cat").one_sentence()
