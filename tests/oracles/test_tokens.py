"""Tokens beside Hugging Face's: the same ids from folders that transformers wrote, and from vocabularies of both kinds."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tokenizers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

from nagraph.models.data.corpus import standard_library
from nagraph.models.data.subwords import BytePairs, WordPieces
from nagraph.models.data.tokenization import load_tokenizer

TEXTS = [d.text for d in standard_library() if d.name.startswith(("json/", "logging/"))]
HARD = ["", "a\0b", "  x\r\n\ty  ", "naïve CAFÉ e\u0301", "日本語 kana", "😀👩\u200d👩\u200d👧", "<|endoftext|> [MASK]", TEXTS[0]]


def gpt2_like() -> Any:
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(TEXTS, tokenizers.trainers.BpeTrainer(vocab_size=600, special_tokens=["<|endoftext|>"],
                                                                    initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>")


def test_byte_pairs_that_transformers_wrote(tmp_path: pathlib.Path) -> None:
    theirs = gpt2_like()
    theirs.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    assert ours.kind == "byte-pairs" and ours.size == len(theirs)
    for text in HARD:
        ids = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text).tolist() == ids
        assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False) == text


@pytest.mark.parametrize("lowercase", [False, True])
def test_word_pieces_both_ways(lowercase: bool, tmp_path: pathlib.Path) -> None:
    ours = WordPieces.train(TEXTS, 700, lowercase)
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{ours.token(i)}\n" for i in range(ours.size)), encoding="utf-8")
    theirs = BertTokenizerFast(vocab={ours.token(i): i for i in range(ours.size)}, do_lower_case=lowercase)
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = load_tokenizer(tmp_path / "theirs")
    from_text = WordPieces.load(path, lowercase)
    assert ours.size == len(theirs) == loaded.size == from_text.size
    for text in HARD:
        ids = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text).tolist() == loaded.encode(text).tolist() == from_text.encode(text).tolist() == ids


@pytest.mark.parametrize("made", [BytePairs, WordPieces])
def test_transformers_reads_what_is_stored(made: Any) -> None:
    ours = made.train(TEXTS, 500)
    inner = tokenizers.Tokenizer.from_str(json.dumps(ours.to_json()["tokenizer"]))
    theirs = PreTrainedTokenizerFast(tokenizer_object=inner)
    for text in HARD:
        assert np.array_equal(ours.encode(text), theirs.encode(text, add_special_tokens=False))


def test_padding_and_cutting_that_a_file_asks_for_are_not_done(tmp_path: pathlib.Path) -> None:
    theirs = gpt2_like()
    theirs.backend_tokenizer.enable_padding(length=50)
    theirs.backend_tokenizer.enable_truncation(3)
    theirs.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours = load_tokenizer(tmp_path)
    assert ours.decode(ours.encode("a text of many tokens")) == "a text of many tokens"
