"""`nagraph train gpt2`: train on text, report against baselines, leave a checkpoint and a picture."""

from __future__ import annotations

import math
import pathlib
import shlex
import signal
import time
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text as Shown

from nagraph.cli.info import backend_option, check_backend
from nagraph.errors import CheckpointError, DataError

MODELS = ("gpt2",)
#: A checkpoint is written every so many steps, and at the end.
SAVE_EVERY = 500
#: Where the output is no terminal, a line is printed every so many steps.
SAY_EVERY = 100
SAMPLE = 400


@click.command(short_help="Train a model on text.")
@click.argument("model")
@click.option("--data", type=click.Path(readable=False, path_type=pathlib.Path),
              help="A text file or a folder of them; without it, Python's own documentation.")
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True, help="Steps in all, those before a resume included.")
@click.option("--seed", type=click.IntRange(0), help="Decides initial weights, batches and dropout.  [default: 0]")
@click.option("--out", type=click.Path(path_type=pathlib.Path), help="Folder for checkpoint and loss curve.  [default: runs/MODEL]")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder, bit for bit as if never stopped.")
@backend_option
@click.option("--horizon", type=click.IntRange(2),
              help="Let the learning rate fall along a half cosine until this step; stored in the checkpoint.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Peak learning rate.  [default: 0.003]")
@click.option("--layers", type=click.IntRange(1), help="Transformer blocks.  [default: 4]")
@click.option("--heads", type=click.IntRange(1), help="Attention heads.  [default: 4]")
@click.option("--width", type=click.IntRange(1), help="Width of the residual stream.  [default: 104]")
@click.option("--context", type=click.IntRange(2), help="Symbols that the model sees at once.  [default: 128]")
@click.option("--batch", type=click.IntRange(1), help="Windows in one step.  [default: 16]")
def command(model: str, data: pathlib.Path | None, steps: int, out: pathlib.Path | None, resume: bool, backend: str | None,
            **recipe: Any) -> None:
    """Train MODEL (gpt2), a character-level language model, and compare it with n-gram baselines.

    Ctrl-C stops after the step in hand and saves; --resume goes on from there. A step whose loss
    is not finite changes nothing and is reported.
    """
    if model not in MODELS:
        raise DataError(f"unknown model {model!r}; there is {', '.join(MODELS)}")
    check_backend(backend)
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    folder = out or pathlib.Path("runs") / model
    run = _open(folder, data, resume, backend, {k: v for k, v in recipe.items() if v is not None}, steps)
    _describe(console, run)
    stopped = _advance(console, run, steps, folder)
    if stopped:
        again = ["nagraph", "train", model, *(["--data", str(data)] if data else []), *(["--backend", backend] if backend else []),
                 "--out", str(folder), "--resume", "--steps", str(steps)]
        console.print(f"stopped after step {run.step}, which is saved; to go on: {shlex.join(again)}")
        raise click.exceptions.Abort
    _report(console, run, folder)


def _open(folder: pathlib.Path, data: pathlib.Path | None, resume: bool, backend: str | None, changes: dict[str, Any],
          steps: int) -> Any:
    from nagraph.models import checkpoint
    from nagraph.models.data import text
    from nagraph.models.training import Recipe, Run, read_recipe

    if resume:
        facts = checkpoint.read_facts(folder, "gpt2")
        recipe = read_recipe(facts, folder)
        for name, value in changes.items():
            if getattr(recipe, name) != value:
                raise CheckpointError(f"{folder} was trained with {name} {getattr(recipe, name)}, so it can't go on with {value}; "
                                      f"leave --{name.replace('_', '-')} out, or begin anew in another --out")
        if facts["step"] > steps:
            raise CheckpointError(f"{folder} is at step {facts['step']} already, beyond --steps {steps}")
        return Run.resume(folder, text.load(data, recipe.context), backend)
    if checkpoint.exists(folder):
        raise CheckpointError(f"{folder} holds a checkpoint already; add --resume to go on from it, or name another folder with --out")
    recipe = Recipe(**changes)
    return Run(recipe, text.load(data, recipe.context), backend)


def _describe(console: Console, run: Any) -> None:
    text, recipe = run.text, run.recipe
    console.print(f"data      {len(text.ids) / 1000:.0f}k characters of {text.source}, {len(text.symbols)} symbols, last tenth held out")
    start = time.perf_counter()
    lowered = run.compile()
    seconds = time.perf_counter() - start
    arena = lowered.executable.arena_nbytes / 2**20
    console.print(f"model     gpt2  {run.state.model.parameter_count:,} parameters, {recipe.layers} layers of width {recipe.width}   "
                  f"compiled in {seconds:.1f} s: {len(lowered.graph.nodes)} operations, {arena:.0f} MB arena")


class _Loss(ProgressColumn):
    """The running loss in nats a symbol."""

    def render(self, task: Task) -> Shown:
        loss = task.fields.get("loss")
        return Shown("" if loss is None else f"{loss:.2f} nats")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Shown:
        rate = (task.speed or 0) * task.fields["tokens"]
        return Shown(f"{rate / 1000:.1f}k tokens/s" if rate else "")


def _advance(console: Console, run: Any, steps: int, folder: pathlib.Path) -> bool:
    """Steps until `steps` are done or Ctrl-C; saves at the end. Whether it was stopped.

    The start is saved as well, so that a full disk or a wrong folder is found before the work.
    """
    stop = False

    def on_interrupt(*_: Any) -> None:
        nonlocal stop
        stop = True

    before = signal.signal(signal.SIGINT, on_interrupt)
    tokens = run.recipe.batch * run.recipe.context
    columns = (TextColumn("step  {task.completed:.0f}/{task.total:.0f}"), BarColumn(), _Loss(), _Rate(), TimeRemainingColumn())
    try:
        if run.step == 0:
            run.save(folder)
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("train", total=steps, completed=run.step, loss=None, tokens=tokens)
            smooth, since, first = None, time.perf_counter(), run.step
            while run.step < steps and not stop:
                loss, norm = run.advance()
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    console.print(f"step {run.step}: loss {loss:.4g}, gradient norm {norm:.4g}: not finite, so the step changed nothing")
                else:
                    smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
                progress.update(task, completed=run.step, loss=smooth)
                if not console.is_terminal and run.step % SAY_EVERY == 0 and smooth is not None:
                    rate = (run.step - first) * tokens / (time.perf_counter() - since)
                    left = (steps - run.step) * tokens / rate
                    console.print(f"step  {run.step}/{steps}  {smooth:.2f} nats  {rate / 1000:.1f}k tokens/s  "
                                  f"{int(left) // 60}:{int(left) % 60:02d} left")
                if run.step % SAVE_EVERY == 0 and run.step < steps:
                    run.save(folder)
        run.save(folder)
    except SystemExit:  # nobody reads the output any more (| head); the steps are done all the same
        run.save(folder)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    return stop and run.step < steps


def _report(console: Console, run: Any, folder: pathlib.Path) -> None:
    from nagraph.models.data.kneser_ney import perplexity
    from nagraph.models.generation import generate

    text = run.text
    table = Table(title=f"Held-out perplexity (a symbol), {len(text.held_out):,} characters", title_justify="left")
    table.add_column("model")
    table.add_column("perplexity", justify="right")
    for order in (0, 1, 2, 3, 5):
        name = "uniform" if order == 0 else f"Kneser-Ney, order {order}"
        try:
            table.add_row(name, f"{perplexity(text.train, text.held_out, order, len(text.symbols)):.2f}")
        except ValueError as error:
            table.add_row(name, str(error))
    table.add_row(f"gpt2 after {run.step} steps", f"{run.perplexity():.2f}", style="bold")
    console.print(table)
    if text.source == "Python's own documentation":
        console.print("Topics repeat each other, so some held-out spans occur in the training part, for the n-grams as well.")
    prompt = text.held_out[:run.recipe.context // 2]
    try:
        written = list(generate(run.state.average, prompt, SAMPLE, temperature=0.8, seed=run.recipe.seed, backend=run.backend))
        console.print("\nA sample (temperature 0.8), after the first words of the held-out part:", style="bold")
        console.print(text.decode(prompt), style="dim", end="")
        console.print(text.decode(written))
    except DataError as error:
        console.print(f"\nno sample: {error}")
    console.print(f"\ncheckpoint  {folder}")
    picture = draw_curve(run, folder / "loss.png")
    console.print(f"loss curve  {picture}" if picture else "loss curve  not drawn: it needs matplotlib (pip install 'nagraph[plot]')")


def draw_curve(run: Any, path: pathlib.Path) -> pathlib.Path | None:
    """Write the curve of losses as a picture; None if matplotlib is not installed."""
    import io

    import numpy as np

    from nagraph.storage import write_atomically

    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    losses = np.asarray(run.losses)
    width = max(1, min(50, len(losses) // 10))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(np.arange(1, len(losses) + 1), losses, color="0.8", linewidth=0.8, label="each step")
    finite = np.where(np.isfinite(losses), losses, np.nanmean(losses[np.isfinite(losses)]) if np.isfinite(losses).any() else 0)
    smooth = np.convolve(finite, np.ones(width) / width, "valid")
    axes.plot(np.arange(width, len(losses) + 1), smooth, color="C0", label=f"mean of {width} steps")
    axes.set(xlabel="step", ylabel="training loss (nats a symbol)", title=f"gpt2 on {run.text.source}")
    axes.grid(alpha=0.3)
    axes.legend()
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150)
    write_atomically(path, data.getvalue())
    return path
