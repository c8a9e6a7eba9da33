"""Random programs on MLX, as many as wanted: `python -m tests.mps.sweep 0 500` checks those seeds whose programs have no float64."""

from __future__ import annotations

import sys

import mlx.core as mx

from nagraph.testing import check, jitted, random_program


def sweep(first: int, last: int) -> int:
    """The number of faults, each of which is printed."""
    checked = faults = 0
    for seed in range(first, last):
        failure = check(random_program(seed), [jitted("mps", backend="mps")], derivatives=False)
        if failure is not None and "has no float64" in failure.message:
            continue
        checked += 1
        if failure is not None:
            faults += 1
            print(failure, flush=True)
    print(f"{checked} programs checked, {faults} faults")
    return faults


if __name__ == "__main__":
    mx.disable_compile()
    sys.exit(bool(sweep(*map(int, sys.argv[1:3]))))
