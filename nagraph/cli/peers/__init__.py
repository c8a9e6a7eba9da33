"""Peers: the benchmarks' operations and models written for other frameworks, each run in a process of its own.

A process for each, since their threads and ours should not meet, and since threads are set before a framework is loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import os
from typing import Any

from nagraph.cli.measuring import median_seconds
from nagraph.errors import DataError

#: Each peer, its module, and what to install.
PEERS = {"torch": ("torch", "pip install torch --index-url https://download.pytorch.org/whl/cpu"), "jax": ("jax", "pip install jax"),
         "ort": ("onnxruntime", "pip install onnxruntime")}


class Peer:
    """A peer is another framework in a process of its own.

    `run(name, seconds)`: the median seconds of a call; None where it has no such benchmark.
    """

    def __init__(self, name: str, threads: int):
        if name not in PEERS:
            raise DataError(f"there is no peer {name!r}; there is {', '.join(PEERS)}")
        module, install = PEERS[name]
        if importlib.util.find_spec(module) is None:
            raise DataError(f"{module} is not installed; {install}")
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(name, threads, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.version = self._receive("could not be loaded")

    def run(self, benchmark: str, seconds: float) -> float | None:
        self._pipe.send((benchmark, seconds))
        found: float | None = self._receive(f"failed on {benchmark}")
        return found

    def _receive(self, what: str) -> Any:
        try:
            good, found = self._pipe.recv()
        except EOFError:
            good, found = False, "its process ended"
        if not good:
            raise DataError(f"{self.name} {what}: {found}")
        return found

    def close(self) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()


def _serve(name: str, threads: int, pipe: Any) -> None:
    """The process: answers with medians until the pipe is closed."""
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    try:
        adapter = importlib.import_module(f"nagraph.cli.peers.with_{name}").Adapter(threads)
        pipe.send((True, adapter.version))
    except Exception as error:  # noqa: BLE001 - whatever a framework raises is told, not hidden
        pipe.send((False, f"{type(error).__name__}: {error}"))
        return
    calls: dict[str, Any] = {}
    while True:
        try:
            benchmark, seconds = pipe.recv()
        except EOFError:
            return
        try:
            if benchmark not in calls:
                calls[benchmark] = adapter.calls(benchmark)
            pipe.send((True, median_seconds(calls[benchmark], seconds) if calls[benchmark] else None))
        except Exception as error:  # noqa: BLE001
            pipe.send((False, f"{type(error).__name__}: {error}"))
