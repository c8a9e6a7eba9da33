"""Tokens between characters and words: byte pairs (GPT-2) and word pieces (BERT), through the library `tokenizers`."""

from __future__ import annotations

import json
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from nagraph.errors import DataError
from nagraph.files import read_json, read_text
from nagraph.models.data.tokens import Ids, checked

#: The special tokens of BERT, in the order in which a trained vocabulary begins.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: The most numbers that a vocabulary may use.
MOST_TOKENS = 1 << 24


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise DataError("byte pairs and word pieces need the package tokenizers: pip install 'nagraph[text]'") from None
    return tokenizers


def _asked(failure: str, call: Callable[[], Any]) -> Any:
    """The result of a call into the library, which raises plain `Exception`; a DataError says what failed, and why."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001
        raise DataError(f"{failure}: {' '.join(str(error).split())}") from None


class Subwords:
    """Subwords are a tokenizer of the library, used without padding, cutting and added special tokens: what both kinds share."""

    kind: ClassVar[str]

    def __init__(self, inner: Any):
        inner.no_padding()
        inner.no_truncation()
        vocabulary = inner.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise DataError("a tokenizer without tokens can't be used")
        self._inner = inner
        self._size: int = max(vocabulary.values()) + 1  # ids may have holes

    @property
    def size(self) -> int:
        return self._size

    def encode(self, text: str) -> Ids:
        """DataError for half a surrogate pair, the one kind of string that is no text."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"character {error.start} is {text[error.start]!r}, half a surrogate pair, which is no text") from None
        found = _asked(f"this text can't be written in {self.kind}", lambda: self._inner.encode(text, add_special_tokens=False))
        return np.array(found.ids, np.int32)

    def decode(self, ids: Any) -> str:
        text: str = self._inner.decode(checked(ids, self.size).tolist(), skip_special_tokens=False)
        return text

    def token(self, number: int) -> str:
        """How a token is written in the vocabulary."""
        (known,) = checked([number], self.size).tolist()
        written: str | None = self._inner.id_to_token(known)
        if written is None:
            raise DataError(f"token {number} is a hole in the vocabulary")
        return written

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokenizer": json.loads(self._inner.to_str())}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        if not isinstance(found.get("tokenizer"), dict):
            raise DataError(f"a tokenizer of {cls.kind} holds the contents of a tokenizer.json; this one does not")
        return cls(_described(f"the description of {cls.kind}", found["tokenizer"]))


class BytePairs(Subwords):
    """Byte pairs are bytes, and the pairs that were most frequent when they were merged (byte-level BPE): any text, back without loss.

    Source: Sennrich et al. 2016; Radford et al. 2019.
    """

    kind = "byte-pairs"

    def __init__(self, inner: Any):
        facts = json.loads(inner.to_str())
        before = facts.get("pre_tokenizer") or {}
        if facts["model"].get("type") != "BPE" or "ByteLevel" not in [p.get("type") for p in before.get("pretokenizers", [before])]:
            raise DataError("byte pairs need a byte-level BPE tokenizer; this is another one")
        super().__init__(inner)

    @classmethod
    def train(cls, texts: Sequence[str], size: int = 8192) -> Self:
        """At most `size` tokens, 256 of them the bytes; the same texts give the same tokens."""
        if size < 256:
            raise DataError(f"byte pairs need at least 256 tokens, one for each byte; got {size}")
        library = _library()
        inner = library.Tokenizer(library.models.BPE())
        inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        inner.train_from_iterator(texts, library.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
        return cls(inner)

    @classmethod
    def load(cls, path: str | pathlib.Path) -> Self:
        """From a tokenizer.json, or a folder that has one."""
        return cls(_load_json(pathlib.Path(path)))


class WordPieces(Subwords):
    """Word pieces are words and punctuation, cut into the longest pieces known, as in BERT; pieces that go on begin with ##.

    Spaces and line ends are lost. Control characters are dropped; `lowercase` drops case and accents.
    Source: Schuster and Nakajima 2012; Devlin et al. 2019.
    """

    kind = "word-pieces"

    def __init__(self, inner: Any):
        if json.loads(inner.to_str())["model"].get("type") != "WordPiece":
            raise DataError("word pieces need a WordPiece tokenizer; this is another one")
        missing = [s for s in SPECIAL if inner.token_to_id(s) is None]
        if missing:
            raise DataError(f"word pieces need the special tokens {' '.join(SPECIAL)}; this tokenizer lacks {' '.join(missing)}")
        super().__init__(inner)
        self.pad, self.unknown, self.cls, self.sep, self.mask = self.special = tuple(map(inner.token_to_id, SPECIAL))

    @classmethod
    def train(cls, texts: Sequence[str], size: int = 8192, lowercase: bool = False) -> Self:
        """At most `size` tokens and the alphabet of the texts; the same texts give the same tokens."""
        if size <= len(SPECIAL):
            raise DataError(f"word pieces need more than the {len(SPECIAL)} special tokens; got {size}")
        # The library numbers pieces like ##x as it meets them in a hash table, and breaks ties by number: two runs differ.
        # Which of them there are does not vary, so they are found first, then numbered in order before the real training.
        found = _train_pieces(texts, 0, [], lowercase)
        parts = sorted(p for p in found if p.startswith("##") and len(p) == 3)
        trained = _train_pieces(texts, size, parts, lowercase)
        return cls(_pieces([*SPECIAL, *(p for p in trained if p not in SPECIAL)], lowercase))

    @classmethod
    def of(cls, pieces: Sequence[str], lowercase: bool = False) -> Self:
        """Those with this vocabulary, numbered in its order."""
        return cls(_pieces(pieces, lowercase))

    @classmethod
    def load(cls, path: str | pathlib.Path, lowercase: bool | None = None) -> Self:
        """From a tokenizer.json or vocab.txt, or a folder that has one.

        vocab.txt does not say whether case counts: `lowercase`, else tokenizer_config.json beside it, else lower case as in BERT.
        """
        place = pathlib.Path(path)
        if place.is_dir():
            place = place / ("tokenizer.json" if (place / "tokenizer.json").exists() else "vocab.txt")
        if place.suffix == ".json":
            return cls(_load_json(place))
        pieces = read_text(place, DataError).removesuffix("\n").split("\n")
        (most, times), = Counter(pieces).most_common(1)
        if times > 1:
            raise DataError(f"{place} lists {most!r} {times} times; each token has one number")
        return cls(_pieces(pieces, _lowercase_beside(place) if lowercase is None else lowercase))


def _pieces(pieces: Sequence[str], lowercase: bool) -> Any:
    """A tokenizer with this vocabulary, numbered in its order."""
    library = _library()
    vocabulary = {p: i for i, p in enumerate(pieces)}
    inner = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    inner.normalizer = library.normalizers.BertNormalizer(lowercase=lowercase)
    inner.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    inner.decoder = library.decoders.WordPiece(prefix="##", cleanup=False)
    inner.add_special_tokens([s for s in SPECIAL if s in vocabulary])
    return inner


def _train_pieces(texts: Sequence[str], size: int, first: Sequence[str], lowercase: bool) -> list[str]:
    """The trained vocabulary, in order, `first` after the special tokens."""
    library = _library()
    inner = _pieces(["[UNK]"], lowercase)
    trainer = library.trainers.WordPieceTrainer(vocab_size=size, special_tokens=[*SPECIAL, *first], show_progress=False)
    inner.train_from_iterator(texts, trainer)
    vocabulary = inner.get_vocab(with_added_tokens=False)
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _load_json(path: pathlib.Path) -> Any:
    place = path / "tokenizer.json" if path.is_dir() else path
    return _described(place, read_json(place, DataError))


def _described(what: Any, found: dict[str, Any]) -> Any:
    """The library's tokenizer of this description."""
    library = _library()
    model, added = found.get("model"), found.get("added_tokens")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    numbers = [*vocabulary.values()] if isinstance(vocabulary, dict) else []
    numbers += [t.get("id") for t in added if isinstance(t, dict)] if isinstance(added, list) else []
    # The library goes through all numbers up to the largest one.
    if odd := [n for n in numbers if type(n) is not int or not 0 <= n < MOST_TOKENS]:
        raise DataError(f"{what} can't be read as a tokenizer: tokens are numbered from 0 to {MOST_TOKENS - 1:,}, not {odd[0]!r:.80}")
    return _asked(f"{what} can't be read as a tokenizer", lambda: library.Tokenizer.from_str(json.dumps(found)))


def _lowercase_beside(path: pathlib.Path) -> bool:
    """What tokenizer_config.json beside a vocabulary says about case."""
    place = path.parent / "tokenizer_config.json"
    return bool(read_json(place, DataError).get("do_lower_case", True)) if place.exists() else True
