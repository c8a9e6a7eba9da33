"""`nagraph fuzz`: random programs in every way against plain NumPy, thousands of them, resumable."""

from __future__ import annotations

import json
import pathlib

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nagraph.cli.terminal import console as new_console
from nagraph.errors import DataError


@click.command(short_help="Check random programs against plain NumPy.")
@click.option("--programs", type=click.IntRange(1), default=300, show_default=True, help="How many programs.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The seed of the first one.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes at once.")
@click.option("--out", type=click.Path(path_type=pathlib.Path), default=pathlib.Path("runs/fuzz"), show_default=True,
              help="Folder for the state and a script for each fault. A run with the same folder goes on where the last one stopped.")
def command(programs: int, first: int, workers: int, out: pathlib.Path) -> int:
    """Check random programs in every way of running them (eagerly, each backend, with and without passes) against plain NumPy,
    and their derivatives against differences. What fails is shrunk to a few lines and kept as a script.

    Exit code 1 if a program failed.
    """
    from nagraph.storage import write_atomically
    from nagraph.testing.workers import check_seeds

    state = out / "state.json"
    done = _read(state)
    seeds = [s for s in range(first, first + programs) if str(s) not in done]
    console = new_console()
    out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("programs", total=programs, completed=programs - len(seeds))
        for finding in check_seeds(seeds, workers):
            done[str(finding.seed)] = finding.text.partition("\n")[0]
            if finding.text:
                (out / f"{finding.seed}.txt").write_text(finding.text + "\n", encoding="utf-8")
                console.print(done[str(finding.seed)])
            write_atomically(state, json.dumps(done).encode())
            progress.advance(task)
    failed = [s for s in range(first, first + programs) if done[str(s)]]
    console.print(f"{programs} programs, {len(failed)} with a fault")
    if failed:
        console.print(f"seeds {', '.join(map(str, failed))}; a script for each in {out}", soft_wrap=True)
    return 1 if failed else 0


def _read(state: pathlib.Path) -> dict[str, str]:
    """What earlier runs found, by seed: the first line of a report, or nothing."""
    if not state.exists():
        return {}
    try:
        found = json.loads(state.read_text(encoding="utf-8"))
        return {str(int(seed)): str(text) for seed, text in found.items()}
    except (ValueError, AttributeError) as error:
        raise DataError(f"{state} is no state of `nagraph fuzz` ({error}); move it away, or name another folder with --out") from None
