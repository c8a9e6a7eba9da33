"""The peers of `nagraph bench` compute what our benchmarks compute."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from nagraph.cli.peers import PEERS, Peer
from nagraph.cli.peers.gpt2 import start
from nagraph.models.operations import CASES
from nagraph.models.workloads import operation, workload

SMALL = {"layers": 1, "heads": 2, "width": 16, "context": 16, "batch": 2, "dropout": 0.0}


@pytest.fixture(params=PEERS)
def peer(request):
    pytest.importorskip(request.param)
    return importlib.import_module(f"nagraph.cli.peers.with_{request.param}")


@pytest.mark.parametrize("name", CASES)
def test_operations(peer, name) -> None:
    found, expected = np.asarray(peer.Adapter(2).calls(name)()), operation(name).calls("numpy")()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_logits_and_losses_of_training_steps(peer) -> None:
    begin = start(**SMALL)
    np.testing.assert_allclose(peer.infer(begin)(), workload("gpt2", "infer", **SMALL).calls("numpy")(), rtol=1e-4, atol=1e-5)
    ours, theirs = workload("gpt2", "train", **SMALL).calls("numpy"), peer.train(begin)
    losses = [(float(ours()[1]), theirs()) for _ in range(20)]
    np.testing.assert_allclose(*zip(*losses), rtol=1e-5)
    assert losses[-1][0] < losses[0][0] - 0.1


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_answers_from_its_process(name) -> None:
    module = pytest.importorskip(name)
    peer = Peer(name, 1)
    try:
        assert peer.version == module.__version__
        assert peer.run("sgemm_64", 0.0) > 0 and peer.run("no such benchmark", 0.0) is None
    finally:
        peer.close()
