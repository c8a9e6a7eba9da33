"""Runs: a task, its state, and the curves so far; they can be stopped and resumed, bit for bit."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import CheckpointError, NagraphError, NotFiniteError
from nagraph.files import short
from nagraph.models import CLASSES, checkpoint
from nagraph.models.data.loader import Prefetch
from nagraph.models.tasks import task_class
from nagraph.models.training.diagnosis import not_finite
from nagraph.models.training.recipe import read_recipe
from nagraph.models.training.step import init_state, make_step
from nagraph.models.training.task import Facts, Score, Task
from nagraph.storage import fill, named_leaves

Tensors = Mapping[str, np.ndarray[Any, Any]]


class Run:
    """A run is one training of a task. `advance` does one step; batches are made ahead by a thread, so that no step waits for one."""

    def __init__(self, task: Task, backend: str | None = None, threads: int | None = None):
        self.task, self.backend = task, backend
        self.state = init_state(task)
        self.step = 0
        self.losses: list[float] = []
        self.norms: list[float] = []
        #: Evaluations: (step, metric).
        self.scored: list[tuple[int, float]] = []
        self._compiled = make_step(task, backend, threads)
        self._ahead: Prefetch[Any] | None = None

    @property
    def recipe(self) -> Any:
        return self.task.recipe

    def batch(self, step: int) -> tuple[np.ndarray[Any, Any], ...]:
        """The arrays of a step; with accumulation, those of several batches one upon another."""
        count = self.recipe.accumulate
        if count == 1:
            return self.task.batch(step)
        return tuple(np.stack(arrays) for arrays in zip(*(self.task.batch(step * count + i) for i in range(count)), strict=True))

    def compile(self) -> Any:
        """Compile the step without running it; returns what was compiled (graph and executable)."""
        return self._compiled.lower(self.state, self.batch(self.step), np.int32(self.step))

    def advance(self) -> tuple[float, float]:
        """One step: its loss and gradient norm. NotFiniteError if one of these is not finite; then nothing has changed."""
        if self._ahead is None:
            self._ahead = Prefetch(self.batch, self.step)
        batch = ng.device_put(self._ahead.next(), ng.backends.usable(self.backend).name)
        self.state, *found = self._compiled(self.state, batch, np.array(self.step, np.int32))
        loss, norm = map(float, ng.to_numpy(found))  # which waits for the step
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.close()
            where = not_finite(self.task, self.state, batch, self.step)
            raise NotFiniteError(f"step {self.step + 1}: loss {loss:.4g}, gradient norm {norm:.4g}; {where}. "
                                 "The state is as it was before this step; a lower learning rate may help")
        self.step += 1
        self.losses.append(loss)
        self.norms.append(norm)
        return loss, norm

    @property
    def waited(self) -> float:
        """Seconds that steps have waited for their batches."""
        return self._ahead.waited if self._ahead is not None else 0.0

    def close(self) -> None:
        """Stop the thread that makes batches; the next step starts it anew."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    # -- evaluation -------------------------------------------------------------------------------------------

    def evaluate(self) -> list[Score]:
        """Figures of the averaged weights on what was held out; the first is the metric, which the curve keeps."""
        found = self.task.scores(self.state.average, self.backend)
        if not self.scored or self.scored[-1][0] != self.step:
            self.scored.append((self.step, found[0].value))
        return found

    @property
    def best(self) -> tuple[int, float] | None:
        """The step and the metric of the best evaluation so far."""
        sign = 1 if self.task.higher else -1
        return max(self.scored, key=lambda x: sign * x[1] if math.isfinite(x[1]) else -math.inf, default=None)

    # -- checkpoints -------------------------------------------------------------------------------------------

    def save(self, folder: str | pathlib.Path, keep: int = 1) -> None:
        """Write the checkpoint; the last `keep` of them stay, and the one with the best evaluation."""
        best = self.best
        facts = {"model": self.task.name, "recipe": dataclasses.asdict(self.recipe), "facts": self.task.facts,
                 "data": {"source": self.task.source, "sha256": self.task.sha256},
                 "scored": [{"step": s, "value": v} for s, v in self.scored]}
        curve = {"losses": np.array(self.losses, np.float64), "norms": np.array(self.norms, np.float64)}
        checkpoint.write(folder, self.step, facts, {**named_leaves(self.state, "state"), **curve}, keep, best[0] if best else None)

    @classmethod
    def resume(cls, folder: str | pathlib.Path, data: pathlib.Path | None = None, backend: str | None = None) -> Run:
        """The run that a checkpoint holds, going on with the same data. CheckpointError if they are others."""
        task, facts, tensors = open_task(folder)
        task.read(data)
        known = facts.get("data")
        if not isinstance(known, dict) or known.get("sha256") != task.sha256:
            source = known.get("source") if isinstance(known, dict) else known
            raise CheckpointError(f"{folder} was trained on other data ({short(source)}) than {task.source}; "
                                  "resume with the data that it was trained on")
        run = cls(task, backend)
        run.state = fill(run.state, tensors, str(folder), "state")
        run.step = facts["step"]
        run.losses, run.norms = (_curve(tensors, name, run.step, folder) for name in ("losses", "norms"))
        run.scored = _scored(facts.get("scored", []), run.step, folder)
        return run


def _curve(tensors: Tensors, name: str, steps: int, folder: Any) -> list[float]:
    """One number for each step that was done."""
    found = tensors.get(name, np.zeros(0))
    if found.shape != (steps,) or found.dtype != np.float64:
        raise CheckpointError(f"{folder} is damaged: it is said to be at step {steps}, but {name} is {found.dtype}{list(found.shape)}")
    values: list[float] = found.tolist()
    return values


def _scored(found: Any, steps: int, folder: Any) -> list[tuple[int, float]]:
    """The evaluations so far."""
    if not isinstance(found, list) or not all(isinstance(x, dict) and type(x.get("step")) is int and 0 <= x["step"] <= steps
                                              and type(x.get("value")) is float for x in found):
        raise CheckpointError(f"{folder} is damaged: its evaluations are not a step and a value each")
    return [(x["step"], x["value"]) for x in found]


def open_task(folder: str | pathlib.Path, name: str | None = None) -> tuple[Task, Facts, Tensors]:
    """The task of a checkpoint without its data, what checkpoint.json says, and the tensors. CheckpointError if something is off."""
    facts, tensors = checkpoint.read(folder, name)
    if facts.get("model") not in list(CLASSES):
        raise CheckpointError(f"{folder} is a checkpoint of {short(facts.get('model'))!r}; there is {', '.join(CLASSES)}")
    kind = task_class(facts["model"])
    recipe = read_recipe(kind.Recipe, facts.get("recipe"), folder)
    known = facts.get("facts")
    if not isinstance(known, dict):
        raise CheckpointError(f"{folder}: the checkpoint does not say what its data were like")
    try:
        task = kind(recipe, known)
    except NagraphError as error:
        raise CheckpointError(f"{folder}: the checkpoint does not say what its data were like: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise CheckpointError(f"{folder}: the checkpoint does not say what its data were like") from None
    task.check_claims({n: a.shape for n, a in tensors.items()}, folder)
    return task, facts, tensors


def load_model(folder: str | pathlib.Path, name: str | None = None) -> tuple[Any, Task]:
    """The averaged model of a checkpoint, and its task without the data."""
    task, _, tensors = open_task(folder, name)
    return fill(task.init(ng.random.key(0)), tensors, str(folder), "state.average"), task
