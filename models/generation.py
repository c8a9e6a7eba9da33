"""Generation: one symbol after another, each drawn from the model's distribution given those before it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import DataError
from nagraph.models.language_model import LanguageModel
from nagraph.transforms.eager import where_arrays_are

Array = Any

#: Ids that are read at once where there are many: enough for products of matrices, few enough for a short prompt.
BLOCK = 32
#: What decoders put in the place of bytes that are no character, or the beginning of one.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
#: The most bytes of a character in UTF-8, so the most tokens that it can be spread over.
LONGEST = 4


@dataclass(frozen=True)
class Sampling:
    """A sampling says how the next id is drawn: p = softmax(scores / temperature), among the likeliest alone.

    repetition_penalty: scores of ids in the text so far are divided by it where positive, else multiplied (Keskar et al. 2019).
    temperature 0 takes the likeliest. top_k: how many may be drawn; of equal scores the first count.
    top_p: of these, as few as together have this probability (the nucleus; Holtzman et al. 2020). DataError for other values.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise DataError(f"the temperature is at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise DataError(f"`top_k` is at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise DataError(f"`top_p` is greater than 0 and at most 1, got {self.top_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise DataError(f"the repetition penalty is a number greater than 0, got {self.repetition_penalty}")

    def probabilities(self, logits: Array, seen: Array) -> Array:
        """The probability of each id; seen: for each id, whether it occurs in the text so far. DataError unless all are finite."""
        if not np.isfinite(logits).all():
            raise DataError("the model's scores are not finite, so it can't continue the text")
        scores = np.asarray(logits, np.float64)
        with np.errstate(over="ignore"):  # a temperature close to 0 takes the likeliest as well
            if self.repetition_penalty != 1:
                penalised = np.where(scores < 0, scores * self.repetition_penalty, scores / self.repetition_penalty)
                scores = np.nan_to_num(np.where(seen, penalised, scores))
            best = scores.argmax()
            if self.temperature == 0:
                return (np.arange(scores.size) == best).astype(np.float64)
            p = np.exp((scores - scores[best]) / self.temperature)
        if self.top_k is not None:
            p[~likeliest(scores, self.top_k)] = 0
        if self.top_p is not None:
            sums = np.cumsum(np.sort(p[p > 0])[::-1])
            p[~likeliest(scores, int(np.searchsorted(sums, self.top_p * sums[-1])) + 1)] = 0
        return p / p.sum()

    def draw(self, logits: Array, seen: Array, rng: np.random.Generator) -> int:
        """An id with these probabilities."""
        p = self.probabilities(logits, seen)
        return int(p.argmax() if self.temperature == 0 else rng.choice(p.size, p=p))


def likeliest(scores: Array, count: int) -> Array:
    """For each score, whether it is among the `count` highest; of equal ones the first count."""
    if count >= scores.size:
        return np.ones(scores.size, bool)
    lowest = np.partition(scores, -count)[-count]
    chosen = scores > lowest
    chosen[np.flatnonzero(scores == lowest)[:count - np.count_nonzero(chosen)]] = True
    return chosen


def generate(model: LanguageModel, ids: Any, length: int, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None,
             repetition_penalty: float = 1.0, seed: int = 0, cache: bool = True, backend: str | None = None,
             threads: int | None = None) -> Iterator[int]:
    """`length` further ids after `ids`, each as soon as it is drawn, as `Sampling` says.

    The model sees a window of the text: the last ids of the prompt, as many as its context holds, and what follows, until the
    context is full; then the window begins anew with the last half of it. cache: keep the keys and values of the window, so
    that each id is read once; without, the window is read again for each. Up to rounding both give the same ids.
    DataError for an empty prompt, ids that are no symbols, options that `Sampling` can't have, logits that are not finite.
    """
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
    if not model.has_head:
        raise DataError("the model has no head, so it gives symbols no scores")
    known = [int(i) for i in np.asarray(ng.to_numpy(ids)).ravel()]
    if not known:
        raise DataError("generation needs at least one symbol to begin with")
    if not 0 <= min(known) <= max(known) < model.config.vocabulary:
        raise DataError(f"the prompt's ids must lie in [0, {model.config.vocabulary}), got {min(known)} to {max(known)}")
    reader = (Reader if cache else Rereader)(model, backend, threads)
    return _generate(reader, known, length, sampling, np.random.default_rng(seed), model.config)


def _generate(scores: Callable[[list[int]], Array], known: list[int], length: int, sampling: Sampling, rng: np.random.Generator,
              config: Any) -> Iterator[int]:
    seen = np.zeros(config.vocabulary, bool)
    seen[known] = True
    window = known[-config.context:]
    for _ in range(length):
        if len(window) > config.context:
            window = window[-max(1, config.context // 2):]
        chosen = sampling.draw(ng.to_numpy(scores(window)), seen, rng)
        seen[chosen] = True
        window.append(chosen)
        yield chosen


def exported_step(model: LanguageModel) -> tuple[Any, tuple[Any, ...]]:
    """The step of generation as something to export, and the specs of its arguments ids [1, 1], cache and start.

    It gives {"logits": [vocabulary], "next": cache}. The model is bound to it, and the cache given away: "next" may have its memory.
    """

    def step(model: Any, ids: Array, cache: Any, start: Array) -> dict[str, Any]:
        logits, cache = model.extend(ids, cache, start)
        return {"logits": logits[0, -1], "next": cache}

    cache = ng.eval_shape(lambda m: m.empty_cache(1), model)
    return ng.jit(step, donate_argnames="cache").bind(model), (ng.spec((1, 1), "i32"), cache, ng.spec((), "i32"))


@functools.lru_cache(maxsize=8)
def compiled(config: Any, backend: str | None, threads: int | None) -> tuple[Any, Any, Any]:
    """Three functions for models of one configuration, each compiled when it is first called, and for one shape.

    step: (model, ids [1, 1], cache, start) -> (logits [vocabulary], cache). fill: (model, ids [1, n], cache, start) -> cache,
    whose graph has no head, since nobody asks for logits. whole: (model, ids [context], last) -> logits [vocabulary].
    """

    def step(model: Any, ids: Array, cache: Any, start: Array) -> tuple[Array, Any]:
        logits, cache = model.extend(ids, cache, start)
        return logits[0, -1], cache

    def fill(model: Any, ids: Array, cache: Any, start: Array) -> Any:
        return model.extend(ids, cache, start)[1]

    def whole(model: Any, ids: Array, last: Array) -> Array:
        return ng.numpy.take(model(ids), last, axis=0)

    jit = functools.partial(ng.jit, backend=backend, threads=threads)
    return jit(step, donate_argnames="cache"), jit(fill, donate_argnames="cache"), jit(whole)


def exported_prefill(model: LanguageModel, time: int = BLOCK) -> tuple[Any, tuple[Any, ...]]:
    """What reads a prompt, as something to export beside `exported_step`, and the specs of its arguments ids [1, time], cache and start.

    It gives {"next": cache}, with these ids at the positions from `start` on.
    """

    def prefill(model: Any, ids: Array, cache: Any, start: Array) -> dict[str, Any]:
        return {"next": model.extend(ids, cache, start)[1]}

    cache = ng.eval_shape(lambda m: m.empty_cache(1), model)
    time = min(time, model.config.context)
    return ng.jit(prefill, donate_argnames="cache").bind(model), (ng.spec((1, time), "i32"), cache, ng.spec((), "i32"))


class Reader:
    """A reader gives the scores of the id after a window of ids. Of a window that begins with the one before, only what is new is read."""

    def __init__(self, model: Any, backend: str | None, threads: int | None):
        step, fill, _ = compiled(model.config, backend, threads)
        model = model if backend is None else ng.device_put(model, ng.backends.usable(backend).name)
        self._step, self._fill = step.bind(model), fill.bind(model)
        self._context = model.config.context
        self._cache = where_arrays_are(lambda m: m.empty_cache(1), model)
        self._read: list[int] = []

    def __call__(self, window: list[int]) -> Array:
        last, done = len(window) - 1, len(self._read)
        self._fill_up(window, done if window[:done] == self._read else 0, last)
        logits, self._cache = self._step(_ids(window[last:]), self._cache, np.array(last, np.int32))
        self._read = window.copy()
        return logits

    def _fill_up(self, window: list[int], first: int, last: int) -> None:
        """Read window[first:last] in blocks of one size.

        The last block is padded: what it writes from `last` on is written again before anybody looks at it. A block that does
        not fit into the context begins earlier, with ids that were read before.
        """
        size = min(BLOCK, self._context)
        for start in range(first, last, size):
            start = min(start, self._context - size)
            ids = _ids(window[start:min(start + size, last)], size)
            self._cache = self._fill(ids, self._cache, np.array(start, np.int32))


class Rereader:
    """A rereader gives the scores of the id after a window of ids, all of which it reads each time."""

    def __init__(self, model: Any, backend: str | None, threads: int | None):
        self._whole = compiled(model.config, backend, threads)[2].bind(model)
        self._context = model.config.context

    def __call__(self, window: list[int]) -> Array:
        return self._whole(_ids(window, self._context)[0], np.array(len(window) - 1, np.int32))


def _ids(known: list[int], size: int = 1) -> Array:
    """int32 [1, size]: the ids, and zeros after them."""
    ids = np.zeros((1, size), np.int32)
    ids[0, :len(known)] = known
    return ids


def stream(decode: Callable[[list[int]], str], ids: Iterable[int]) -> Iterator[str]:
    """The text of ids in pieces, each as soon as its characters are complete.

    decode: the text of several ids, with U+FFFD where bytes are no character; at its end these may be one yet. What is no
    character after as many ids as one can be spread over is never going to be.
    """
    kept: list[int] = []  # ids that what comes next is decoded with: spaces at a text's beginning, bytes of one character
    shown = waiting = 0
    for i in ids:
        kept.append(i)
        text = decode(kept)
        waiting = waiting + 1 if text.endswith(REPLACEMENT) else 0
        end = len(text.rstrip(REPLACEMENT)) if waiting < LONGEST else len(text)
        if end > shown:
            yield text[shown:end]
            shown = end
        if end == len(text):
            waiting = 0
            alone = decode([i])
            if REPLACEMENT not in alone:
                kept, shown = [i], len(alone)
    if kept and len(text := decode(kept)) > shown:
        yield text[shown:]
