"""Batches in a shuffled order that seed and step decide, and a thread that makes them ahead of the training step."""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data.images import Images

Array = np.ndarray[Any, Any]
T = TypeVar("T")

# Different purposes draw from different streams of the same seed.
_ORDER, _AUGMENTATION = 1, 2


@functools.lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> Array:
    order = np.random.default_rng((_ORDER, seed, epoch)).permutation(count)
    order.flags.writeable = False
    return order


def batch_indices(count: int, size: int, seed: int, step: int) -> Array:
    """The examples of a batch, int64 [size] below count; a function of seed and step alone.

    Epoch after epoch in a new order, each example once an epoch. A batch that an epoch's end cuts short goes on with the
    next epoch, so that all batches are of one size. DataError if there is no example.
    """
    if count < 1 or size < 1:
        raise DataError(f"batches of {size} examples from {count} can't be made; both are at least 1")
    first = int(step) * size  # a NumPy integer would overflow
    last = first + size
    pieces = []
    for epoch in range(first // count, (last - 1) // count + 1):
        start = epoch * count
        pieces.append(_permutation(count, seed, epoch)[max(first - start, 0):last - start])
    return np.concatenate(pieces)


@dataclass(frozen=True, eq=False)
class Loader:
    """A loader makes batches of images, shuffled and augmented, each a function of its step alone: so a run resumes where it stopped."""

    images: Images
    size: int
    seed: int = 0
    augment: Callable[[np.random.Generator, Array], Array] | None = None

    def __call__(self, step: int) -> tuple[Array, Array]:
        """The batch of a step: pixels float32 [size, channels, height, width], labels int32 [size]."""
        rows = batch_indices(len(self.images), self.size, self.seed, step)
        pixels, labels = self.images.pixels[rows], self.images.labels[rows]
        if self.augment is not None:
            pixels = self.augment(np.random.default_rng((_AUGMENTATION, self.seed, step)), pixels)
        return pixels, labels


class Prefetch(Generic[T]):
    """A prefetch has a thread compute make(first_step), make(first_step + 1), ..., at most `depth` of them ahead.

    What `make` raises is raised by `next`, in its turn and with its own traceback, and ends the thread.
    """

    def __init__(self, make: Callable[[int], T], first_step: int = 0, depth: int = 2):
        if depth < 1:
            raise ValueError(f"at least one batch is made ahead, got the depth {depth}")
        #: Seconds that `next` has waited for the thread.
        self.waited = 0.0
        self._make, self._step, self._depth = make, first_step, depth
        self._ready: deque[T] = deque()
        self._failure: BaseException | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._first_call: float | None = None
        self._thread = threading.Thread(target=self._run, name="nagraph-prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._ready) < self._depth)
                if self._closed:
                    return
            try:
                made = self._make(self._step)
            except BaseException as failure:  # whatever it is, `next` must not wait for ever
                with self._changed:
                    self._failure = failure
                    self._changed.notify_all()
                return
            self._step += 1
            with self._changed:
                if not self._closed:
                    self._ready.append(made)
                self._changed.notify_all()
            del made  # or the thread would hold on to one more while it waits

    def next(self) -> T:
        """The next batch in order. ValueError after `close`."""
        start = time.perf_counter()
        if self._first_call is None:
            self._first_call = start
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._ready or self._failure is not None)
            self.waited += time.perf_counter() - start
            if self._closed:
                raise ValueError("this Prefetch is closed")
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
            assert self._failure is not None
            raise self._failure

    @property
    def share_waited(self) -> float:
        """The share of the time since the first `next` that was spent waiting, in [0, 1]."""
        if self._first_call is None:
            return 0.0
        return self.waited / (time.perf_counter() - self._first_call)

    def close(self) -> None:
        """Stop the thread, after the batch that it is making; what was made ahead is forgotten."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
