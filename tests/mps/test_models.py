"""The six models on MLX: the forward pass and training steps against the NumPy backend, and which share of their nodes is native."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import numpy as np
import pytest

import nagraph as ng
from nagraph.models import CLASSES
from nagraph.models.tasks import task_class
from nagraph.models.workloads import workload
from tests.models.test_workloads import SMALL
from tests.mps.ways import op_by_op  # noqa: F401 - a fixture for all tests here

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "mps.md").read_text(encoding="utf-8")
#: model: native nodes and all nodes of a training step and of a forward pass, as docs/mps.md has them.
SHARES = {m: tuple(map(int, rest)) for m, *rest in re.findall(r"^\| `(\w+)` \| (\d+) of (\d+) \| (\d+) of (\d+) \|", PAGE, re.MULTILINE)}


def small(model, task):
    known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
    return workload(model, task, **{k: v for k, v in SMALL.items() if k in known})


def near(found, wanted, room=2e-4):
    """Leaf by leaf, within a part of the largest number of all leaves: where a gradient is zero but for rounding, any number is as good."""
    both = zip(ng.tree.leaves(ng.to_numpy(found)), ng.tree.leaves(wanted), strict=True)
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in both if b is not None]
    largest = max(float(np.abs(b.astype("f8")).max(initial=0)) for _, b in pairs)
    for one, other in pairs:
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_allclose(one.astype("f8"), other.astype("f8"), rtol=0, atol=room * largest)


@pytest.mark.parametrize("model", CLASSES)
def test_forward_passes(model):
    work = small(model, "infer")
    run = work.make("mps", None)
    near(run(*work.arguments), work.make("numpy", None)(*work.arguments), 1e-5)
    assert SHARES[model][2:] == shares(run, work)


def shares(run, work):
    found = run.lower(*work.arguments).executable.coverage
    return found.native, found.nodes


@pytest.mark.parametrize("model", CLASSES)
def test_training_steps(model):
    """Two of them: the state that comes back goes in again."""
    work = small(model, "train")
    run, reference = work.make("mps", None), work.make("numpy", None)
    there, here = (ng.tree.map(lambda x: None if x is None else np.array(x), work.arguments) for _ in range(2))
    for _ in range(2):
        results, wanted = run(*there), reference(*here)
        for one, other in zip(results[1:], wanted[1:], strict=True):
            near(one, other, 1e-4)
        there, here = (results[0], *there[1:]), (wanted[0], *here[1:])
    for slot, moments in wanted[0].optimiser.slots.items():
        near(results[0].optimiser.slots[slot], moments)
    near(results[0].model, wanted[0].model)
    assert SHARES[model][:2] == shares(run, work)
