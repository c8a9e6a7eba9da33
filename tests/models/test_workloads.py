"""Workloads: the step of a model with arguments, which commands take from one table."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import DataError
from nagraph.models import CLASSES
from nagraph.models.operations import CASES, OPERATIONS
from nagraph.models.tasks import task_class
from nagraph.models.workloads import STEPS, operation, workload

TEXT = {"layers": 1, "heads": 2, "width": 8, "context": 8, "batch": 2}
SMALL = {"layers": 1, "heads": 2, "groups": 1, "width": 8, "context": 8, "batch": 2, "patch": 4, "depths": "1,1", "text_layers": 1}


@pytest.mark.parametrize("task", STEPS)
@pytest.mark.parametrize("model", CLASSES)
def test_arrays_fit_the_graph_and_the_executable(model: str, task: str) -> None:
    known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
    work = workload(model, task, **{k: v for k, v in SMALL.items() if k in known})
    lowered = work.lower("numpy")
    wanted = [(v.shape, v.dtype) for v in lowered.executable.graph.inputs]
    assert [(a.shape, a.dtype) for a in work.arrays()] == wanted
    assert len(work.graph().inputs) == len(wanted) and work.items == (16 if work.unit == "tokens" else 2)


def test_calls_of_a_training_step_carry_the_state_on() -> None:
    call = workload("gpt2", "train", **TEXT, dropout=0.0).calls("numpy")
    first, second, third = (call() for _ in range(3))
    assert int(third[0].count) == 3 and first[0].count is second[0].count is third[0].count, "one state, updated in place"
    assert float(third[1]) < float(first[1])


def test_calls_of_a_forward_pass_are_all_alike() -> None:
    call = workload("gpt2", "infer", **TEXT).calls("numpy")
    a, b = call(), call()
    assert a.shape == (2, 8, 103) and np.array_equal(a, b)


@pytest.mark.parametrize("name, kind", CLASSES.items())
def test_a_model_has_one_name(name: str, kind: str) -> None:
    """In its module, in its task, and in Hugging Face's folders."""
    made = getattr(ng.models, kind)
    assert made.__module__ == f"nagraph.models.{name}" and made.__name__ == kind
    assert task_class(name).name == name and task_class(name).__name__ == f"{kind}Task"


def test_former_names_are_told() -> None:
    with pytest.raises(DataError, match=r"unknown model 'modern' \(it is called llama now\); there is"):
        workload("modern", "train")
    with pytest.raises(AttributeError, match=r"no attribute 'Transformer' \(it is called Llama now\); it has"):
        _ = ng.models.Transformer


def test_unknown_models_and_tasks() -> None:
    with pytest.raises(DataError, match="resnet has no layers that could be counted"):
        workload("resnet", "train", 3)
    with pytest.raises(DataError, match=r"unknown model 'gpt9' \(did you mean gpt2\?\); there is gpt2"):
        workload("gpt9", "train")
    with pytest.raises(DataError, match="unknown task 'sleep'; there is train, infer"):
        workload("gpt2", "sleep")


@pytest.mark.parametrize("name", CASES)
def test_operations_take_the_arrays_of_their_cases(name: str) -> None:
    function, shapes = CASES[name]
    (result,) = ng.trace(OPERATIONS[function], *(ng.spec(s, np.float32) for s in shapes)).output_types
    assert result.size in (1, 64 * 64, 256 * 256, 1 << 20, 1 << 21, 1 << 22)
    assert all(s <= 1 << 24 for s in result.shape)


def test_operations_have_the_same_arrays_each_time() -> None:
    a, b = operation("sgemm_64"), operation("sgemm_64")
    assert all(np.array_equal(x, y) for x, y in zip(a.arguments, b.arguments, strict=True))
    x, y = a.arguments
    np.testing.assert_allclose(a.calls("numpy")(), x @ y, rtol=1e-5, atol=1e-5)
