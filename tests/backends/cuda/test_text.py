"""The real CUDA text on a device that is this CPU: kernels, moves of pointers, and a model's training steps, replayed and one by one."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.cuda import peaks, resident
from nagraph.models.training import Run
from nagraph.nn import functional as F
from nagraph.storage import named_leaves
from tests.backends.cuda.conftest import usable_as
from tests.backends.cuda.lazy_device import LazyBackend
from tests.backends.cuda.on_cpu import OnCpuDriver
from tests.models.test_training import task

RNG = np.random.default_rng(0)


@pytest.fixture
def backend(monkeypatch):
    return usable_as(monkeypatch, LazyBackend(OnCpuDriver()))


def program(w, xs, labels, n):
    """All that moves pointers or decides: scans within scans, a while loop, a branch, labels, a sort."""
    def step(h, x):
        inner, _ = ng.scan(lambda c, y: (np.tanh(c * w[0] + y), None), h, x)
        return inner, (inner * 2, inner.sum())

    h, (rows, sums) = ng.scan(step, w[1] * 0, xs, reverse=True)
    grown = ng.while_loop(lambda v: v.sum() < n, lambda v: v * 2 + 1, np.abs(h))
    chosen = ng.cond(n > 3, lambda v: v[::-1] * 2, lambda v: v - 1, grown)
    loss = F.cross_entropy(rows @ w, labels).mean()
    return w - 0.1 * chosen, np.sort(rows, axis=1), sums, loss


@pytest.mark.parametrize("seed", [0, 1])
def test_a_program_with_everything(backend, device, seed):
    backend.driver.seed = seed
    w, xs, labels = RNG.normal(size=(4, 4)), RNG.normal(size=(5, 3, 4)), np.array([0, 1, 2, 3, 3])
    step = ng.jit(program, backend="lazy", donate_argnames="w")
    there, host = ng.device_put(w, "lazy"), w
    for n in (2.0, 50.0, 2.0, 20.0):
        before = there
        there, *found = step(there, *ng.device_put((xs, labels, np.float64(n)), "lazy"))
        host, *wanted = ng.jit(program)(host, xs, labels, n)
        assert there is before
        for a, b in zip(ng.to_numpy((there, *found)), (host, *wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
    with pytest.raises(ng.errors.LabelError, match="label 4"):
        step(there, *ng.device_put((xs, labels + 1, np.float64(1)), "lazy"))
    np.testing.assert_allclose(ng.to_numpy(there), host, rtol=1e-12)
    assert device.counts["captured"] and device.counts["replayed"]


def test_a_profile_tells_each_launch_beside_the_peaks_of_the_device(backend, device, monkeypatch):
    for name, small in (("STEPS", 2), ("BLOCKS", 1), ("REPEATS", 2), ("MOST_NBYTES", 1 << 12)):
        monkeypatch.setattr(peaks, name, small)
    graph = ng.trace(lambda x, w: ng.scan(lambda c, y: (np.tanh(c @ w + y), c.sum()), x[0] * 0, x), ng.spec((5, 2, 3)), ng.spec((3, 3)))
    exe = ng.compile(graph, backend="lazy")
    x, w = ng.device_put((RNG.normal(size=(5, 2, 3)).astype("f4"), np.eye(3, dtype="f4")), "lazy")
    wanted, profile = ng.to_numpy(exe(x, w)), exe.profile(x, w, repeats=2)
    assert max(r.calls for r in profile) == 5, "an iteration is a launch of its own"
    assert "dot_general" in profile.table() and "2 multiprocessors, measured: " in profile.table() and profile.machine.cpu == "lazy"
    assert abs(sum(r.seconds for r in profile) + profile.between_seconds + profile.outside_seconds - profile.seconds) < 1e-9
    assert profile.timeline("step")["traceEvents"] and not device.counts["captured"]
    for a, b in zip(ng.to_numpy(exe(x, w)), wanted):
        np.testing.assert_array_equal(a, b)


def test_training_steps_of_gpt2_replayed_are_those_launched_one_by_one_bit_for_bit(backend, device, monkeypatch):
    states, wanted = [], Run(task())
    for _ in range(3):
        wanted.advance()
    for graphs in (True, False):
        before = device.counts["replayed"]
        monkeypatch.setattr(resident, "_is_known", resident._is_known if graphs else lambda key, seen: False)
        run = Run(task(), "lazy")
        for _ in range(3):
            run.advance()
        assert (device.counts["replayed"] - before >= 2) == graphs
        states.append(named_leaves(ng.to_numpy(run.state)))
        run.close()
    one, other = states
    assert one.keys() == other.keys() and all(one[k].tobytes() == other[k].tobytes() for k in one)
    for name, found in named_leaves(wanted.state).items():
        np.testing.assert_allclose(one[name], found, rtol=2e-3, atol=5e-5, err_msg=name)
    wanted.close()
