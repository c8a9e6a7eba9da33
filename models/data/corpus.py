"""Texts as documents, parts of which are held out by file, and both parts as tokens, to train language models on."""

from __future__ import annotations

import hashlib
import math
import pathlib
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data.files import Document, decode, read
from nagraph.models.data.tokenization import train_tokenizer
from nagraph.models.data.tokens import Tokenizer, encode_long

Ids = np.ndarray[Any, Any]
#: Folders of the standard library that are left out: tests, data, and what was installed beside it.
LEFT_OUT = {"test", "tests", "idle_test", "pydoc_data", "encodings", "site-packages", "dist-packages", "_bundled", "__pycache__"}
#: Files that the build of a Python writes, so that each machine has others.
BUILT = ("_sysconfigdata", "config-")
STANDARD_LIBRARY = "Python's standard library"
#: What a document is followed by.
END = "\n"


def library_files() -> list[tuple[str, pathlib.Path]]:
    """The sources of the standard library by their path in it, sorted. DataError for a Python without."""
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    found = []
    for path in root.rglob("*.py"):
        inside = path.relative_to(root)
        if not LEFT_OUT.intersection(inside.parts[:-1]) and not any(part.startswith(BUILT) for part in inside.parts):
            found.append((inside.as_posix(), path))
    if not found:
        raise DataError("this Python ships without the sources of its standard library, the default text; name a text with --data")
    return sorted(found)


def standard_library() -> list[Document]:
    """The sources of Python's standard library, about 10 MB of code that every Python has, in the order of their paths."""
    return [Document(name, decode(path, raw)) for name, path in library_files() if (raw := path.read_bytes())]


def folder(path: str | pathlib.Path) -> list[Document]:
    """The user's own: the text files of a folder, or one file. DataError for what is no text."""
    return read(path)


def split_by_file(documents: Sequence[Document], share: float = 0.1, seed: int = 0) -> tuple[list[Document], list[Document]]:
    """Train and held out, whole documents drawn at random, both in their order: as near to the share of bytes as that draw comes.

    A document's place in the draw follows from its name and the seed, so that a corpus with a few files more, such as
    another version of Python, holds out nearly the same ones. DataError for fewer than two documents.
    """
    _check_share(share)
    if len(documents) < 2:
        raise DataError(f"to hold out files takes at least two of them, got {len(documents)}")
    names = [d.name.encode("utf-8", "surrogateescape") for d in documents]
    drawn = sorted(range(len(names)), key=lambda i: (hashlib.sha256(b"%d %s" % (seed, names[i])).digest(), i))
    held = np.cumsum([documents[i].nbytes for i in drawn])
    chosen = set(drawn[:1 + int(np.argmin(np.abs(held[:-1] - share * held[-1])))])
    return ([d for i, d in enumerate(documents) if i not in chosen], [d for i, d in enumerate(documents) if i in chosen])


def split_at_end(document: Document, share: float = 0.1) -> tuple[Document, Document]:
    """Train and held out of one document: its end, after the line end next to the share of characters if there is one near."""
    _check_share(share)
    text = document.text
    wanted = len(text) - max(1, round(len(text) * share))
    if wanted < 1:
        raise DataError(f"{document.name} is too short to hold out a part: it has {len(text)} characters")
    line = text.find("\n", wanted - 1, wanted + (len(text) - wanted) // 2) + 1
    cut = line or wanted
    return Document(document.name, text[:cut]), Document(document.name, text[cut:])


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise DataError(f"the share held out must lie between 0 and 1, got {share}")


@dataclass(frozen=True, eq=False)
class TokenText:
    """A token text is texts as tokens, a part of them held out.

    train, held_out: [tokens], of the smallest dtype. source: where it came from, in words. sha256: of both parts as UTF-8.
    bytes_train, bytes_held_out: the lengths in UTF-8 of what the tokens stand for.
    """

    train: Ids
    held_out: Ids
    tokenizer: Tokenizer
    source: str
    sha256: str
    bytes_train: int
    bytes_held_out: int

    @property
    def size(self) -> int:
        """The number of different tokens."""
        return self.tokenizer.size

    def encode(self, text: str) -> Ids:
        return self.tokenizer.encode(text)

    def decode(self, ids: Any) -> str:
        return self.tokenizer.decode(ids)

    def bits_a_byte(self, nats: float) -> float:
        """A mean loss in nats a held-out token, in bits a byte: comparable whatever the tokens."""
        return nats / math.log(2) * len(self.held_out) / self.bytes_held_out


def as_tokens(train: Sequence[Document], held_out: Sequence[Document], tokenizer: Tokenizer, source: str) -> TokenText:
    """Both parts as tokens, each document followed by a line end. DataError for a part without tokens."""
    digest = hashlib.sha256()
    parts, sizes = [], []
    for name, documents in (("train", train), ("held out", held_out)):
        ids = [encode_long(tokenizer, d.text + END) for d in documents]
        parts.append(ids[0] if len(ids) == 1 else np.concatenate([encode_long(tokenizer, ""), *ids]))
        if not len(parts[-1]):
            raise DataError(f"{source} has no tokens in the part {name}")
        sizes.append(sum(d.nbytes + len(END) for d in documents))
        digest.update(sizes[-1].to_bytes(8, "little"))
        for d in documents:
            digest.update((d.text + END).encode("utf-8", "surrogatepass"))
    return TokenText(parts[0], parts[1], tokenizer, source, digest.hexdigest(), sizes[0], sizes[1])


def load(path: str | pathlib.Path | None, tokens: str | Tokenizer = "bytes", size: int = 8192, context: int = 128,
         share: float = 0.1, seed: int = 0) -> TokenText:
    """A file (its end held out), a folder or, for None, the standard library (files held out), with room for `context` in each part.

    `tokens` is a tokenizer, or a kind of them to train on the part that is not held out (characters: on both).
    """
    documents, source = (standard_library(), STANDARD_LIBRARY) if path is None else (folder(path), str(path))
    train, held_out = split_by_file(documents, share, seed) if len(documents) > 1 else _ends(documents[0], share)
    if isinstance(tokens, str):
        seen = [] if tokens == "bytes" else documents if tokens == "characters" else train
        tokens = train_tokenizer(tokens, [d.text + END for d in seen], size)
    del documents  # the whole of a long text, beside its parts
    text = as_tokens(train, held_out, tokens, source)
    for name, ids in (("to train on", text.train), ("to hold out", text.held_out)):
        if len(ids) < context + 1:
            raise DataError(f"{source} has {len(ids):,} tokens {name}; a context of {context} needs at least {context + 1:,}")
    return text


def _ends(document: Document, share: float) -> tuple[list[Document], list[Document]]:
    train, held_out = split_at_end(document, share)
    return [train], [held_out]
