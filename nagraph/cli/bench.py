"""`nagraph bench`: times models and single operations, keeps the times as JSON, compares them with earlier ones and with peers."""

from __future__ import annotations

import datetime
import importlib.metadata
import pathlib
import platform
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import nagraph
from nagraph.backends.host import cpu_name, usable_cores
from nagraph.cli.measuring import Others, Row, measure, median_seconds
from nagraph.cli.peers import Peer
from nagraph.cli.results import Change, changes, load, save
from nagraph.cli.targets import resolve
from nagraph.cli.terminal import console as new_console
from nagraph.errors import DataError
from nagraph.models import CLASSES
from nagraph.models.operations import CASES
from nagraph.models.workloads import STEPS, operation, workload

#: Rounds, and seconds of each run in a round; the same for a quick look.
ROUNDS, SECONDS = 9, 0.2
QUICK_ROUNDS, QUICK_SECONDS = 3, 0.05
#: A share of the cores used by other processes that is worth a note.
BUSY = 0.05
#: What models are benchmarked with, other than their defaults: without dropout, whose random bits no two frameworks share.
CHANGES: dict[str, dict[str, Any]] = {"gpt2": {"dropout": 0.0}}


def run(targets: tuple[str, ...], only: str | None, quick: bool, threads: int | None, backend: str, out: pathlib.Path | None,
        compare: pathlib.Path | None, fail_if_slower: bool, against: str | None) -> int:
    if fail_if_slower and compare is None:
        raise click.UsageError("--fail-if-slower compares with earlier results; name them with --compare")
    before = load(compare) if compare else None
    chosen = _chosen(targets, only)
    count = threads or usable_cores()
    console = new_console()
    peers: list[Peer] = []
    try:
        for name in dict.fromkeys((against or "").replace(" ", "").split(",") if against else ()):
            peers.append(Peer(name, count))
        others = Others()
        length = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
        rows = _measured(console, chosen, backend, count, peers, others, *length)
    finally:
        for peer in peers:
            peer.close()
    about = {**_about(backend, count, quick, {p.name: p.version for p in peers}), "others": others.share}
    place = out or pathlib.Path("runs") / "bench" / f"{about['date'].replace(':', '')}.json"
    save(place, about, rows)
    console.print(times(rows))
    if (others.share or 0) > BUSY:
        console.print(f"note: other processes used {others.share:.0%} of the cores meanwhile, so times may be too long")
    slower = _compared(console, before, about, rows) if before else []
    console.print(f"results   {place}", soft_wrap=True)
    return 1 if slower and fail_if_slower else 0


def benchmarks() -> dict[str, Callable[[], Any]]:
    """Each benchmark and what makes its workload."""
    found: dict[str, Callable[[], Any]] = {}
    for model in CLASSES:
        for task in STEPS:
            found[f"{model}_{task}"] = lambda model=model, task=task: workload(model, task, **CHANGES.get(model, {}))
    for name in CASES:
        found[name] = lambda name=name: operation(name)
    return found


def _chosen(targets: tuple[str, ...], only: str | None) -> dict[str, Callable[[], Any]]:
    """The benchmarks to run, and what makes the workload of each: ours whose names begin as asked, and other targets."""
    ours = benchmarks()
    found: dict[str, Callable[[], Any]] = {}
    named = [] if only is None else only.replace(" ", "").split(",")
    for wanted in (*named, *targets):
        matching = {name: make for name, make in ours.items() if wanted and name.startswith(wanted)}
        if not matching and wanted in named:
            raise DataError(f"there is no benchmark {wanted!r}; there is {', '.join(ours)}")
        found |= matching or {wanted: lambda work=resolve(wanted).work: work}
    return found or ours


def _measured(console: Console, chosen: dict[str, Callable[[], Any]], backend: str, threads: int, peers: list[Any], others: Others,
              rounds: int, seconds: float) -> list[Row]:
    """All rows; a first run of each compiles and warms up."""
    runs: dict[tuple[str, str], Callable[[float], float]] = {}
    flops: dict[str, float] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("compiling", total=len(chosen) * (1 + len(peers)))
        for name, make in chosen.items():
            work = make()
            call = work.calls(backend, threads)
            flops[name] = _flops(work)
            call()
            runs[name, "nagraph"] = others.watched(lambda seconds, call=call: median_seconds(call, seconds))
            progress.advance(task)
            for peer in peers:
                if peer.run(name, 0.0) is not None:
                    runs[name, peer.name] = lambda seconds, peer=peer, name=name: peer.run(name, seconds)
                progress.advance(task)
        progress.update(task, description="measuring", completed=0, total=rounds * len(runs))
        return measure(runs, rounds, seconds, flops, lambda: progress.advance(task))


def _flops(work: Any) -> float:
    """Arithmetic operations of a call, by the ops' costs."""
    return float(sum(n.op.cost(*(v.type for v in n.operands)).flops for n in work.graph().nodes))


def _about(backend: str, threads: int, quick: bool, peers: dict[str, str]) -> dict[str, Any]:
    """What the results were measured with."""
    versions = {p: importlib.metadata.version(p) for p in ("numpy", "llvmlite")}
    return {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "machine": {"cpu": cpu_name(), "cores": usable_cores(), "system": f"{platform.system()} {platform.machine()}"},
            "versions": {"nagraph": nagraph.__version__, "python": platform.python_version(), **versions, **peers},
            "backend": backend, "threads": threads, "quick": quick}


def times(rows: list[Row]) -> Table:
    """Medians in milliseconds, ours with their noise and rate; peers beside them, and how many times the best one takes."""
    columns = list(dict.fromkeys(r.column for r in rows))
    others = [c for c in columns if c != "nagraph"]
    table = Table(box=None, pad_edge=False)
    table.add_column("benchmark", no_wrap=True)
    for title in ("ms", "noise", "GFLOP/s", *(f"{c} ms" for c in others), *(("best peer / nagraph",) if others else ())):
        table.add_column(title, justify="right", no_wrap=True)
    found = {(r.name, r.column): r for r in rows}
    for name in dict.fromkeys(r.name for r in rows):
        ours = found[name, "nagraph"]
        theirs = [found.get((name, c)) for c in others]
        best = min((r.seconds for r in theirs if r), default=None)
        rate = f"{ours.flops / ours.seconds / 1e9:.1f}" if ours.flops else ""
        table.add_row(name, _ms(ours.seconds), f"±{ours.noise:.0%}", rate,
                      *(_ms(r.seconds) if r else "-" for r in theirs),
                      *((f"{best / ours.seconds:.2f}" if best else "-",) if others else ()))
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g}"


def _compared(console: Console, before: tuple[dict[str, Any], list[Row]], about: dict[str, Any], rows: list[Row]) -> list[Change]:
    """Print the comparison; what got slower in our own column."""
    old, old_rows = before
    found = [c for c in changes(old_rows, rows) if c.now.column == "nagraph"]
    if not found:
        raise DataError("the two results have no benchmark in common")
    for what in ("machine", "backend", "threads", "quick"):
        if old.get(what) != about[what]:
            console.print(f"note: {what} was {_shown(old.get(what))}, is {_shown(about[what])}")
    if (old.get("others") or 0) > BUSY:
        console.print(f"note: when the earlier results were taken, other processes used {old['others']:.0%} of the cores")
    table = Table(box=None, pad_edge=False, title=f"\ncompared with {old.get('date')}", title_justify="left")
    table.add_column("benchmark", no_wrap=True)
    for title in ("before ms", "now ms", "now / before", "noise"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for c in found:
        table.add_row(c.now.name, _ms(c.before.seconds), _ms(c.now.seconds), f"{c.ratio:.2f}", f"±{c.limit:.0%}",
                      "" if c.verdict == "same" else c.verdict, style={"slower": "red", "faster": "green"}.get(c.verdict, ""))
    console.print(table)
    slower = [c for c in found if c.verdict == "slower"]
    shown = ", ".join(f"{c.now.name} ({c.ratio:.2f} times)" for c in slower)
    console.print(f"slower beyond the noise: {shown or 'nothing'}", soft_wrap=True)
    return slower


def _shown(value: Any) -> str:
    return ", ".join(f"{v}" for v in value.values()) if isinstance(value, dict) else f"{value}"
