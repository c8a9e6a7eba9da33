"""The pool: worker threads that start once, spin briefly for the next call, then sleep."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import threading
from typing import Any

import numpy as np

from nagraph.backends.llvm.native import Library, object_code, publish
from nagraph.backends.llvm.runtime import context, driver

_I, _P = ctypes.c_int64, ctypes.c_void_p


class Native:
    """The driver's functions."""

    def __init__(self) -> None:
        for name in ("PyEval_SaveThread", "PyEval_RestoreThread", "PyErr_CheckSignals"):
            publish(name, ctypes.cast(getattr(ctypes.pythonapi, name), _P).value or 0)
        self._library = Library(object_code(driver.driver_text()))
        # Entered with the interpreter's lock, which they release; what a signal's handler raised is raised by them.
        self.together = ctypes.PYFUNCTYPE(_I, _P, _P)(self._library.address("together"))
        self.single = ctypes.PYFUNCTYPE(_I, *[_P] * 4)(self._library.address("single"))
        self.wake = ctypes.CFUNCTYPE(None, _P)(self._library.address("wake"))
        self.work = ctypes.CFUNCTYPE(None, _P, _I)(self._library.address("work"))


@functools.cache
def native() -> Native:
    return Native()


def default_threads() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Workers around one context. `lock` is held by the call that has them."""

    def __init__(self) -> None:
        self.native = native()
        self.lock = threading.Lock()
        raw = np.zeros(context.WORDS + 8, np.int64)
        self._raw = raw
        self.context = raw[-(raw.ctypes.data // 8) % 8:][:context.WORDS]
        self.address = self.context.ctypes.data
        libc = ctypes.CDLL(None)
        libc.pthread_mutex_init(_P(self.address + 8 * context.MUTEX), None)
        libc.pthread_cond_init(_P(self.address + 8 * context.CONDITION), None)
        self.workers: list[threading.Thread] = []
        #: What workers may still look at: freed once none of them is in a call.
        self.retired: list[Any] = []

    def grow(self, threads: int) -> None:
        """See to it that there are workers for so many threads, the caller's included."""
        while len(self.workers) < threads - 1:
            number = len(self.workers) + 1
            worker = threading.Thread(target=self.native.work, args=(self.address, number), daemon=True, name=f"nagraph-{number}")
            worker.start()
            self.workers.append(worker)

    def idle(self) -> bool:
        """Whether no worker is inside a call."""
        return int(self.context[context.BUSY]) == 0

    def retire(self, memory: Any) -> None:
        """Free some memory when no worker can look at it any more."""
        if self.idle():
            self.retired.clear()
        else:
            self.retired.append(memory)

    def stop(self) -> None:
        self.context[context.STOP] = 1
        self.native.wake(self.address)
        for w in self.workers:
            w.join()


_POOL: Pool | None = None
_MAKING = threading.Lock()


def pool() -> Pool:
    """The process's pool."""
    global _POOL
    with _MAKING:
        if _POOL is None:
            _POOL = Pool()
            atexit.register(_stop, _POOL, os.getpid())
        return _POOL


def _stop(made: Pool, pid: int) -> None:
    if os.getpid() == pid:
        made.stop()


def _forget() -> None:
    """After a fork there are no workers: the child makes its own."""
    global _POOL, _MAKING
    _POOL, _MAKING = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
