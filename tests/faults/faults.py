"""Puts faults of the past back, one at a time, and shows that the test named for each fails.

    python tests/faults/faults.py              every fault; exit code 1 if a test does not see one
    python tests/faults/faults.py sums thin   those whose names, or the names of whose files, contain one of the words

The faults are rows of the TOML files beside this one: in `file`, the text `right` becomes `wrong`, and `test` (what pytest takes,
options included) must fail; without the change it must pass. Each runs in a copy of the checkout, so nothing here is touched.
"""

from __future__ import annotations

import functools
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Seconds that one test may take.
PATIENCE = 180


class Fault(NamedTuple):
    """A fault that was there once: what it was, the line that brings it back, the test that sees it, the file of its row."""

    name: str
    file: str
    right: str
    wrong: str
    test: str
    area: str


def faults() -> list[Fault]:
    """All rows of all files."""
    found = []
    for path in sorted(pathlib.Path(__file__).parent.glob("*.toml")):
        found += [Fault(**row, area=path.stem) for row in tomllib.loads(path.read_text(encoding="utf-8"))["fault"]]
    return found


def fails(checkout: pathlib.Path, test: str) -> bool:
    """Whether the test fails in a checkout. RuntimeError if it does not run at all."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *shlex.split(test)]
    done = subprocess.run(command, cwd=checkout, env={**os.environ, "PYTHONPATH": str(checkout)}, capture_output=True, text=True,
                          timeout=PATIENCE)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest {test}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


@functools.cache
def fails_as_it_is(checkout: pathlib.Path, test: str) -> bool:
    """Whether the test fails without a fault: several rows may name one test."""
    return fails(checkout, test)


def seen(fault: Fault, checkout: pathlib.Path) -> str:
    """What is wrong with a row: empty if its test passes without the fault and fails with it."""
    path = checkout / fault.file
    text = path.read_text(encoding="utf-8")
    if text.count(fault.right) != 1:
        return f"its text is {text.count(fault.right)} times in {fault.file}"
    if fails_as_it_is(checkout, fault.test):
        return "the test fails without the fault"
    path.write_text(text.replace(fault.right, fault.wrong, 1), encoding="utf-8")
    try:
        return "" if fails(checkout, fault.test) else "the test passes with the fault"
    finally:
        path.write_text(text, encoding="utf-8")


def main(words: list[str]) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored, and tests that interrupt would fail
    chosen = [f for f in faults() if not words or any(w in f.name or w in f.area for w in words)]
    missed, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nagraph-faults-") as folder:
        checkout = pathlib.Path(folder) / "checkout"
        shutil.copytree(ROOT, checkout, symlinks=True, ignore=shutil.ignore_patterns(".git", "__pycache__", ".venv*", "runs", ".*_cache"))
        for fault in chosen:
            start = time.monotonic()
            try:
                wrong = seen(fault, checkout)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                wrong = str(error)
            missed += bool(wrong)
            seconds = time.monotonic() - start
            print(f"{'MISSED' if wrong else 'seen  '} {seconds:5.0f} s  {fault.name}{': ' + wrong if wrong else ''}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults are seen by their tests, in {time.monotonic() - began:.0f} s")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
