"""Augmentation: nothing is lost or made up, amounts are kept to, and zero amounts change no bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nagraph.errors import DataError
from nagraph.models.data.augment import Augmentation, affine, crop, flip, normalise, shift, statistics, warp

Array = np.ndarray[Any, Any]


def pictures(n: int = 20, channels: int = 3, height: int = 9, width: int = 7) -> Array:
    return np.random.default_rng(0).uniform(0.1, 1, (n, channels, height, width)).astype(np.float32)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


ZERO: dict[str, Callable[[Array], Array]] = {
    "shift": lambda x: shift(rng(), x, 0),
    "crop": lambda x: crop(rng(), x, 0),
    "flip": lambda x: flip(rng(), x, 0.0),
    "affine": lambda x: affine(rng(), x),
    "normalise": lambda x: normalise(x, 0, 1),
    "all": lambda x: Augmentation()(rng(), x),
}


@pytest.mark.parametrize("name", ZERO)
@pytest.mark.parametrize("height, width", [(8, 8), (9, 7), (1, 5)])
def test_zero_amounts_change_no_bit(name: str, height: int, width: int) -> None:
    x = pictures(height=height, width=width)
    y = ZERO[name](x)
    assert y.dtype == np.float32 and y.tobytes() == x.tobytes()


@pytest.mark.parametrize("augment", [
    lambda r, x: shift(r, x, 2), lambda r, x: crop(r, x, 2), flip, lambda r, x: affine(r, x, 30, 0.2, 1.5),
    Augmentation(shift=1, rotation=10, scale=0.1, flip=True, crop=1)])
def test_a_pure_function_of_the_generator(augment: Callable[[np.random.Generator, Array], Array]) -> None:
    x = pictures(40)
    kept = x.copy()
    one, again, other = augment(rng(5), x), augment(rng(5), x), augment(rng(6), x)
    assert np.array_equal(x, kept), "the input is left alone"
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert one.shape == x.shape and one.dtype == np.float32
    assert one.min() >= 0 and one.max() <= 1 + 1e-6


def test_shift_moves_by_whole_pixels_and_zeros_come_in() -> None:
    x = pictures(500, 2)
    y = shift(rng(), x, 2)
    seen = set()
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    for before, after in zip(padded, y):
        found = [(i, j) for i in range(5) for j in range(5) if np.array_equal(before[:, i:i + 9, j:j + 7], after)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 25, "every move comes"


def test_crop_shows_a_window_of_the_mirrored_image() -> None:
    x = pictures(300, 1)
    y = crop(rng(), x, 3)
    assert y.min() >= 0.1, "no zeros come in"
    padded = np.pad(x, ((0, 0), (0, 0), (3, 3), (3, 3)), mode="symmetric")
    seen = set()
    for before, after in zip(padded, y):
        seen |= {(i, j) for i in range(7) for j in range(7) if np.array_equal(before[:, i:i + 9, j:j + 7], after)}
    assert len(seen) == 49


def test_flip_mirrors_about_half() -> None:
    x = pictures(1000, 1)
    y = flip(rng(), x)
    mirrored = (y == x[..., ::-1]).all((1, 2, 3))
    same = (y == x).all((1, 2, 3))
    assert (mirrored ^ same).all() and 440 < mirrored.sum() < 560
    assert np.array_equal(flip(rng(), x, 1.0), x[..., ::-1])


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
@pytest.mark.parametrize("side", [8, 9])
def test_right_angles_are_rot90(turns: int, side: int) -> None:
    x = pictures(5, 2, side, side)
    y = warp(x, np.full(5, turns * np.pi / 2), np.ones(5), np.zeros((5, 2)))
    assert np.allclose(y, np.rot90(x, turns, axes=(2, 3)), atol=2e-5)


def test_moves_by_whole_and_half_pixels() -> None:
    x = pictures(3)
    whole = warp(x, np.zeros(3), np.ones(3), np.tile([2.0, -1.0], (3, 1)))
    assert np.array_equal(whole[:, :, 2:, :-1], x[:, :, :-2, 1:]) and not whole[:, :, :2].any() and not whole[..., -1].any()
    half = warp(x, np.zeros(3), np.ones(3), np.tile([0.0, 0.5], (3, 1)))
    assert np.allclose(half[..., 1:], (x[..., 1:] + x[..., :-1]) / 2) and np.allclose(half[..., 0], x[..., 0] / 2)


def test_scaling_by_two_about_the_centre() -> None:
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32), (1, 1, 9, 9))
    y = warp(ramp, np.zeros(1), np.full(1, 2.0), np.zeros((1, 2)))
    assert np.allclose(y[0, 0, 4], 4 + (np.arange(9) - 4) / 2)


def test_each_image_of_a_batch_is_warped_as_alone() -> None:
    x = pictures(30, 3, 32, 32)  # more than is warped at once
    angles, scales, moves = rng().uniform(-1, 1, 30), rng(2).uniform(0.5, 2, 30), rng(3).uniform(-5, 5, (30, 2))
    together = warp(x, angles, scales, moves)
    for i in (0, 7, 8, 29):
        assert np.array_equal(together[i:i + 1], warp(x[i:i + 1], angles[i:i + 1], scales[i:i + 1], moves[i:i + 1]))


def test_affine_keeps_to_its_amounts() -> None:
    spot = np.zeros((2000, 1, 21, 21), np.float32)
    spot[:, :, 10, 18] = 1  # eight pixels right of the centre
    y = affine(rng(), spot, rotation=20)[:, 0]
    mass = y.sum((1, 2))
    assert 0.6 < mass.min() and mass.max() < 1.5
    rows = (y * np.arange(21)[:, None]).sum((1, 2)) / mass - 10
    columns = (y * np.arange(21)).sum((1, 2)) / mass - 10
    turned = np.degrees(np.arctan2(-rows, columns))
    assert np.abs(turned).max() < 22 and turned.max() > 17 and turned.min() < -17
    spot = np.roll(spot, -4, 3)  # four pixels right of the centre
    y = affine(rng(), spot, scale=1.0)[:, 0]
    distance = (y * np.arange(21)).sum((1, 2)) / y.sum((1, 2)) - 10
    assert 1.9 < distance.min() < 2.2 and 7.8 < distance.max() < 8.2 and abs(np.log(distance / 4).mean()) < 0.05


def test_normalise_by_the_statistics_of_the_channels() -> None:
    x = pictures(50) * np.array([1, 0.5, 0.2], np.float32)[:, None, None] + np.array([0, 0.1, 0.3], np.float32)[:, None, None]
    mean, std = statistics(x)
    assert mean.shape == std.shape == (3,) and mean.dtype == np.float32
    y = normalise(x, mean, std)
    assert np.allclose(y.mean((0, 2, 3)), 0, atol=1e-5) and np.allclose(y.std((0, 2, 3)), 1, atol=1e-5) and y.dtype == np.float32
    x[:, 1] = 0.5
    with pytest.raises(DataError, match="channel 1 does not vary, so it can't be normalised: its standard deviation is 0"):
        normalise(x, *statistics(x))


def test_an_augmentation_applies_its_parts_in_order() -> None:
    x = pictures()
    r = rng()
    expected = crop(r, flip(r, affine(r, shift(r, x, 1), 10, 0.1)), 2)
    assert np.array_equal(Augmentation(1, 10, 0.1, True, 2)(rng(), x), expected)


@pytest.mark.parametrize("amounts, message", [
    ({"shift": -1}, "shift is a whole number of pixels, at least 0, not -1"),
    ({"crop": 0.5}, "crop is a whole number of pixels, at least 0, not 0.5"),
    ({"rotation": -3.0}, "rotation is at least 0 and finite, not -3.0"),
    ({"scale": float("nan")}, "scale is at least 0 and finite, not nan"),
])
def test_amounts_that_can_not_be(amounts: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augmentation(**amounts)
