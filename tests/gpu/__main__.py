"""Checks of GPU text without a device: every op, odd sizes and orders, random programs, train steps, from their real text on this CPU.

    python -m tests.gpu                         everything, in both dialects
    python -m tests.gpu ops sizes               some of: ops, orders, sizes, models, random
    python -m tests.gpu --dialect metal --only softmax
    python -m tests.gpu --seeds 0 1 2 --check address
    python -m tests.gpu --cut                   every ninth case, some random programs: what CI runs
"""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("NAGRAPH_STRICT", "1")

from nagraph.backends.gpu.on_cpu.compiler import missing  # noqa: E402
from tests.gpu.cases import Case, model_cases, op_cases, order_cases, size_cases  # noqa: E402

KINDS = {"ops": op_cases, "orders": order_cases, "sizes": size_cases, "models": model_cases}
RANDOM = 40
#: Functions of float32 that have another form where there is no float64, with errors of their own (docs/gpu.md).
WITHOUT_DOUBLES = {"power", "sin", "cos", "tan", "arctan2", "arcsinh", "arccosh", "arctanh", "cbrt", "erfc"}
#: Of a cut: which part of all cases, orders of threads, random programs.
CUT, CUT_SEEDS, CUT_RANDOM = 9, [0, 2], 4


def chosen(names: list[str], only: str) -> Iterator[Case]:
    """The cases of these kinds whose name contains a word."""
    for name in names:
        if name in KINDS:
            yield from (case for case in KINDS[name]() if only in case.name)


def check_cases(cases: list[Case], dialect: str, check: str, seeds: list[int]) -> list[str]:
    """What is wrong with cases, in words."""
    import nagraph as ng
    from nagraph.backends.gpu.on_cpu.kernels import Kernels
    from nagraph.errors import MissingRuleError, NagraphError
    from nagraph.ir.types import DTYPES
    from tests.gpu.compare import compare, installed

    kernels, wrong, left_out, made = Kernels(dialect, check), [], collections.Counter(), []
    began = time.monotonic()
    with installed(kernels) as backend:
        for case in cases:
            if dialect == "metal" and any(v.dtype == DTYPES["f64"] for v in (*case.graph.inputs, *case.graph.outputs)):
                left_out["float64"] += 1
                continue
            if dialect == "metal" and case.name.partition(" ")[0] in WITHOUT_DOUBLES:
                case = case._replace(exact=False)
            try:
                made.append((case, ng.compile(case.graph, backend=backend)))
            except MissingRuleError as error:
                left_out[str(error).partition(";")[0][:80]] += 1
            except Exception as error:  # noqa: BLE001 - whatever stops it is a fault
                wrong.append(f"{case.name}: {type(error).__name__}: {str(error)[:300]}")
        emitted = time.monotonic()
        kernels.compile()
        compiled = time.monotonic()
        for case, executable in made:
            for kernels.seed in seeds:
                try:
                    said = compare(case, executable(*case.operands))
                except NagraphError as error:
                    said = f"{type(error).__name__}: {str(error)[:300]}"
                if said:
                    wrong.append(f"{case.name}, seed {kernels.seed}: {said}")
                    break
    print(f"{dialect}, check {check or 'plain'!r}: {len(made)} graphs, {len(kernels)} kernels; emitted in {emitted - began:.0f} s, "
          f"compiled in {compiled - emitted:.0f} s, run in {time.monotonic() - compiled:.0f} s; left out: {dict(left_out) or 'none'}; "
          f"{len(wrong)} wrong", flush=True)
    return wrong


def check_random(count: int, dialect: str, check: str) -> list[str]:
    """What is wrong with random programs, as they are, and with legal choices at random and donated arguments.

    Of every second one, matrix products go in blocks however few rows they have.
    """
    from nagraph.backends.gpu.on_cpu.kernels import Kernels
    from nagraph.testing import Undetermined, chaotic, jitted, random_program
    from nagraph.testing import check as check_program
    from tests.gpu.compare import in_blocks, installed

    wrong, ran, began = [], 0, time.monotonic()
    with installed(Kernels(dialect, check)) as backend, in_blocks() as fewest:
        for seed in range(count):
            fewest(1 if seed % 2 else None)
            try:
                ways = jitted(backend, backend=backend), chaotic(seed, backend=backend)
                failure = check_program(random_program(seed), ways, derivatives=False)
            except Undetermined:
                continue
            ran += 1
            if failure and not (dialect == "metal" and "float64" in failure.message):
                wrong.append(f"random program {seed}: {failure.kind}: {failure.message[:300]}")
    print(f"{dialect}, check {check or 'plain'!r}: {ran} random programs in {time.monotonic() - began:.0f} s; {len(wrong)} wrong",
          flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)} or random; all of them if none is named")
    parser.add_argument("--dialect", action="append", choices=["cuda", "metal"])
    parser.add_argument("--check", default="watch", choices=["", "watch", "address"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="orders in which threads run")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--random", type=int, default=RANDOM, help="how many random programs")
    parser.add_argument("--cut", action="store_true", help="a part of all cases")
    given = parser.parse_args()
    kinds = given.kinds or [*KINDS, "random"]
    if unknown := [kind for kind in kinds if kind not in (*KINDS, "random")]:
        parser.error(f"there is no kind {unknown[0]!r}; there is {', '.join(KINDS)} and random")
    if why := missing():
        print(why, file=sys.stderr)
        return 1
    if given.check == "address" and "LD_PRELOAD" not in os.environ:
        from nagraph.backends.gpu.on_cpu.compiler import sanitizer_library

        return subprocess.run([sys.executable, "-m", "tests.gpu", *sys.argv[1:]],
                              env={**os.environ, "LD_PRELOAD": sanitizer_library(), "ASAN_OPTIONS": "detect_leaks=0"}).returncode
    wrong = []
    with tempfile.TemporaryDirectory(prefix="nagraph-tests-") as cache:
        os.environ.setdefault("XDG_CACHE_HOME", cache)
        cases = list(chosen(kinds, given.only))
        for n, dialect in enumerate(given.dialect or ["cuda", "metal"]):
            part = cases[n::CUT] if given.cut else cases
            if part:
                wrong += check_cases(part, dialect, given.check, CUT_SEEDS if given.cut else given.seeds)
            if "random" in kinds:
                wrong += check_random(CUT_RANDOM if given.cut else given.random, dialect, given.check)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
