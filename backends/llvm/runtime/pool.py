"""The pool: worker threads that start once, spin briefly for the next call, then sleep."""

from __future__ import annotations

import atexit
import ctypes
import functools
import itertools
import os
import threading
from typing import Any

import numpy as np

from nagraph.backends.host import usable_cores
from nagraph.backends.llvm.native import files
from nagraph.backends.llvm.native.machine_code import Library, object_code, publish
from nagraph.backends.llvm.runtime.driver import driver_text
from nagraph.backends.llvm.runtime.records import ALIGNMENT, CONTEXT, CONTEXT_WORDS
from nagraph.backends.llvm.text.builder import LEAVE

#: What the driver calls of Python's.
PYTHON = ("PyEval_SaveThread", "PyEval_RestoreThread", "PyErr_CheckSignals", "PyGILState_Ensure", "PyGILState_Release",
          "PyLong_FromLongLong", "PyObject_CallOneArg", "Py_DecRef", "PyErr_Occurred", "PyErr_Fetch", "PyErr_Restore")
_WORD, _POINTER = ctypes.c_int64, ctypes.c_void_p


def aligned_bytes(nbytes: int) -> tuple[Any, int]:
    """Memory, and the address in it from which on `nbytes` bytes are aligned. Raises MemoryError."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    return raw, -(-raw.ctypes.data // ALIGNMENT) * ALIGNMENT


def aligned_words(count: int) -> Any:
    """Zeros, of which the first is aligned."""
    raw = np.zeros(count + ALIGNMENT // 8, np.int64)
    return raw[-(raw.ctypes.data // 8) % (ALIGNMENT // 8):][:count]


class Driver:
    """The driver's functions, loaded."""

    def __init__(self) -> None:
        for name in PYTHON:
            address = ctypes.cast(getattr(ctypes.pythonapi, name), _POINTER).value
            assert address is not None
            publish(name, address)
        self._library = Library([files.routine("driver", lambda: object_code(driver_text()))])
        at = self._library.address
        if ctypes.CFUNCTYPE(ctypes.c_int)(at("begin"))():
            raise OSError("this process has no key left for data of threads")
        publish(LEAVE, at("leave"))
        # PYFUNCTYPE keeps Python's lock, which the driver itself lets go and takes, and raises what a signal handler or a function raised.
        self.call = ctypes.PYFUNCTYPE(None, _POINTER, _POINTER, _WORD)(at("call"))
        self.work = ctypes.CFUNCTYPE(None, _POINTER, _WORD)(at("work"))
        self.wake = ctypes.CFUNCTYPE(None, _POINTER)(at("wake"))
        self.quiet = ctypes.PYFUNCTYPE(_WORD, _POINTER)(at("quiet"))


@functools.cache
def driver() -> Driver:
    """The driver of this process, loaded when it is first asked for."""
    return Driver()


@functools.cache
def default_threads() -> int:
    """The cores that this process may use, as it was when this was first asked."""
    return usable_cores()


class Pool:
    """Workers around one context; a call that finds it free has them."""

    def __init__(self) -> None:
        self.driver = driver()
        self.context = aligned_words(CONTEXT_WORDS)
        self.address: int = self.context.ctypes.data
        libc = ctypes.CDLL(None)
        libc.pthread_mutex_init(_POINTER(self.address + 8 * CONTEXT["mutex"]), None)
        libc.pthread_cond_init(_POINTER(self.address + 8 * CONTEXT["condition"]), None)
        self.workers: list[threading.Thread] = []
        self._numbers = itertools.count(1)
        self._growing = threading.Lock()
        self._stopped = False
        #: What workers that are late may still look at.
        self._retired: dict[int, Any] = {}
        self._entries = itertools.count()

    def grow(self, threads: int) -> None:
        """Start workers until there are enough for `threads` threads, the caller's included, as far as the system starts any."""
        if len(self.workers) >= threads - 1:
            return
        with self._growing:
            while len(self.workers) < threads - 1 and not self._stopped:
                # A number is given once, even if a signal interrupts this: two workers of one number would share memory.
                number = next(self._numbers)
                worker = threading.Thread(
                    target=self.driver.work, args=(self.address, number), daemon=True, name=f"nagraph-{number}")
                try:
                    worker.start()
                except RuntimeError:  # no more threads, or Python is about to end: the work gets done without
                    return
                self.workers.append(worker)

    def retire(self, memory: Any) -> None:
        """Free what a call used as soon as no worker can look at it: now or, if one is late, with a later one."""
        self._retired[next(self._entries)] = memory
        entries = list(self._retired)  # before the question: what is retired after it must wait for the next
        if self.driver.quiet(self.address):
            for e in entries:
                self._retired.pop(e, None)

    def stop(self) -> None:
        """Let the workers end, after the call they are in."""
        with self._growing:
            self._stopped = True
        self.context[CONTEXT["stop"]] = 1
        self.driver.wake(self.address)
        for w in self.workers:
            w.join()


_POOL: Pool | None = None
_MAKING = threading.Lock()


def pool() -> Pool:
    """The process's pool."""
    global _POOL
    if _POOL is not None:
        return _POOL
    with _MAKING:
        if _POOL is None:
            _POOL = Pool()
        return _POOL


def _stop() -> None:
    if _POOL is not None:
        _POOL.stop()


def _forget() -> None:
    """After a fork there are no workers: the child makes its own pool."""
    global _POOL, _MAKING
    _POOL, _MAKING = None, threading.Lock()
    default_threads.cache_clear()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
