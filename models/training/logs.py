"""Logs of a run beside its checkpoint: a CSV file with a row for each step, and events for TensorBoard."""

from __future__ import annotations

import csv
import io
import math
import pathlib
import re
from types import TracebackType
from typing import Any, Self

from nagraph.errors import CheckpointError, DataError
from nagraph.files import read_text, write_atomically

COLUMNS = ("step", "loss", "gradient_norm", "seconds", "metric")
NAME = "log.csv"
_STEP = re.compile("[0-9]{1,18}")


class Log:
    """A log is the rows of log.csv, kept up to the step at which a run begins or goes on, and TensorBoard's events if asked for."""

    def __init__(self, folder: str | pathlib.Path, step: int, tensorboard: bool = False):
        self.path = pathlib.Path(folder) / NAME
        rows = [r for r in read(folder) if int(r["step"]) <= step] if step else []
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode(), CheckpointError)
        try:
            self._file = open(self.path, "a", encoding="utf-8", newline="")
        except OSError as error:
            raise CheckpointError(f"{self.path} can't be written: {error.strerror or error}") from None
        self._events = _events(pathlib.Path(folder), step) if tensorboard else None

    def step(self, step: int, loss: float, norm: float, seconds: float, metric: float | None = None) -> None:
        """One row; seconds since the run began or went on."""
        shown = "" if metric is None else f"{metric:.6g}"
        csv.writer(self._file, lineterminator="\n").writerow([step, f"{loss:.7g}", f"{norm:.5g}", f"{seconds:.3f}", shown])
        if self._events is not None:
            for name, value in (("loss", loss), ("gradient norm", norm), ("metric", metric)):
                if value is not None and math.isfinite(value):
                    self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        self._file.flush()
        if self._events is not None:
            self._events.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()


def read(folder: str | pathlib.Path) -> list[dict[str, str]]:
    """The rows of a log; none if there is no log. A last row that was cut off is left out. CheckpointError for a damaged one."""
    path = pathlib.Path(folder) / NAME
    if not path.exists():
        return []
    text = read_text(path, CheckpointError, most=None)
    lines = csv.reader(io.StringIO(text[:text.rfind("\n") + 1]))
    rows = []
    try:
        for row in lines:
            if len(row) != len(COLUMNS) or (tuple(row) != COLUMNS if lines.line_num == 1 else not _STEP.fullmatch(row[0])):
                raise csv.Error(f"it is no row of {', '.join(COLUMNS)}")
            rows.append(dict(zip(COLUMNS, row)))
    except csv.Error as error:
        raise CheckpointError(f"{path} is damaged: line {lines.line_num}: {error}; move the file away to go on without its rows") from None
    return rows[1:]


def _events(folder: pathlib.Path, step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise DataError("events for TensorBoard need tensorboardX (pip install 'nagraph[logs]')") from None
    return SummaryWriter(str(folder / "events"), purge_step=step + 1 if step else None)
