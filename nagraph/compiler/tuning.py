"""Tuning a function: its program is measured with other schedules, and what was faster is kept for whatever is compiled later."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nagraph.compiler.jitted import Jitted, jit

if TYPE_CHECKING:  # tuning loads when something is tuned
    from nagraph.schedule.tuning import Tuning


def tune(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Tuning:
    """Measure other schedules for each costly kernel of fn on these arguments, and keep the faster ones.

    fn: a function, jitted or not. Nothing is donated, and no bit of any result changes. Winners are kept in the cache by their
    kernels: this function has them at its next call, and so has all that is compiled later with such kernels, also in other processes.
    The result says what each kernel took and takes; `print` shows it. Raises SignatureError where the backend has no schedules.
    """
    jitted = fn if isinstance(fn, Jitted) else jit(fn)
    return jitted.tuned(args, kwargs)
