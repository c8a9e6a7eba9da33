"""Trained models in folders: what `nagraph train` left there, or a Hugging Face folder."""

from __future__ import annotations

import pathlib
from typing import Any

from nagraph import models
from nagraph.errors import DataError
from nagraph.models import CLASSES, hugging_face
from nagraph.models.data.tokenization import check_fits, load_tokenizer
from nagraph.models.data.tokens import Tokenizer
from nagraph.models.language_model import LanguageModel
from nagraph.models.tasks.language import LanguageTask
from nagraph.models.training import load_model


def load_language_model(folder: pathlib.Path) -> tuple[LanguageModel, Tokenizer]:
    """The language model in a folder, and its tokenizer. DataError if the model there writes no text."""
    if not (folder / "config.json").exists():
        model, task = load_model(folder)
        if not isinstance(task, LanguageTask):
            raise _writes_no_text(folder, task.name)
        return model, task.tokenizer
    name = hugging_face.read_type(folder)
    kind: Any = getattr(models, CLASSES[name]) if name in CLASSES else None
    if kind is None or not issubclass(kind, LanguageModel):
        raise _writes_no_text(folder, name)
    tokenizer = load_tokenizer(folder)
    pretrained = kind.from_pretrained(folder)
    check_fits(tokenizer, pretrained.config.vocabulary, folder)
    return pretrained, tokenizer


def _writes_no_text(folder: pathlib.Path, name: str) -> DataError:
    writing = [known for known, kind in CLASSES.items() if issubclass(getattr(models, kind), LanguageModel)]
    return DataError(f"{folder} holds a model of type {name!r}, which writes no text; {' and '.join(writing)} do")
