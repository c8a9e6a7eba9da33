"""Many programs checked in processes of their own, so that one that crashes or hangs is a finding too."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nagraph.testing.check import Failure, Way, check
from nagraph.testing.generate import random_program
from nagraph.testing.program import Program
from nagraph.testing.shrink import shrink

#: Seconds that one program may take, shrinking included.
MOST_SECONDS = 600.0

@dataclass(frozen=True)
class Finding:
    """A finding is what checking one seed found: `text` is a report that ends with a script; empty if nothing is wrong."""

    seed: int
    text: str = ""


def check_seed(seed: int) -> str:
    """A report of the program of this seed, checked in every way, and shrunk if it fails; empty if nothing is wrong."""
    failure = check(random_program(seed))
    return str(smallest(failure)) if failure else ""


def smallest(failure: Failure, how: Sequence[Way] | None = None) -> Failure:
    """The failure of the smallest program found that fails in the same way."""
    best = failure

    def fails(candidate: Program) -> bool:
        nonlocal best
        found = check(candidate, how)
        same = found is not None and (found.way, found.kind) == (failure.way, failure.kind) and (
            failure.kind in ("result", "bits", "derivative") or found.message[:12] == failure.message[:12])
        if same and found is not None:
            best = found
        return same

    shrink(failure.program, fails)
    return best


def check_seeds(seeds: Iterable[int], workers: int = 1, answer: Callable[[int], str] = check_seed) -> Iterator[Finding]:
    """Each seed's finding, in the order in which they come, from `workers` processes at once. `answer` is what they do."""
    waiting = iter(seeds)
    busy: list[_Worker] = []
    try:
        for _ in range(workers):
            busy.append(_Worker(answer))
        active = [w for w in busy if w.give(waiting)]
        while active:
            ready = multiprocessing.connection.wait([w.pipe for w in active], timeout=1.0)
            for worker in list(active):
                finding = worker.finding(worker.pipe in ready)
                if finding is None:
                    continue
                yield finding
                if not worker.give(waiting):
                    active.remove(worker)
    finally:
        for worker in busy:
            worker.stop()


class _Worker:
    """A worker is a process that checks one seed after another; a new one takes its place when it dies."""

    def __init__(self, answer: Callable[[int], str]) -> None:
        self.answer = answer
        self._start()
        self.seed: int | None = None
        self.since = 0.0

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.answer), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, seeds: Iterator[int]) -> bool:
        """Hand over the next seed; False if there is none left."""
        self.seed = next(seeds, None)
        if self.seed is None:
            return False
        self.since = time.monotonic()
        self.pipe.send_bytes(json.dumps(self.seed).encode())
        return True

    def finding(self, ready: bool) -> Finding | None:
        """What there is to say of the seed in hand; None if nothing yet."""
        assert self.seed is not None
        if ready:
            try:
                return Finding(self.seed, json.loads(self.pipe.recv_bytes()))
            except EOFError:
                self.process.join()
                return self._lost(f"the process died with exit code {self.process.exitcode}")
        if time.monotonic() - self.since > MOST_SECONDS:
            return self._lost(f"no answer within {MOST_SECONDS:.0f} s")
        return None

    def _lost(self, why: str) -> Finding:
        seed = self.seed
        assert seed is not None
        self.stop()
        self._start()
        return Finding(seed, f"program {seed}: {why}\n\n{random_program(seed).body()}")

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Any, answer: Callable[[int], str]) -> None:
    """What a worker does until its parent is gone."""
    while True:
        try:
            seed = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        try:
            text = answer(seed)
        except Exception as error:  # noqa: BLE001 - a fault of the generator is a finding too
            text = f"program {seed}: {type(error).__name__}: {error}"
        pipe.send_bytes(json.dumps(text).encode())
