"""Reading files that are damaged at random, in a worker with little memory: all that may come of it is a result or a sentence."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Damage(NamedTuple):
    """What files are damaged how, and read; its functions are those of modules, which the worker imports.

    whole: files that are not damaged, read first, for what is loaded and cached once. mutated: what was damaged, and the file, by a seed.
    read: what becomes of a file in a folder: "read" or "refused" with the sentence, or "fault" with what is wrong.
    """

    whole: Callable[[], Sequence[bytes]]
    mutated: Callable[[int], tuple[str, bytes]]
    read: Callable[[bytes, Path], tuple[str, str]]


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Some bits, bytes and pieces changed, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        at, kind = rng.randrange(len(changed)), rng.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.randrange(256)
        elif kind == 2:
            del changed[at:at + rng.randrange(1, 9)]
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randrange(1, 9))
        else:
            del changed[max(at, 1):]
        if not changed:
            changed = bytearray(b"\0")
    return bytes(changed)


def _work(damage: Damage, seeds: list[int], pipe: Any) -> None:
    """A worker: each outcome as it comes. Address space beyond what it has is limited anew for each file."""
    with tempfile.TemporaryDirectory() as place:
        for data in damage.whole():
            outcome = damage.read(data, Path(place))
            assert outcome[0] == "read", outcome
        for seed in seeds:
            what, data = damage.mutated(seed)
            pipe.send((seed, what, None))
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2 * len(data) + (64 << 20), resource.RLIM_INFINITY))
            outcome = damage.read(data, Path(place))
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            pipe.send((seed, what, outcome))
    pipe.send(None)


def faults_of(damage: Damage, seeds: list[int]) -> tuple[Counter[str], list[str]]:
    """How many were read and refused, and what is wrong with the others."""
    counts: Counter[str] = Counter()
    told: list[str] = []
    context, waiting = multiprocessing.get_context("spawn"), list(seeds)
    while waiting:
        ours, theirs = context.Pipe(False)
        process = context.Process(target=_work, args=(damage, waiting, theirs))
        process.start()
        theirs.close()
        current: Any = None
        try:
            while (message := ours.recv()) is not None:
                seed, what, outcome = message
                if outcome is None:
                    current = seed, what
                    continue
                waiting.remove(seed)
                counts[outcome[0]] += 1
                if outcome[0] == "fault":
                    told.append(f"seed {seed} ({what}): {outcome[1]}")
        except EOFError:
            process.join()
            if current is None:
                raise RuntimeError("the worker ended before its first file") from None
            counts["fault"] += 1
            told.append(f"seed {current[0]} ({current[1]}): the process ended with {process.exitcode}")
            waiting.remove(current[0])
        process.join()
    return counts, told


def main(module: str, about: str, damage: Damage) -> int:
    """The command `python -m MODULE [COUNT]`; its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("count", nargs="?", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, in this process")
    asked = parser.parse_args()
    if asked.seed is not None:
        what, data = damage.mutated(asked.seed)
        with tempfile.TemporaryDirectory() as place:
            print(what, damage.read(data, Path(place)), sep="\n")
        return 0
    start = time.perf_counter()
    counts, told = faults_of(damage, list(range(asked.first, asked.first + asked.count)))
    print(*told, sep="\n")
    print(f"{counts['read']} read, {counts['refused']} refused, {counts['fault']} faults in {time.perf_counter() - start:.0f} s")
    return bool(told)
