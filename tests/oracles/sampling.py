"""Samples of a check, compared one after another: each agrees, is left out for a reason, or is a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tests.oracles.record import Outcome

#: Gives what is wrong with a sample, or None.
Compare = Callable[[], str | None]


class LeftOut(Exception):
    """A sample that the other side does not answer, or that is known to differ; its text is the reason."""


def compared(samples: Iterable[tuple[str, Compare]], first_fault: bool = False) -> Outcome:
    """What came of samples, each with a title for its fault; not beyond the first fault if so asked."""
    outcome = Outcome()
    for title, compare in samples:
        try:
            problem = problem_of(compare)
        except LeftOut as reason:
            outcome.left_out[str(reason)] += 1
            continue
        if problem is None:
            outcome.agreed += 1
            continue
        outcome.faults.append(f"{title}: {problem}")
        if first_fault:
            break
    return outcome


def problem_of(compare: Compare) -> str | None:
    """What is wrong with a sample: whatever else is raised is the finding."""
    try:
        return compare()
    except LeftOut:
        raise
    except Exception as error:  # noqa: BLE001 - see above
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def directions(like: Sequence[Any], seed: int, dtype: Any = np.float64) -> list[np.ndarray[Any, Any]]:
    """Random arrays of these shapes: tangents and cotangents."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=tuple(x.shape))).astype(dtype) for x in like]
