"""Training on a device: the same steps as on the CPU, parameters that never leave it, and a hot call of few Python functions."""

import collections
import sys

import numpy as np
import pytest

import nagraph as ng
from nagraph.models.training import Run
from nagraph.storage import named_leaves
from tests.models.test_training import task


@pytest.fixture
def run(backend):
    made = Run(task(), "lazy")
    yield made
    made.close()


def test_steps_of_gpt2_are_those_of_the_cpu_and_carry_a_batch_and_two_numbers(run, device):
    here, nbytes = Run(task()), sum(x.nbytes for x in task().batch(0))
    for step in range(5):
        device.wait()
        before = device.counts.copy()
        loss, wanted = run.advance(), here.advance()
        np.testing.assert_allclose(np.float64(loss), np.float64(wanted), rtol=2e-5)
        crossed = device.counts - before
        if step:
            assert crossed["put"] <= nbytes + 8 and crossed["get"] == 8, "a batch and its number; the loss and the norm"
    assert device.counts["captured"] <= 3 and device.counts["replayed"] == 4 * device.counts["captured"]
    wanted = named_leaves(here.state)
    for name, found in named_leaves(ng.to_numpy(run.state)).items():
        np.testing.assert_allclose(found, wanted[name], rtol=1e-3, atol=2e-5, err_msg=name)
    here.close()


def chain(ws, x):
    for w in ws:
        x = np.tanh(x @ w)
    return x


def test_a_hot_call_makes_few_calls_of_python(backend, device):
    ws = ng.device_put([np.eye(4, dtype=np.float32)] * 50, "lazy")
    x = ng.device_put(np.ones((2, 4), np.float32), "lazy")
    step = ng.jit(lambda ws, x: chain(ws, x), backend="lazy")
    for _ in range(4):
        step(ws, x)
    assert len(step.lower(ws, x).executable.launches) >= 50
    device.wait()
    calls = collections.Counter()

    def note(frame, event, _):
        if event == "call":
            calls[frame.f_code.co_filename.rpartition("nagraph/")[2] if "nagraph" in frame.f_code.co_filename else "device"] += 1

    sys.setprofile(note)
    try:
        step(ws, x)
    finally:
        sys.setprofile(None)
    ours = {name: n for name, n in calls.items() if "lazy_device" not in name and "cuda/" in name}
    assert 3 <= sum(ours.values()) <= 12, ours
