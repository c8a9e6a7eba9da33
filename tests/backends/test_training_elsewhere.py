"""The whole of training on arrays that nobody can read: parameters cross at the start and when they are saved, and nowhere else."""

import warnings

import numpy as np
import pytest

import nagraph as ng
from nagraph import tree
from nagraph.errors import NotFiniteError
from nagraph.ir.types import TensorType
from nagraph.models.generation import generate
from nagraph.models.training import Run
from nagraph.models.training.diagnosis import check_gradients, without_gradient
from tests.backends.crossings import Crossings, types
from tests.models.test_training import identical, resume, save, task

pytestmark = pytest.mark.usefixtures("opaque_module")


@pytest.fixture(scope="module")
def trained(opaque_module):
    """Runs of 50 steps on the device and on the CPU, and what crossed at each step."""
    there, here, log = Run(task(), "opaque"), Run(task(), "numpy"), Crossings(opaque_module.Opaque.crossed)
    steps, first = [], there.state
    for _ in range(50):
        assert there.advance() == here.advance()
        steps.append(log())
    there.close()
    here.close()
    return there, here, first, steps


def test_parameters_cross_at_the_start_and_when_saved_and_nowhere_else(trained, tmp_path, crossed):
    run, reference, first, steps = trained
    state = types("put", first)
    around = types("put", [*task().batch(0), np.int32(0)]) + types("get", [np.float32(0)] * 2)  # a batch, its number; the loss, the norm
    assert steps[0] == state + around
    assert steps[1:] == [around] * 49
    check_gradients(run.task, run.state)
    moments = tree.leaves(run.state.optimiser.slots["mean"])
    assert crossed() == {("get", TensorType(np.dtype(bool), ())): sum(x is not None for x in moments)}, "whether each moved, no more"
    save(run, tmp_path)
    assert crossed() == types("get", first)
    assert identical(run.state, reference.state), "the bits of the same steps on the CPU"
    crossed()
    again, expected = resume(tmp_path), resume(tmp_path)
    again.backend, again._compiled, expected._compiled = run.backend, run._compiled, reference._compiled
    assert again.advance() == expected.advance()
    assert crossed() == state + around
    again.close()
    expected.close()


def test_a_step_takes_the_memory_of_the_state_before(trained, opaque, monkeypatch):
    run = trained[0]
    before = ng.device_put(ng.to_numpy(run.state), "opaque")
    memory = [x.memory for x in tree.leaves(before) if x is not None]
    taken = []
    monkeypatch.setattr(opaque, "taken", lambda self, take=opaque.taken: (taken.append(1), take(self))[1])
    batch = ng.device_put(task().batch(0), "opaque")
    after, *_ = run._compiled(before, batch, np.int32(0))
    after = [x.memory for x in tree.leaves(after) if x is not None]
    assert len(taken) == len(memory) and {id(m) for m in memory} == {id(m) for m in after}
    with pytest.raises(AssertionError, match="after it was donated"):
        ng.to_numpy(before)
    assert "copied" not in run._compiled.explain()


def test_evaluation_and_generation_carry_words_and_figures_alone(trained, crossed):
    run, reference, *_ = trained
    model = run.state.average
    assert run.task.scores(model, "opaque") == run.task.scores(reference.state.average, "numpy")
    assert all(t.size <= task().recipe.batch * 7 for _, t in crossed()), "windows in, losses out"
    expected = list(generate(reference.state.average, [1, 2, 3], 10, seed=1, backend="numpy"))
    crossed()
    for backend, cache in (("opaque", True), ("opaque", False), (None, True)):  # the model's arrays say where
        assert list(generate(model, [1, 2, 3], 10, seed=1, backend=backend, cache=cache)) == expected
        assert all(t.size <= 11 for _, t in crossed()), "ids in, scores out: neither parameters nor keys and values"
    host = reference.state.average
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(generate(host, [1, 2, 3], 10, seed=1, backend="opaque")) == expected
    found = crossed()
    assert {k: n for k, n in found.items() if k[1].size > 11} == {k: n for k, n in types("put", host).items() if k[1].size > 11}, "once"


def test_what_is_not_finite_is_found_and_a_parameter_without_gradient_is_named(trained):
    run, reference, *_ = trained
    assert without_gradient(run.task, run.state.replace(optimiser=reference.task.optimiser().init(run.state.model)))
    broken = Run(task(), "opaque")
    broken._compiled = run._compiled
    table = np.full_like(reference.state.model.token.table, np.inf)
    broken.state = broken.state.replace(model=broken.state.model.replace(token=broken.state.model.token.replace(table=table)))
    with pytest.raises(NotFiniteError, match="parameter token.table was not finite before the step"):
        broken.advance()
    broken.close()
