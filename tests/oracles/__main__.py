"""python -m tests.oracles [ORACLE ...]: every sample of every oracle, which takes hours; it goes on where it was stopped."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from tests.oracles.oracles import ORACLES
from tests.oracles.record import Key, Outcome, problems, recorded, write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.oracles", description=__doc__)
    parser.add_argument("oracle", nargs="*", choices=[*ORACLES, []], help="those to ask; all of them if none is named")
    parser.add_argument("--entries", default="", help="only entries whose name holds this")
    parser.add_argument("--checks", default="", help="only these checks, separated by commas")
    parser.add_argument("--state", type=Path, default=Path(".oracles.jsonl"), help="what is done so far; remove it to begin again")
    parser.add_argument("--cut", action="store_true", help="the part that is an ordinary test")
    parser.add_argument("--record", action="store_true", help="keep the outcome in record.tsv")
    asked = parser.parse_args()
    done: dict[Key, Outcome] = {}
    if asked.state.exists():
        for line in asked.state.read_text().splitlines():
            row = json.loads(line)
            done[tuple(row["key"])] = Outcome(row["agreed"], Counter(row["left_out"]), row["faults"])
    told: list[str] = []
    part = "cut" if asked.cut else "whole"
    for name in asked.oracle or ORACLES:
        oracle = ORACLES[name]()
        chosen = [(e, c) for e, c in (oracle.cut() if asked.cut else oracle.cases())
                  if asked.entries in e and (not asked.checks or c in asked.checks.split(","))]
        for n, (entry, what) in enumerate(chosen, 1):
            key = (name, part, entry, what)
            if key in done:
                told += problems(key, done[key])
                continue
            start = time.perf_counter()
            done[key] = found = oracle.check(entry, what, cut=asked.cut)
            told += problems(key, found)
            with asked.state.open("a") as file:
                file.write(json.dumps({"key": key, "agreed": found.agreed, "left_out": found.left_out, "faults": found.faults}) + "\n")
            print(f"{n}/{len(chosen)} {' '.join(key)}: {found.agreed} agree, {sum(found.left_out.values())} left out, "
                  f"{len(found.faults)} faults, {time.perf_counter() - start:.1f} s", flush=True)
    print(*told, sep="\n")
    print(f"{sum(bool(o.agreed) for o in done.values())} checks with agreement, {sum(o.agreed for o in done.values())} samples agree, "
          f"{len(told)} problems")
    if asked.record:
        write({**recorded(), **done})
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())
