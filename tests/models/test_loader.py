"""The loader: the order of the examples, resuming, and the thread that makes batches ahead."""

from __future__ import annotations

import threading
import time
import traceback
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.augment import Augmentation
from nagraph.models.data.images import Images
from nagraph.models.data.loader import Loader, Prefetch, batch_indices


def images(n: int = 23) -> Images:
    pixels = np.random.default_rng(0).random((n, 1, 6, 6), np.float32)
    return Images(pixels, np.arange(n, dtype=np.int32), tuple(map(str, range(n))))


@pytest.mark.parametrize("count, size", [(23, 5), (24, 6), (5, 5), (4, 11), (1, 3), (7, 1)])
def test_every_example_once_an_epoch(count: int, size: int) -> None:
    steps = count * 3  # size epochs, three times
    found = [batch_indices(count, size, 7, step) for step in range(steps)]
    assert all(b.shape == (size,) and b.dtype == np.int64 for b in found)
    for epoch in np.concatenate(found).reshape(-1, count):
        assert sorted(epoch) == list(range(count))


def test_the_order_is_of_seed_and_step_alone() -> None:
    one = batch_indices(1000, 50, 3, 31)
    np.random.seed(0)
    batch_indices(1000, 50, 4, 2)
    assert np.array_equal(one, batch_indices(1000, 50, 3, 31))
    assert not np.array_equal(one, batch_indices(1000, 50, 4, 31))
    assert not np.array_equal(one, batch_indices(1000, 50, 3, 11)), "the next epoch has another order"
    assert not np.array_equal(one, np.sort(one))
    one[:] = 0
    assert batch_indices(1000, 50, 3, 31).any(), "what is given out is a copy"
    assert batch_indices(3, 2, 0, np.int32(2**31 - 1)).shape == (2,)


@pytest.mark.parametrize("count, size", [(0, 4), (4, 0)])
def test_no_examples_no_batches(count: int, size: int) -> None:
    with pytest.raises(DataError, match=f"batches of {size} examples from {count} can't be made; both are at least 1"):
        batch_indices(count, size, 0, 0)


def test_a_loader_resumes_in_mid_epoch() -> None:
    def loader() -> Loader:
        return Loader(images(), 4, seed=5, augment=Augmentation(shift=1, rotation=10, flip=True))

    with Prefetch(loader()) as whole:
        batches = [whole.next() for _ in range(15)]
    with Prefetch(loader(), first_step=8) as rest:
        for pixels, labels in batches[8:]:
            again = rest.next()
            assert np.array_equal(pixels, again[0]) and np.array_equal(labels, again[1])
    assert pixels.dtype == np.float32 and pixels.shape == (4, 1, 6, 6) and labels.dtype == np.int32
    other = Loader(images(), 4, seed=6, augment=loader().augment)(14)
    assert not np.array_equal(other[1], labels) and not np.array_equal(other[0], pixels)


def test_an_image_is_augmented_anew_every_time() -> None:
    loader = Loader(images(1), 1, augment=Augmentation(rotation=30))
    assert len({loader(step)[0].tobytes() for step in range(10)}) == 10


def test_without_augmentation_images_keep_their_labels() -> None:
    data = images()
    pixels, labels = Loader(data, 10, seed=1)(3)
    assert np.array_equal(pixels, data.pixels[labels])


def test_batches_come_in_order_and_at_most_so_many_ahead() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step

    with Prefetch(make, first_step=10, depth=3) as ahead:
        for step in range(10, 60):
            assert ahead.next() == step
        until(lambda: len(made) == 53)
        time.sleep(0.02)
        assert made == list(range(10, 63)), "three are ready, and none is made beyond"


def until(holds: Any) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "waited for ten seconds"
        time.sleep(0.001)


def test_what_is_made_ahead_is_not_waited_for() -> None:
    made: list[int] = []
    with Prefetch(lambda step: made.append(step) or step, depth=4) as ahead:  # type: ignore[func-returns-value]
        assert ahead.waited == 0 and ahead.share_waited == 0
        until(lambda: len(made) == 4)
        time.sleep(0.01)
        for _ in range(3):
            ahead.next()
        time.sleep(0.2)
        assert ahead.waited < 0.1 and ahead.share_waited < 0.5


def test_waiting_is_measured() -> None:
    def slow(step: int) -> int:
        time.sleep(0.03)
        return step

    with Prefetch(slow) as ahead:
        assert [ahead.next() for _ in range(4)] == [0, 1, 2, 3]
        assert ahead.waited > 0.08 and 0.5 < ahead.share_waited <= 1


def test_the_thread_works_while_the_caller_does() -> None:
    started = threading.Event()

    def make(step: int) -> int:
        if step == 1:
            started.set()
        return step

    with Prefetch(make, depth=1) as ahead:
        ahead.next()
        assert started.wait(10), "batch 1 is begun before it is asked for"


def test_an_error_in_the_thread_comes_in_its_turn_with_its_traceback() -> None:
    def fails_at_two(step: int) -> int:
        if step == 2:
            raise DataError("picture 2 is damaged")
        return step

    with Prefetch(fails_at_two, depth=5) as ahead:
        assert [ahead.next(), ahead.next()] == [0, 1]
        for _ in range(2):
            with pytest.raises(DataError, match="picture 2 is damaged") as caught:
                ahead.next()
            assert "fails_at_two" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert not ahead._thread.is_alive()


def test_closing_stops_the_thread() -> None:
    before = threading.active_count()
    ahead = Prefetch(lambda step: step)
    assert ahead._thread.daemon and ahead.next() == 0
    ahead.close()
    ahead.close()
    assert not ahead._thread.is_alive() and threading.active_count() == before
    with pytest.raises(ValueError, match="this Prefetch is closed"):
        ahead.next()


def test_an_error_of_the_caller_closes_it() -> None:
    with pytest.raises(KeyError), Prefetch(lambda step: step) as ahead:
        raise KeyError
    assert not ahead._thread.is_alive()


def test_closing_wakes_a_thread_that_waits_for_a_batch() -> None:
    release = threading.Event()
    ahead = Prefetch(lambda step: release.wait(10))
    errors: list[Exception] = []

    def wait() -> None:
        try:
            ahead.next()
        except ValueError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    closing = threading.Thread(target=ahead.close)
    until(lambda: ahead._first_call is not None)
    closing.start()
    waiting.join(10)
    assert not waiting.is_alive() and str(errors[0]) == "this Prefetch is closed"
    release.set()
    closing.join(10)
    assert not ahead._thread.is_alive()


def test_what_was_made_ahead_is_forgotten_on_close() -> None:
    ahead = Prefetch(lambda step: np.zeros(10), depth=3)
    until(lambda: len(ahead._ready) == 3)
    ahead.close()
    assert not ahead._ready


def test_a_batch_that_is_in_the_making_on_close_is_forgotten_too() -> None:
    begun, release = threading.Event(), threading.Event()

    def make(step: int) -> int:
        begun.set()
        release.wait(10)
        return step

    ahead = Prefetch(make)
    assert begun.wait(10)
    closing = threading.Thread(target=ahead.close)
    closing.start()
    until(lambda: ahead._closed)
    release.set()
    closing.join(10)
    assert not closing.is_alive() and not ahead._ready


def test_a_depth_of_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least one batch is made ahead, got the depth 0"):
        Prefetch(lambda step: step, depth=0)
