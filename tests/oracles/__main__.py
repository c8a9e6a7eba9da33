"""python -m tests.oracles [ORACLE ...]: every sample of every oracle, which takes hours, on all cores; it goes on where it was stopped."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.oracles.oracles import ORACLES, ask, oracle_of
from tests.oracles.record import Key, Outcome, problems, recorded, write

#: Checks after which a process is replaced: the other libraries keep what they compiled.
MOST_CHECKS = 200


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
    waiting: list[tuple[str, str, str]] = []
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
    with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn"), max_tasks_per_child=MOST_CHECKS) as processes:
        asking: dict[Any, Key] = {processes.submit(ask, *case, asked.cut): (case[0], part, *case[1:]) for case in waiting}
        for n, future in enumerate(as_completed(asking), 1):
            key = asking[future]
            found, seconds = future.result()
            done[key] = found
            told += problems(key, found)
            with asked.state.open("a") as file:
                file.write(json.dumps({"key": key, "agreed": found.agreed, "left_out": found.left_out, "faults": found.faults}) + "\n")
            print(f"{n}/{len(asking)} {' '.join(key)}: {found.agreed} agree, {sum(found.left_out.values())} left out, "
                  f"{len(found.faults)} faults, {seconds:.1f} s", flush=True)
    print(*told, sep="\n")
    print(f"{sum(bool(o.agreed) for o in done.values())} checks with agreement, {sum(o.agreed for o in done.values())} samples agree, "
          f"{len(told)} problems")
    if asked.record:
        write({**recorded(), **done})
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())
