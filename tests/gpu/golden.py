"""Registers and shared memory of the kernels of all train steps, as NVRTC compiles them for three architectures, against golden.tsv.

The models have one layer, where layers can be counted: more of them have the same kernels.

    python -m tests.gpu.golden                     compile and compare; exit code 1 for a spill, or another number
    python -m tests.gpu.golden --models gpt2 --architectures sm_90
    python -m tests.gpu.golden --record            write golden.tsv anew; with --models, their rows of it
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

os.environ.setdefault("NAGRAPH_STRICT", "1")

import nagraph as ng  # noqa: E402
from nagraph.models import CLASSES  # noqa: E402
from nagraph.models.tasks import task_class  # noqa: E402
from nagraph.models.workloads import has_layers, workload  # noqa: E402

GOLDEN = pathlib.Path(__file__).with_name("golden.tsv")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


class Row(NamedTuple):
    """What a kernel takes: registers of a thread, bytes of shared memory of a block, bytes that are spilled."""

    model: str
    architecture: str
    kernel: str
    registers: int
    shared_nbytes: int
    spilled_nbytes: int


def measured(models: list[str], architectures: list[str]) -> Iterator[Row]:
    """The rows of every kernel of the train steps."""
    for model in models:
        graph = workload(model, "train", 1 if has_layers(task_class(model)) else None).graph()
        for architecture in architectures:
            began = time.monotonic()
            found = ng.compile(graph, backend="cuda", target=architecture).resources
            print(f"{model} {architecture}: {len(found)} kernels in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for r in found:
                yield Row(model, architecture, r.name, r.registers, r.shared_nbytes, r.spilled_nbytes)


def golden() -> dict[tuple[str, str, str], Row]:
    """The rows that are kept, by model, architecture and kernel."""
    rows = [line.split("\t") for line in GOLDEN.read_text(encoding="utf-8").splitlines()[1:]] if GOLDEN.exists() else []
    return {(m, a, k): Row(m, a, k, *map(int, numbers)) for m, a, k, *numbers in rows}


def differences(rows: list[Row], known: dict[tuple[str, str, str], Row]) -> Iterator[str]:
    """What is another number than the golden one, and every spill."""
    for row in rows:
        name = " ".join(row[:3])
        if row.spilled_nbytes:
            yield f"{name} spills {row.spilled_nbytes} bytes"
        kept = known.get(row[:3])
        if kept is None:
            yield f"{name} is not in {GOLDEN.name}, which --record writes anew"
        elif kept != row:
            yield (f"{name}: {row.registers} registers and {row.shared_nbytes} bytes of shared memory; "
                   f"they were {kept.registers} and {kept.shared_nbytes}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.golden", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(CLASSES))
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    rows = list(measured(given.models, given.architectures))
    if given.record:
        others = [row for row in golden().values() if row.model not in given.models or row.architecture not in given.architectures]
        listed = ("\t".join(map(str, row)) for row in sorted([*others, *rows]))
        GOLDEN.write_text("\n".join(["\t".join(Row._fields), *listed, ""]), encoding="utf-8")
    wrong = list(differences(rows, golden()))
    for line in wrong:
        print(line)
    print(f"{len(rows)} kernels, at most {max(r.registers for r in rows)} registers; {len(wrong)} are not as they were")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
