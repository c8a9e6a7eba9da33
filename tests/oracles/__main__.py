"""python -m tests.oracles [ORACLE ...]: every sample of every oracle, which takes hours, on all cores; it goes on where it was stopped."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.oracles.oracles import ORACLES, ask, oracle_of
from tests.oracles.record import Key, Outcome, problems, recorded, write

#: Oracle, entry, check.
Case = tuple[str, str, str]
#: Checks after which processes are replaced: the other libraries keep what they compiled.
MOST_CHECKS = 200


def answers(waiting: list[Case], workers: int, cut: bool) -> Iterator[tuple[Case, Outcome, float]]:
    """Each case with its outcome and seconds, as they come. A pool is replaced whole: with max_tasks_per_child Python 3.11 may hang."""
    size = workers * MOST_CHECKS
    for some in (waiting[i:i + size] for i in range(0, len(waiting), size)):
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as processes:
            asking = {processes.submit(ask, *case, cut): case for case in some}
            yield from ((asking[future], *future.result()) for future in as_completed(asking))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.oracles", description=__doc__)
    parser.add_argument("oracle", nargs="*", choices=[*ORACLES, []], help="those to ask; all of them if none is named")
    parser.add_argument("--entries", default="", help="only entries whose name holds this")
    parser.add_argument("--checks", default="", help="only these checks, separated by commas")
    parser.add_argument("--state", type=Path, default=Path(".oracles.jsonl"), help="what is done so far; remove it to begin again")
    parser.add_argument("--cut", action="store_true", help="the part that is an ordinary test")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--record", action="store_true", help="keep the outcome in record.tsv")
    asked = parser.parse_args()
    done: dict[Key, Outcome] = {}
    if asked.state.exists():
        for line in asked.state.read_text().splitlines():
            row = json.loads(line)
            done[tuple(row["key"])] = Outcome(row["agreed"], Counter(row["left_out"]), row["faults"])
    told: list[str] = []
    part = "cut" if asked.cut else "whole"
    waiting: list[Case] = []
    for name in asked.oracle or ORACLES:
        oracle = oracle_of(name)
        for entry, what in oracle.cut() if asked.cut else oracle.cases():
            if asked.entries in entry and (not asked.checks or what in asked.checks.split(",")):
                key = (name, part, entry, what)
                if key in done:
                    told += problems(key, done[key])
                else:
                    waiting.append((name, entry, what))
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process is one thread: there are as many as cores
    for n, (case, found, seconds) in enumerate(answers(waiting, asked.workers, asked.cut), 1):
        key = (case[0], part, *case[1:])
        done[key] = found
        told += problems(key, found)
        with asked.state.open("a") as file:
            file.write(json.dumps({"key": key, "agreed": found.agreed, "left_out": found.left_out, "faults": found.faults}) + "\n")
        print(f"{n}/{len(waiting)} {' '.join(key)}: {found.agreed} agree, {sum(found.left_out.values())} left out, "
              f"{len(found.faults)} faults, {seconds:.1f} s", flush=True)
    print(*told, sep="\n")
    print(f"{sum(bool(o.agreed) for o in done.values())} checks with agreement, {sum(o.agreed for o in done.values())} samples agree, "
          f"{len(told)} problems")
    if asked.record:
        write({**recorded(), **done})
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())
