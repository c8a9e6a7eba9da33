"""Tokenizers of every kind: trained on texts, read from the JSON of a checkpoint, or loaded from a Hugging Face folder."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from nagraph.errors import DataError
from nagraph.files import read_json, short
from nagraph.models.data.subwords import BytePairs, WordPieces
from nagraph.models.data.tokens import Bytes, Characters, Tokenizer

KINDS = ("characters", "bytes", "byte-pairs", "word-pieces")


def train_tokenizer(kind: str, texts: Sequence[str], size: int = 8192, lowercase: bool = False) -> Tokenizer:
    """A tokenizer of one of the KINDS for these texts: a function of its arguments alone.

    Byte pairs and word pieces have at most `size` tokens; only word pieces know `lowercase`.
    """
    if kind == "characters":
        return Characters.of(texts)
    if kind == "bytes":
        return Bytes()
    if kind == "byte-pairs":
        return BytePairs.train(texts, size)
    if kind == "word-pieces":
        return WordPieces.train(texts, size, lowercase)
    raise DataError(f"unknown kind of tokens {kind!r}; there is {', '.join(KINDS)}")


def tokenizer_from_json(found: Any) -> Tokenizer:
    """The tokenizer that a `to_json` describes. DataError for anything else."""
    kind = found.get("kind") if isinstance(found, dict) else None
    for known in (Characters, Bytes, BytePairs, WordPieces):
        if kind == known.kind:
            made: Tokenizer = known.from_json(found)
            return made
    raise DataError(f"a tokenizer of kind {short(kind)!r} is not known; there is {', '.join(KINDS)}")


def load_tokenizer(folder: str | pathlib.Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder: tokenizer.json (byte pairs or word pieces) or, without it, vocab.txt (word pieces)."""
    root = pathlib.Path(folder)
    path = root / "tokenizer.json"
    if path.exists():
        kind = model_of(path)
        if kind not in ("BPE", "WordPiece"):
            raise DataError(f"{path} is a tokenizer of type {kind!r}; BPE and WordPiece can be read")
        return BytePairs.load(root) if kind == "BPE" else WordPieces.load(root)
    if (root / "vocab.txt").exists():
        return WordPieces.load(root)
    raise DataError(f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.txt")


def model_of(path: pathlib.Path) -> Any:
    """The type of model that a tokenizer.json names."""
    model = read_json(path, DataError).get("model")
    if not isinstance(model, dict):
        raise DataError(f"{path} is no tokenizer.json: it describes no model")
    return model.get("type")


def check_fits(tokenizer: Tokenizer, vocabulary_size: int, where: str | pathlib.Path, kind: str | None = None) -> None:
    """DataError unless the tokenizer has as many tokens as the model at `where`, and is of that kind where one is given."""
    if kind is not None and tokenizer.kind != kind:
        raise DataError(f"{where} was trained on {kind}, but the tokenizer is one of {tokenizer.kind}; "
                        "use the one that it was trained with")
    if tokenizer.size != vocabulary_size:
        raise DataError(f"{where} has a vocabulary of {vocabulary_size:,}, but the tokenizer ({tokenizer.kind}) has {tokenizer.size:,} "
                        "tokens; use the one that it was trained with")
