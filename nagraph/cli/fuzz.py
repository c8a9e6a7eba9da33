"""`nagraph fuzz`: checks random programs in every way against plain NumPy, thousands of them, resumable."""

from __future__ import annotations

import json
import pathlib

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nagraph.cli.terminal import console as new_console
from nagraph.errors import DataError
from nagraph.files import write_atomically
from nagraph.testing.workers import check_seeds


def run(programs: int, first: int, workers: int, out: pathlib.Path) -> int:
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
            write_atomically(state, json.dumps(done).encode(), DataError)
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
