"""Running the command line in tests: in this process, where that is enough, or in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
from typing import Any, NamedTuple

from nagraph.cli import main

#: A model that trains in milliseconds.
TINY = ("--layers", "1", "--heads", "2", "--width", "8", "--context", "8", "--batch", "2")
COMMAND = (sys.executable, "-m", "nagraph")
TEXT = "".join(f"the cat {i * i % 97} sat on the mat, and dog {i * 7 % 31} ran. " for i in range(80))


class Result(NamedTuple):
    code: int
    out: str
    err: str

    def one_sentence(self) -> str:
        """What an error told, which must be one sentence on stderr with an exit code that is not 0."""
        lines = self.err.splitlines()
        assert self.code not in (0, None) and len(lines) == 1, self
        assert lines[0].startswith("nagraph: ") and not re.search(r"Traceback|[a-z]Error\b|Errno", self.err), self
        assert len(lines[0]) < 400
        return lines[0].removeprefix("nagraph: ")


def run(*args: Any) -> Result:
    """`nagraph ARGS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(a) for a in args])
        except SystemExit as leaving:
            code = leaving.code
    return Result(code, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}


def spawn(*args: Any, **options: Any) -> Result:
    """`nagraph ARGS` in a process of its own."""
    done = subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, env=environment(), timeout=120, **options)
    return Result(done.returncode, done.stdout, done.stderr)


def contents(folder: pathlib.Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
