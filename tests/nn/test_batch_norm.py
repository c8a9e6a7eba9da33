"""Batch norm in training where a channel has none or one value."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import TypeRuleError
from nagraph.nn import BatchNorm
from nagraph.nn import functional as F

RUNS = {"eager": lambda f: f, "numpy": lambda f: ng.jit(f, backend="numpy"), "llvm": ng.jit}
runs = pytest.mark.parametrize("run", RUNS)


def trained(layer, x):
    return layer(x, training=True)


@runs
@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 5)])
def test_an_empty_batch_leaves_the_running_statistics(shape, run):
    layer = BatchNorm.init(shape[1]).replace(running_mean=np.full(shape[1], 0.5, "f"), running_var=np.full(shape[1], 2, "f"))
    y, after = RUNS[run](trained)(layer, np.zeros(shape, "f"))
    assert y.shape == shape and y.dtype == np.float32
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(getattr(after, name), getattr(layer, name))
    grads = RUNS[run](ng.grad(lambda layer, x: np.sum(trained(layer, x)[0])))(layer, np.zeros(shape, "f"))
    assert not grads.weight.any() and not grads.bias.any()


@runs
@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 3), (2, 4, 0)])
def test_gradients_of_empty_batches_are_zeros(shape, run):
    x, w = np.zeros(shape, "f"), np.ones(4, "f")
    for fn in (lambda x, w: F.batch_norm_training(x, w, w)[0], lambda x, w: F.group_norm(x, w, w, groups=2)):
        gx, gw = RUNS[run](ng.grad(lambda x, w, fn=fn: np.sum(fn(x, w)), argnums=(0, 1)))(x, w)
        assert gx.shape == shape and not gw.any()


@runs
@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_one_value_per_channel_is_an_error(shape, run):
    with pytest.raises(TypeRuleError, match="needs more than one value .* pass a larger batch, or training=False"):
        RUNS[run](trained)(BatchNorm.init(3), np.ones(shape, "f"))


@runs
@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_running_statistics_of_16_bits_are_rounded_once(dtype, run):
    rng = np.random.default_rng(1)
    x = ng.numpy.astype(3 + rng.normal(size=(16, 4, 3)), dtype)
    layer = BatchNorm.init(4, dtype=x.dtype)
    _, after = RUNS[run](trained)(layer, x)
    wide = x.astype(np.float64)
    np.testing.assert_array_equal(after.running_mean, ng.numpy.astype(0.1 * ng.numpy.astype(wide.mean((0, 2)), dtype).astype("f"), dtype))
