"""The six models: forward passes, and whole training steps, state in and state out; and with sizes that are known later."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.models import CLASSES
from nagraph.models.tasks import task_class
from nagraph.models.workloads import workload
from tests.gpu.cases import TINY
from tests.models import test_symbolic_sizes as symbolic
from tests.oracles.onnx_export.models import writing
from tests.oracles.sampling import Compare

CHECKS = ("gpt2-writes", "llama-writes", *(f"{model}-{task}" for model in CLASSES for task in ("infer", "train")),
          *(f"{name.replace(' ', '-')}-of-any-size" for name in symbolic.FUNCTIONS))
CUT = ("llama-infer", "gpt2-of-any-size")
SIZES = {"batch": 2, "time": 5}


def samples(what: str, different: Any) -> Iterator[tuple[str, Compare]]:
    if what.endswith("-writes"):
        yield what, lambda: different(*writing(what.removesuffix("-writes")))
        return
    yield what, partial(_any_size if what.endswith("-of-any-size") else _tiny, what, different)


def _tiny(what: str, different: Any) -> str | None:
    model, task = what.split("-")
    known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
    work = workload(model, task, **{k: v for k, v in TINY.items() if k in known})
    found: str | None = different(work.graph(), work.arrays())
    return found


def _any_size(what: str, different: Any) -> str | None:
    name = what.removesuffix("-of-any-size").replace("-", " ")
    kind = name.split()[0]
    made, config = symbolic.MODELS[kind]
    weights = made.init(ng.random.key(0), config)
    graph = ng.trace(symbolic.FUNCTIONS[name], symbolic.model(kind), *symbolic.ARGUMENTS[kind])
    known = graph.specialise({d.name: SIZES[d.name] for d in graph.dims})
    arrays = [np.asarray(ng.to_numpy(x)) for x in ng.tree.leaves(weights) if x is not None]
    rng = np.random.default_rng(0)
    rest = known.input_types[len(arrays):]
    arrays += [np.asarray(rng.normal(size=t.shape) if t.dtype.kind == "f" else rng.integers(0, 2, t.shape)).astype(t.dtype) for t in rest]
    found: str | None = different(known, arrays, what=graph)
    return found
