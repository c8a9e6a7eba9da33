"""`nagraph export TARGET --to FORM -o PATH`: hands what a target is to the function of a form, and says what was written."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import click
from rich.progress import Progress

import nagraph as ng
from nagraph.cli.targets import GraphWork, resolve, sizes_of, trained
from nagraph.cli.terminal import console
from nagraph.errors import DataError, SizeError
from nagraph.export.forms import FORMS
from nagraph.export.progress import listening
from nagraph.ir.size_binding import chosen
from nagraph.ir.sizes import Dim, dims, substituted
from nagraph.ir.types import TensorType
from nagraph.models.generation import exported_prefill, exported_step
from nagraph.models.pretrained import load_language_model

#: Bytes of weights from which on a bar shows how many are written.
LARGE_NBYTES = 1 << 26
#: How a page begins.
PROMPT = "The "


def run(target: str, form: str, out: pathlib.Path, train: bool, layers: int | None, sizes: str | None,
        generate: bool, **options: Any) -> None:
    """options: those of all forms, under names that begin with `form_`; None where they were not given."""
    made = FORMS[form]
    given = {name.removeprefix("form_"): value for name, value in options.items() if value is not None}
    for name in given:
        if name not in [o.name for o in made.options]:
            raise click.UsageError(f"--{name.replace('_', '-')} is no option of --to {form}")
    if made.suffix and out.suffix != made.suffix:
        raise DataError(f"{out} would be written by --to {form}; name a file that ends in {made.suffix}")
    if generate:
        if train or layers:
            raise click.UsageError("--generate is about a trained model, which --train and --layers are not")
        what, args, page = _writing(trained(target), made.has_functions)
        given |= {"page": page} if made.has_page else {}
    else:
        what, args = _exported(resolve(target, "train" if train else None, layers).work, train)
    numbers = sizes_of("--sizes", sizes)
    if generate and numbers:
        raise DataError("--sizes: what writes text has no sizes that are open")
    what, args, wanted, left = (what, args, {}, []) if generate else _of_sizes(what, args, numbers, made.open_sizes)
    with _progress():
        getattr(ng.export, form)(what, out, args, **given)
    terminal = console()
    if wanted or left:
        terminal.print("sizes: " + ", ".join([*(f"{d.name} is {n}" for d, n in wanted.items()), *(f"{d.name} is open" for d in left)]))
    for file in sorted(p for p in out.rglob("*") if p.is_file()) if out.is_dir() else [out]:
        terminal.print(f"{file}   {file.stat().st_size / 2**20:,.2f} MB", soft_wrap=True)


def _exported(work: Any, train: bool) -> tuple[Any, Any]:
    """What a target is, and its arguments: of a model the answer to inputs of open sizes, all else as it is run; None for a graph's."""
    if isinstance(work, GraphWork):
        return work.program or work.given, None
    if work.exported is not None and not train:
        return work.exported
    return work.make(None, None), ng.eval_shape(_themselves, *work.arguments)


def _writing(folder: pathlib.Path, functions: bool) -> tuple[Any, Any, dict[str, Any]]:
    """The step by which the language model in a folder writes, its arguments, and what a page knows of it.

    functions: as one of two functions, `prefill` and `step`.
    """
    model, tokenizer = load_language_model(folder)
    what, args = ({"prefill": exported_prefill(model), "step": exported_step(model)}, None) if functions else exported_step(model)
    page = {"tokenizer": tokenizer.to_json(), "context": model.config.context, "title": f"{folder.resolve().name} writes"}
    with contextlib.suppress(DataError):  # of characters, some may be unknown
        tokenizer.encode(PROMPT)
        page["prompt"] = PROMPT
    return what, args, page


def _themselves(*arguments: Any) -> Any:
    return arguments


def _of_sizes(what: Any, args: Any, sizes: dict[str, int], open_sizes: bool) -> tuple[Any, Any, dict[Dim, int], list[Dim]]:
    """The same with numbers for dimensions: those that are given, and where none may stay open the largest, or 1 without an upper bound.

    And which they are, and which are open still. DataError for names and numbers that do not fit.
    """
    specs = [t for t in ng.tree.leaves(args) if isinstance(t, TensorType)]
    known = what.dims if args is None else dims([t.shape for t in specs])
    try:
        wanted = chosen(known, sizes)
        for d in () if open_sizes else known:
            wanted.setdefault(d, max(d.min, 1) if d.max is None else d.max)
        if args is None:
            what = what.specialise({d.name: n for d, n in wanted.items()})
        else:
            args = ng.tree.map(lambda t: t.with_shape(tuple(substituted(n, wanted) for n in t.shape)) if t is not None else None, args)
    except SizeError as error:
        raise DataError(f"--sizes: {error}") from None
    return what, args, wanted, [d for d in known if d not in wanted]


@contextlib.contextmanager
def _progress() -> Iterator[None]:
    """Bars for what takes long to write, on a terminal."""
    terminal = console()
    if not terminal.is_terminal:
        yield
        return
    with Progress(console=terminal, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, total: int) -> None:
            if total >= LARGE_NBYTES:
                if what not in tasks:
                    tasks[what] = bars.add_task(what, total=total)
                bars.update(tasks[what], completed=done)

        with listening(told):
            yield
