"""A training run as people see it: what it is made of, how far it is, what came out."""

from __future__ import annotations

import pathlib
import shlex
import signal
import time
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text as Shown

from nagraph.cli import pictures
from nagraph.errors import DataError, NotFiniteError
from nagraph.models.training.diagnosis import SOON, check_gradients
from nagraph.models.training.logs import Log
from nagraph.models.training.task import Text

#: Steps from one checkpoint to the next; there is one at the end as well.
SAVE_EVERY = 500
#: Steps from one printed line to the next, where the output is no terminal.
SAY_EVERY = 100


@dataclass(frozen=True)
class Plan:
    """A plan says where a run goes, how long it is, and what it leaves behind."""

    folder: pathlib.Path
    steps: int
    keep: int = 1
    evaluate_every: int | None = None
    patience: int | None = None
    tensorboard: bool = False
    data: pathlib.Path | None = None
    backend: str | None = None

    @property
    def every(self) -> int:
        """Steps between evaluations."""
        return self.evaluate_every or max(1, self.steps // 5)


def train(run: Any, plan: Plan) -> None:
    """Train to the last step, then report. Abort if stopped before."""
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    _describe(console, run)
    try:
        stopped = _Training(console, run, plan).advance()
    finally:
        run.close()
    if stopped:
        again = ["nagraph", "train", run.task.name, *(["--data", str(plan.data)] if plan.data else []),
                 *(["--backend", plan.backend] if plan.backend else []), "--out", str(plan.folder), "--resume", "--steps", str(plan.steps)]
        console.print(f"stopped after step {run.step}, which is saved; to go on: {shlex.join(again)}")
        raise click.exceptions.Abort
    report(console, run, plan.folder)


def _describe(console: Console, run: Any) -> None:
    task = run.task
    console.print(f"data      {task.describe()}")
    start = time.perf_counter()
    lowered = run.compile()
    seconds = time.perf_counter() - start
    arena = lowered.executable.arena_nbytes / 2**20
    console.print(f"model     {task.name}  {run.state.model.parameter_count:,} parameters   compiled in {seconds:.1f} s: "
                  f"{len(lowered.graph.nodes)} operations, {arena:.0f} MB arena")


class _Loss(ProgressColumn):
    """A column with the running loss."""

    def render(self, task: Task) -> Shown:
        loss = task.fields.get("loss")
        return Shown("" if loss is None else f"{loss:.3f} {task.fields['unit']}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Shown:
        return Shown(_rate((task.speed or 0) * task.fields["items"], task.fields["item"]))


def _rate(rate: float, item: str) -> str:
    return "" if not rate else f"{rate / 1000:.1f}k {item}/s" if rate >= 1000 else f"{rate:.0f} {item}/s"


class _Training:
    """A training goes on until all steps are done, evaluations stop getting better, or Ctrl-C; it saves on the way and at the end."""

    def __init__(self, console: Console, run: Any, plan: Plan):
        self.console, self.run, self.plan = console, run, plan
        self.stop = False
        self.smooth: float | None = None
        self.first, self.since = run.step, time.perf_counter()
        self.items = run.task.items() * run.recipe.accumulate

    def advance(self) -> bool:
        """Whether it was stopped. The start is saved as well, so that a full disk or a wrong folder is found before the work."""
        run, plan, console = self.run, self.plan, self.console

        def on_interrupt(*_: Any) -> None:
            self.stop = True

        before = signal.signal(signal.SIGINT, on_interrupt)
        columns = (TextColumn("step  {task.completed:.0f}/{task.total:.0f}"), BarColumn(), _Loss(), _Rate(), TimeRemainingColumn())
        try:
            if run.step == 0:
                run.save(plan.folder, plan.keep)
            with Log(plan.folder, run.step, plan.tensorboard) as log, Progress(
                    *columns, console=console, disable=not console.is_terminal) as progress:
                bar = progress.add_task("train", total=plan.steps, completed=run.step, loss=None, items=self.items,
                                        item=run.task.item, unit=run.task.unit)
                while run.step < plan.steps and not self.stop and not self._is_tired():
                    self._step(log)
                    progress.update(bar, completed=run.step, loss=self.smooth)
            run.save(plan.folder, plan.keep)
        except (SystemExit, NotFiniteError):  # nobody reads the output any more (| head), or the next step can't be done
            run.save(plan.folder, plan.keep)
            raise
        finally:
            signal.signal(signal.SIGINT, before)
        if run.step > self.first:
            share = run.waited / max(time.perf_counter() - self.since, 1e-9)
            console.print(f"trained   {run.step - self.first} steps in {time.perf_counter() - self.since:.0f} s, "
                          f"{share:.1%} of it waiting for data")
        return self.stop and run.step < plan.steps

    def _step(self, log: Any) -> None:
        run, plan = self.run, self.plan
        loss, norm = run.advance()
        self.smooth = loss if self.smooth is None else 0.95 * self.smooth + 0.05 * loss
        if run.step - SOON in run.task.starts:
            check_gradients(run.task, run.state)
        metric = None
        if run.step % plan.every == 0:
            metric = run.evaluate()[0].value
        log.step(run.step, loss, norm, time.perf_counter() - self.since, metric)
        if not self.console.is_terminal and run.step % SAY_EVERY == 0:
            rate = (run.step - self.first) * self.items / (time.perf_counter() - self.since)
            left = (plan.steps - run.step) * self.items / rate
            self.console.print(f"step  {run.step}/{plan.steps}  {self.smooth:.3f} {run.task.unit}  {_rate(rate, run.task.item)}  "
                               f"{int(left) // 60}:{int(left) % 60:02d} left")
        if metric is not None:
            self.console.print(f"step  {run.step}/{plan.steps}  {run.task.metric} {metric:.4g}")
        if run.step < plan.steps and (run.step % SAVE_EVERY == 0 or metric is not None):
            log.flush()
            run.save(plan.folder, plan.keep)

    def _is_tired(self) -> bool:
        """Whether as many evaluations have passed without a better one as patience allows."""
        best, patience = self.run.best, self.plan.patience
        if patience is None or best is None:
            return False
        since = sum(step > best[0] for step, _ in self.run.scored)
        if since >= patience:
            self.console.print(f"stopped   {since} evaluations without one better than {best[1]:.4g}, that of step {best[0]}")
        return since >= patience


def report(console: Console, run: Any, folder: pathlib.Path) -> None:
    """The figures beside those of the baselines, things to look at, and pictures."""
    task = run.task
    console.print(figures(task, run.evaluate(), run.step))
    for note in task.notes():
        console.print(note)
    drawn: list[Any] = []
    try:
        for shown in task.showcase(run.state.average, run.backend):
            if not isinstance(shown, Text):
                drawn.append(shown)
                continue
            console.print(f"\n{shown.title}:", style="bold")
            console.print(shown.given, style="dim", end="")
            for piece in shown.written:
                console.print(piece, end="")
            console.print()
    except DataError as error:
        console.print(f"\nno sample: {error}")
    console.print(f"\ncheckpoint  {folder}")
    try:
        for name, path in pictures.draw_all(run, drawn, folder):
            console.print(f"{name:<11} {path}")
    except DataError as error:
        console.print(f"pictures    not drawn: {error}")


def figures(task: Any, scores: list[Any], step: int) -> Table:
    """The model's figures below those of the baselines."""
    table = Table(title=f"On what was held out: {task.metric}, {'more' if task.higher else 'less'} is better", title_justify="left")
    table.add_column("")
    table.add_column(task.metric, justify="right")
    for name, value in task.baselines():
        table.add_row(name, f"{value:.4g}")
    for i, (name, value) in enumerate(scores):
        table.add_row(f"{task.name} after {step} steps" if i == 0 else name, f"{value:.4g}", style="bold" if i == 0 else "")
    return table
