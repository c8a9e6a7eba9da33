"""Forks: a child must not wait for what threads that it does not have were doing when it was made.

Of all threads a child has the one that forked. A lock that another held stays held in it, a module that another was importing
stays half imported. So our own locks are made anew in the child (what they guard is whole between any two steps of Python), and a fork
waits for imports, which end soon, and for whatever else asks for that (`hold`).
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import FrameType

#: Packages that run nobody else's code while they are imported. Other imports may wait for the fork: some programs run while they are.
_CLOSED = {"nagraph", "numpy", "ml_dtypes", "llvmlite", "networkx", *sys.stdlib_module_names}
_LOCKS: weakref.WeakSet[Lock] = weakref.WeakSet()
_HELD: list[AbstractContextManager[object]] = []


class Lock(_thread.RLock):  # type: ignore[misc]  # stubs call the class final; Python does not, of any version
    """A reentrant lock that is free in a forked child, unless the thread that forked has it. For what guards Python objects alone.

    It is entered and left by the very methods of Python's lock, in C: one of our own could be ended by Ctrl-C before it let go.
    """

    def __init__(self) -> None:
        _LOCKS.add(self)

    def renew(self) -> None:
        if self.acquire(blocking=False):
            self.release()
        else:
            self._at_fork_reinit()  # type: ignore[attr-defined]  # what threading and logging call for the same end


def hold(lock: AbstractContextManager[object]) -> None:
    """Let forks wait for this lock and have it: for what guards memory of other libraries, which has no state between two steps."""
    _HELD.append(lock)


class _Fork(threading.local):
    """What this thread has while it forks: not all of it if Ctrl-C ended its waiting."""

    def __init__(self) -> None:
        self.held = contextlib.ExitStack()


_fork = _Fork()


def _before() -> None:
    _await_imports()
    for lock in _HELD:
        _fork.held.enter_context(lock)


def _after() -> None:
    _fork.held.close()


def _renew() -> None:
    _after()
    for lock in list(_LOCKS):
        lock.renew()


def _await_imports() -> None:
    """Wait for modules that other threads are importing, of ours and of what we use."""
    own = threading.get_ident()
    while importing := [name for thread, frame in sys._current_frames().items() if thread != own
                        for name in _imports(frame) if name.partition(".")[0] in _CLOSED]:
        # That waits until it is there, and finds out where two imports wait for one another.
        with contextlib.suppress(Exception):  # an error is the importer's
            __import__(importing[-1])  # the outermost


def _imports(frame: FrameType | None) -> Iterator[str]:
    """The modules that a thread is importing, the innermost first."""
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load" and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            yield frame.f_locals["name"]
        frame = frame.f_back


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_renew)
