"""The tables of docs/mps.md, as they follow from the rules: `python -m tests.mps.page` writes them anew."""

from __future__ import annotations

import pathlib

import mlx.core as mx
import numpy as np

import nagraph as ng
from nagraph.ir.types import DTYPES
from nagraph.models import CLASSES
from tests.mps.test_models import small
from tests.mps.test_ops import DTYPES_HERE, OPS, SAMPLED, operands, worst
from tests.support import graph_of
from tests.test_guarantees import TABLE

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "mps.md"
STOPS = ("cond", "scan", "while_loop", "debug_print")


def ways(op):
    """Whether each dtype of the op is one call of MLX, by the dtype's kind."""
    found = {}
    for dtype in DTYPES_HERE.values():
        for given in operands(op, dtype):
            if any(a.dtype == DTYPES["f64"] for a in given):
                continue
            try:
                graph = graph_of(op, given)
                exe = ng.compile(graph, backend="mps", passes="")
            except TypeError:
                continue
            kind = "floats" if dtype.kind in "fV" or dtype.name == "bfloat16" else "integers and bools"
            found[kind] = found.get(kind, True) and not exe.coverage.composed
    return found


def op_table():
    rows: dict[str, list[str]] = {"one call of MLX": [], "one call for floats, several for integers": [],
                                  "one call for integers, several for floats": [], "several calls": []}
    by_name = {}
    for op in SAMPLED.values():
        known = by_name.setdefault(op.name, {})
        for kind, native in ways(op).items():
            known[kind] = known.get(kind, True) and native
    for name, known in sorted(by_name.items()):
        floats, others = known.get("floats"), known.get("integers and bools")
        native = [k for k in (floats, others) if k is not None]
        row = ("one call of MLX" if all(native) else "several calls" if not any(native) else
               "one call for floats, several for integers" if floats else "one call for integers, several for floats")
        rows[row].append(name)
    rows["one call of MLX"] = sorted({*rows["one call of MLX"], "const", "iota"})
    lines = ["| computed by | ops |", "|---|---|"]
    lines += [f"| {row} | {', '.join(f'`{n}`' for n in names)} |" for row, names in rows.items() if names]
    stops = ", ".join(f"`{n}`" for n in STOPS)
    return "\n".join([*lines, f"| functions of MLX around which Python goes, or their parts (see below) | {stops} |",
                      "| its body, or whole where it is claimed (see below) | `call` |"])


def function_table():
    """The errors that MLX's functions have here, and half a unit for other CPUs, rounded up; functions of one error are a row."""
    by_ulps = {}
    for name in sorted({op.name for op in OPS.values() if "|" in TABLE[op.name][1]}):
        by_ulps.setdefault(np.ceil(worst(name) + 0.5), []).append(name)
    lines = ["| function | ULP of float32 |", "|---|---|"]
    return "\n".join([*lines, *(f"| {', '.join(f'`{n}`' for n in names)} | {ulps:g} |" for ulps, names in sorted(by_ulps.items()))])


def model_table():
    lines = ["| model | native nodes of a training step | of a forward pass | composed ops |", "|---|---|---|---|"]
    for model in CLASSES:
        found = [small(model, task).lower("mps").executable.coverage for task in ("train", "infer")]
        composed = sorted({n for c in found for n in c.composed})
        lines.append(f"| `{model}` | {found[0].native} of {found[0].nodes} | {found[1].native} of {found[1].nodes} | "
                     f"{', '.join(f'`{n}`' for n in composed)} |")
    return "\n".join(lines)


TABLES = {"ops": op_table, "functions": function_table, "models": model_table}


def written(text):
    """The page with its tables made anew; each stands between two comments that name it."""
    for name, make in TABLES.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{make()}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
    return text


if __name__ == "__main__":
    mx.disable_compile()
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
