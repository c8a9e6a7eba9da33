"""Modules as trees: what is a leaf, what is static, what grad leaves alone, how keys travel."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph import nn

KEY = ng.random.key(0)


class Scaled(nn.Module):
    """y = scale · x + shift, with a count and a note beside the parameters."""

    scale: Any
    shift: Any
    count: Any
    seen: Any = nn.buffer()
    note: str = "plain"

    def __call__(self, x: Any) -> Any:
        return self.scale * x if self.shift is None else self.scale * x + self.shift


def scaled(**changes: Any) -> Scaled:
    return Scaled(np.full(3, 2.0), None, np.arange(2), np.ones(4)).replace(**changes)


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        scaled().scale = np.zeros(3)  # type: ignore[misc]


def test_replace_makes_a_copy() -> None:
    a = scaled()
    b = a.replace(note="other")
    assert (a.note, b.note) == ("plain", "other") and b.scale is a.scale


def test_leaves_and_paths() -> None:
    assert list(scaled().named_arrays()) == ["scale", "count", "seen"]
    assert scaled().parameter_count == 3 + 2
    model = nn.sequential(nn.Linear.init(KEY, 2, 3), np.tanh, nn.Linear.init(KEY, 3, 1, bias=False))
    assert list(model.named_arrays()) == ["layers.0.weight", "layers.0.bias", "layers.2.weight"]
    assert model.parameter_count == 6 + 3 + 3


def test_map_and_astype_keep_none_integers_and_static_fields() -> None:
    small = scaled().astype(np.float32)
    assert (small.scale.dtype, small.seen.dtype, small.count.dtype) == (np.float32, np.float32, np.int64)
    assert small.shift is None and small.note == "plain"
    assert scaled().map(lambda x: x * 2).scale[0] == 4


def test_repr_shows_shapes() -> None:
    assert repr(scaled()) == "Scaled(scale=float64[3], shift=None, count=int64[2], seen=float64[4], note='plain')"


def test_fields_may_be_dicts_and_empty_containers() -> None:
    class Named(nn.Module):
        parts: dict[str, Any]
        rest: list[Any]

    model = Named({"b": np.ones(2), "a": np.zeros(3)}, [])
    assert list(model.named_arrays()) == ["parts.a", "parts.b"]
    out = ng.jit(lambda m: m.map(lambda x: x + 1))(model)
    np.testing.assert_array_equal(out.parts["a"], np.ones(3))
    assert out.rest == [] and ng.jit(lambda m: m)(Named({}, [])).parts == {}


def test_gradient_is_none_at_integers_buffers_and_none() -> None:
    grads = ng.grad(lambda m: np.sum(m(np.arange(3.0)) + m.seen[0]))(scaled())
    assert isinstance(grads, Scaled) and grads.note == "plain"
    np.testing.assert_array_equal(grads.scale, np.arange(3.0))
    assert grads.count is None and grads.seen is None and grads.shift is None


def test_static_field_is_part_of_the_signature() -> None:
    calls = ng.jit(lambda m, x: m(x) * (2 if m.note == "double" else 1))
    x = np.arange(3.0)
    np.testing.assert_array_equal(calls(scaled(), x), 2 * x)
    np.testing.assert_array_equal(calls(scaled(note="double"), x), 4 * x)
    assert calls.cache_info().size == 2


def test_module_without_arrays_as_argument() -> None:
    np.testing.assert_array_equal(ng.jit(lambda layer, x: layer(x))(nn.MaxPool1d(2), np.arange(4.0).reshape(1, 1, 4)), [[[1, 3]]])


def test_dropout_without_key_is_the_identity() -> None:
    x = np.arange(6.0)
    assert nn.Dropout(0.5)(x) is x
    np.testing.assert_array_equal(nn.Dropout(0.0)(x, key=KEY), x)


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    x = np.ones((200, 300), np.float32)
    y = ng.jit(lambda k: nn.Dropout(0.3)(x, key=k))(KEY)
    assert y.dtype == np.float32
    np.testing.assert_allclose(np.unique(y), [0, 1 / 0.7], rtol=1e-6)
    # 60,000 draws: the share of zeros has a deviation of 0.0019.
    assert abs((y == 0).mean() - 0.3) < 0.01
    np.testing.assert_array_equal(y, nn.Dropout(0.3)(x, key=KEY))
    assert (y != nn.Dropout(0.3)(x, key=ng.random.key(1))).any()


def test_dropout_has_the_gradient_of_its_mask() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4))
    y = nn.Dropout(0.4)(x, key=KEY)
    np.testing.assert_allclose(ng.grad(lambda x: np.sum(nn.Dropout(0.4)(x, key=KEY)))(x), np.where(y == 0, 0, 1 / 0.6))


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_dropout_rate_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be at least 0 and less than 1"):
        nn.Dropout(rate)(np.ones(3), key=KEY)


def test_sequential_folds_the_key_by_index() -> None:
    x, drop = np.ones((20, 30)), nn.Dropout(0.5)
    expected = drop(np.tanh(drop(x, key=ng.random.fold_in(KEY, 0))), key=ng.random.fold_in(KEY, 2))
    np.testing.assert_array_equal(nn.sequential(drop, np.tanh, drop)(x, key=KEY), expected)
    inner = nn.sequential(drop, drop)
    np.testing.assert_array_equal(nn.sequential(np.tanh, inner)(x, key=KEY), inner(np.tanh(x), key=ng.random.fold_in(KEY, 1)))
    np.testing.assert_array_equal(nn.sequential(drop, np.tanh, drop)(x), np.tanh(x))


def test_sequential_gives_the_key_to_any_module_that_takes_one() -> None:
    class Noisy(nn.Module):
        scale: Any

        def __call__(self, x: Any, *, key: Any = None) -> Any:
            return x if key is None else x + self.scale * ng.random.normal(key, x.shape, np.float64)

    x, noisy = np.zeros(4), Noisy(np.ones(4))
    np.testing.assert_array_equal(nn.sequential(np.tanh, noisy)(x, key=KEY),
                                  ng.random.normal(ng.random.fold_in(KEY, 1), (4,), np.float64))
    np.testing.assert_array_equal(nn.sequential(noisy)(x), x)


def test_batch_norm_returns_a_new_layer_and_leaves_the_old_one() -> None:
    rng = np.random.default_rng(0)
    layer, x = nn.BatchNorm.init(3, momentum=0.25, dtype=np.float64), 2 * rng.normal(size=(4, 3, 5)) + 1
    y, new = ng.jit(lambda m, x: m(x, training=True))(layer, x)
    mean, var = x.mean((0, 2)), x.var((0, 2))
    np.testing.assert_allclose(y, (x - mean[:, None]) / np.sqrt(var[:, None] + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(new.running_mean, 0.25 * mean, rtol=1e-12)
    np.testing.assert_allclose(new.running_var, 0.75 + 0.25 * x.var((0, 2), ddof=1), rtol=1e-12)
    np.testing.assert_array_equal(layer.running_mean, np.zeros(3))
    np.testing.assert_allclose(new(x), (x - new.running_mean[:, None]) / np.sqrt(new.running_var[:, None] + 1e-5), rtol=1e-12)


def test_batch_norm_training_step_hands_the_statistics_out() -> None:
    rng = np.random.default_rng(0)
    layer, x = nn.BatchNorm.init(3), rng.normal(size=(8, 3)).astype(np.float32)
    opt = ng.optim.AdamW(0.1, weight_decay=0.5)

    def loss(m: Any, x: Any) -> Any:
        y, new = m(x, training=True)
        return np.mean(np.sin(y) + y), new

    @ng.jit
    def step(m: Any, state: Any, x: Any) -> Any:
        grads, new = ng.grad(loss, has_aux=True)(m, x)
        assert grads.running_mean is None and grads.running_var is None
        return opt.update(new, grads, state)

    new, state = step(layer, opt.init(layer), x)
    assert state.slots["mean"].running_mean is None
    np.testing.assert_allclose(new.running_mean, 0.1 * x.mean(0), rtol=1e-5)
    assert (new.bias != layer.bias).all()
    assert all(a.dtype == np.float32 for a in new.named_arrays().values())


def test_every_public_name_is_there() -> None:
    for name in ("Linear Embedding LayerNorm RMSNorm BatchNorm GroupNorm Dropout Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d "
                 "ConvTranspose3d MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d GlobalAvgPool MultiHeadAttention RNN LSTM "
                 "GRU Sequential").split():
        assert issubclass(getattr(nn, name), nn.Module) and getattr(nn, name).__doc__
