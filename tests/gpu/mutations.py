"""Planted faults: one text of a kernel, or one number of a launch, is changed; the checks of GPU text on this CPU are to see it.

    python -m tests.gpu.mutations                   200 faults; exit code 1 if fewer than 95 % are seen (80 % of fewer than 100)
    python -m tests.gpu.mutations --seed 7 --count 50
    python -m tests.gpu.mutations --show            the text of each fault that nobody saw

Seeds decide which program, which operator and which place. A fault is seen where a launch is refused or ends with a sentence, or where a
result is another one than NumPy's. What provably changes nothing, such as another step of a loop that goes round once, is not planted.
Those that are not seen are named: most of them change nothing either (a barrier before which nobody writes).
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

os.environ.setdefault("NAGRAPH_STRICT", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import nagraph as ng  # noqa: E402
from nagraph.backends.gpu.on_cpu.kernels import Kernels  # noqa: E402
from nagraph.errors import NagraphError  # noqa: E402
from nagraph.program.instructions import Launch, Phase  # noqa: E402
from tests.backends.cuda.conftest import usable_as  # noqa: E402
from tests.backends.cuda.lazy_device import LazyBackend, Table  # noqa: E402
from tests.backends.cuda.on_cpu import OnCpuDriver  # noqa: E402
from tests.gpu.cases import Case, model_cases  # noqa: E402
from tests.gpu.compare import compare, installed  # noqa: E402

Text = Callable[[str, np.random.Generator], str | None]
#: The word with which a kernel's own function begins.
KERNEL = "__global__"


class Mutation(NamedTuple):
    """A mutation is a fault that was planted: its operator, the case, what was changed, and the case's program with it."""

    operator: str
    case: Case
    what: str
    program: Any


# -- operators on text --------------------------------------------------------------------------------------------------


def _at_one(pattern: str, change: Callable[[re.Match[str]], str | None]) -> Text:
    """An operator that changes one of the places where a pattern is, in the kernel's own function; None changes nothing there."""
    def mutate(text: str, rng: np.random.Generator) -> str | None:
        body = text.rindex(KERNEL)
        found = [(m, changed) for m in re.compile(pattern).finditer(text, body) if (changed := change(m)) is not None]
        if not found:
            return None
        m, changed = found[int(rng.integers(len(found)))]
        return text[:m.start()] + changed + text[m.end():]

    return mutate


def _without_barrier(m: re.Match[str]) -> str | None:
    """No barrier, unless it is the last thing that the kernel does."""
    return None if re.fullmatch(r"[\s}]*", m.string[m.end():]) else ""


def _bounded(m: re.Match[str], bound: int) -> str | None:
    """A loop up to another bound, unless it goes round as often: of a loop that all threads begin at one number that is known."""
    step = int(m[5] or 1)
    if m[2].isdigit() and -(-bound // step) == -(-int(m[3]) // step):
        return None
    return f"{m[1]}{bound}{m[4]}"


def _doubled(m: re.Match[str]) -> str | None:
    """A loop by steps twice as large, unless it goes round once at most."""
    return None if m[2].isdigit() and int(m[2]) <= int(m[3]) else f"{m[1]}{2 * int(m[3])}{m[4]}"


BOUND = r"(for \(\w+ \w+ = ([^;,]*)[^;]*; \w+ < )(\d+)(; (?:\w+ \+= (\d+))?)"
SHUFFLE = r"ng_shuffle_down\((\w+), (\w+)\)"
TEXT: dict[str, Text] = {
    "a barrier removed": _at_one(r"ng_(block|warp)_barrier\(\);", _without_barrier),
    "a larger bound": _at_one(BOUND, lambda m: _bounded(m, int(m[3]) + int(m[3]) // 4 + 1)),
    "a smaller bound": _at_one(BOUND, lambda m: _bounded(m, int(m[3]) - int(m[3]) // 4 - 1)),
    "another stride": _at_one(r"(\[[^\]]*\* )(\d+)", lambda m: f"{m[1]}{int(m[2]) + 1}"),
    "an index one larger": _at_one(r"(\w\[)([^\]]*\ba\d+[^\]]*)(\])", lambda m: f"{m[1]}{m[2]} + 1{m[3]}"),
    "half a warp shuffles": _at_one(SHUFFLE, lambda m: f"(threadIdx.x % 32 < 16 ? {m[0]} : {m[1]})"),
    "a shuffle from another lane": _at_one(SHUFFLE, lambda m: f"ng_shuffle_down({m[1]}, {m[2]} + 1)"),
    "a condition on threads dropped": _at_one(r"if \((member|point|active)[^{]*\) (\{|return;)",
                                              lambda m: "if (true) {" if m[2] == "{" else "if (false) return;"),
    "a step larger": _at_one(r"(for \([^;]*; \w+ < (\w+); \w+ \+= )(\d+)(\b)", _doubled),
}


# -- operators on launches and plans ------------------------------------------------------------------------------------


def _fewer_blocks(program: Any, rng: np.random.Generator) -> str | None:
    return _launches(program, rng, lambda x: x.function.grid[0] > 1, lambda x: x._replace(
        function=x.function._replace(grid=(x.function.grid[0] - 1, *x.function.grid[1:]))))


def _less_shared_memory(program: Any, rng: np.random.Generator) -> str | None:
    return _launches(program, rng, lambda x: x.function.shared_nbytes > 4, lambda x: x._replace(
        function=x.function._replace(shared_nbytes=x.function.shared_nbytes // 4)))


def _swapped_operands(program: Any, rng: np.random.Generator) -> str | None:
    def swapped(x: Launch) -> Launch:
        return x._replace(slots=(x.slots[1], x.slots[0], *x.slots[2:]))

    def can(x: Launch) -> bool:
        count = len(x.slots) - x.outputs
        return count >= 2 and x.slots[0] != x.slots[1] and x.kernel is not None and x.kernel.operands[0] == x.kernel.operands[1]

    return _launches(program, rng, can, swapped)


def _launch_left_out(program: Any, rng: np.random.Generator) -> str | None:
    return _launches(program, rng, lambda x: True, lambda x: None)


def _launches(program: Any, rng: np.random.Generator, can: Callable[[Launch], bool],
              change: Callable[[Launch], Launch | None]) -> str | None:
    """Change one launch of those that can be; what it computes, or None if there is none."""
    places = [(n, k) for n, i in enumerate(program.program.instructions) if isinstance(i, Phase)
              for k, x in enumerate(i.launches) if can(x)]
    if not places:
        return None
    n, k = places[int(rng.integers(len(places)))]
    launches = list(program.program.instructions[n].launches)
    name, made = launches[k].function.name, change(launches[k])
    program.program.instructions[n] = Phase(tuple(x for x in (*launches[:k], made, *launches[k + 1:]) if x is not None))
    return name


def _arena_overlaps(program: Any, rng: np.random.Generator) -> str | None:
    """Put a buffer of the arena where another one is that is alive with it: both are operands of one launch."""
    table, found = program.program.table, []
    for x in program.program.launches:
        count = len(x.slots) - x.outputs
        for a in x.slots[:count]:
            for b in x.slots[count:]:
                both = table[a], table[b]
                if all(e.kind == "arena" and e.nbytes > 8 for e in both) and both[0].number != both[1].number:
                    found.append((a, b))
    if not found:
        return None
    a, b = found[int(rng.integers(len(found)))]
    shift = int(rng.choice([0, 4, 8]))
    table[b] = table[b]._replace(number=min(table[a].number + shift, program.plan.arena_bytes - table[b].nbytes))
    return f"slot {b} at slot {a} + {shift}"


class Stale:
    """Calls of a program of the CUDA backend with new arrays, of which the last finds the table of pointers as the one before left it."""

    def __init__(self, case: Case):
        self.case = case

    def __call__(self, *operands: Any) -> tuple[Any, ...]:
        with pytest.MonkeyPatch.context() as patch:
            usable_as(patch, LazyBackend(OnCpuDriver("stale", check="watch")))
            run, held = ng.compile(self.case.graph, backend="stale"), []
            for last in (False, False, True):
                if last:
                    patch.setattr(Table, "write", lambda self, words: None)
                held.append([ng.device_put(x, "stale") for x in operands])
                held.append(run(*held[-1]))
                found = tuple(ng.to_numpy(y) for y in held[-1])
            return found


LAUNCHES: dict[str, Callable[[Any, np.random.Generator], str | None]] = {
    "a block fewer": _fewer_blocks, "a quarter of the shared memory": _less_shared_memory, "two operands swapped": _swapped_operands,
    "a launch left out": _launch_left_out, "arena offsets overlap": _arena_overlaps,
}


STALE = "stale pointers at replay"

# -- programs -----------------------------------------------------------------------------------------------------------


def pool() -> list[Case]:
    """Programs that between them have every kind of kernel."""
    rng, xp, F = np.random.default_rng(0), ng.numpy, ng.nn.functional

    def f4(*shape: int) -> np.ndarray[Any, Any]:
        """Random numbers that grow, so that the largest of a row are its last ones."""
        return (rng.normal(size=shape) + np.linspace(-1, 1, shape[-1])).astype("f4")

    functions: dict[str, tuple[Callable[..., Any], list[Any]]] = {
        "elementwise": (lambda x, y: xp.tanh(x) * y + x, [f4(37, 11), f4(37, 11)]),
        "transposed": (lambda x: x.T * 2 + 1, [f4(33, 20)]),
        "softmax": (lambda x: F.softmax(x), [f4(6, 300)]),
        "wide softmax": (lambda x: F.softmax(x), [f4(3, 5000)]),
        "layer norm": (lambda x, g: (x - x.mean(-1, keepdims=True)) / xp.sqrt(x.var(-1, keepdims=True) + 1e-5) * g, [f4(5, 130), f4(130)]),
        "sums": (lambda x: (x.sum(), x.sum(0), x.max(1), xp.argmin(x, 1)), [f4(70, 90)]),
        "long sum": (lambda x: x.sum(), [f4(20000)]),
        "product": (lambda a, b: a @ b, [f4(33, 70), f4(70, 40)]),
        "product with epilogue": (lambda a, b, c: F.gelu(a @ b + c), [f4(65, 33), f4(33, 66), f4(66)]),
        "products of transposes": (lambda a, b: xp.matmul(a.T, b.T), [f4(40, 33), f4(24, 40)]),
        "f16 product": (lambda a, b: a @ b, [f4(33, 100).astype("f2"), f4(100, 48).astype("f2")]),
        "attention": (lambda q, k, v: F.attention(q, k, v, causal=True), [f4(1, 1, 70, 40), f4(1, 1, 70, 40), f4(1, 1, 70, 40)]),
        "attention's gradient": (ng.grad(lambda q: F.attention(q, q, q, causal=True).sum()), [f4(1, 1, 70, 24)]),
        "convolution": (lambda x, w: F.conv(x, w, padding=1), [f4(2, 3, 9, 9), f4(8, 3, 3, 3)]),
        "gather": (lambda x, i: xp.take(x, i, axis=0) * 2, [f4(9, 17), rng.integers(0, 9, 13)]),
        "scatter": (lambda x, i, u: xp.add_at(x, i, u), [f4(9, 17), rng.integers(0, 9, 13), f4(13, 17)]),
        "running sums": (lambda x: xp.cumsum(x, 1), [f4(5, 40)]),
        "sort": (lambda x: xp.sort(x, 1), [f4(5, 40)]),
        "mlp's gradient": (ng.grad(lambda w, v, x: (xp.tanh(x @ w) @ v).sum(), argnums=(0, 1)), [f4(20, 33), f4(33, 9), f4(17, 20)]),
        "scan": (lambda x: ng.scan(lambda c, r: (c * 0.5 + r, c.sum()), x[0], x), [f4(6, 40)]),
    }
    cases = [Case(name, ng.trace(f, *operands), operands) for name, (f, operands) in functions.items()]
    return [*cases, *model_cases(("gpt2", "resnet"))]


def plant(cases: list[Case], kernels: Kernels, backend: str, seed: int) -> Mutation:
    """The mutation of a seed."""
    rng = np.random.default_rng(seed)
    while True:
        case = cases[int(rng.integers(len(cases)))]
        operator = str(rng.choice([*TEXT, *LAUNCHES, STALE]))
        if operator == STALE:
            return Mutation(operator, case, "the third call", Stale(case))
        program = ng.compile(case.graph, backend=backend)
        what = LAUNCHES[operator](program, rng) if operator in LAUNCHES else _in_text(program, TEXT[operator], rng, seed)
        if what is not None:
            for x in program.program.launches:
                kernels.add(x.function)
            return Mutation(operator, case, what, program)


def _in_text(program: Any, mutate: Text, rng: np.random.Generator, seed: int) -> str | None:
    """Change the text of one function, which gets a name of its own; the name and the lines that changed."""
    functions = list({x.function.name: x.function for x in program.program.launches}.values())
    f = functions[int(rng.integers(len(functions)))]
    text = mutate(f.text, rng)
    if text is None:
        return None
    made = f._replace(name=f"{f.name}_{seed}", text=re.sub(rf"\b{f.name}\b", f"{f.name}_{seed}", text))
    for n, i in enumerate(program.program.instructions):
        if isinstance(i, Phase):
            launches = (x._replace(function=made) if x.function.name == f.name else x for x in i.launches)
            program.program.instructions[n] = Phase(tuple(launches))
    lines = [(a.strip(), b.strip()) for a, b in zip(f.text.splitlines(), text.splitlines()) if a != b]
    return f"{f.name}: {lines[0][0]} -> {lines[0][1]}" if lines else f.name


def seen(mutation: Mutation, kernels: Kernels) -> str:
    """How a mutation is seen; empty if it is not."""
    for kernels.seed in (0, 1, 2):
        try:
            said = compare(mutation.case, mutation.program(*mutation.case.operands))
        except (NagraphError, AssertionError) as error:
            return f"{type(error).__name__}: {error}"
        if said:
            return said
    return ""


def outcomes(first: int, count: int) -> Iterator[tuple[Mutation, str]]:
    """Every mutation of these seeds, and how it is seen."""
    kernels = Kernels("cuda", "watch")
    with installed(kernels) as backend:
        cases = pool()
        planted = [plant(cases, kernels, backend, seed) for seed in range(first, first + count)]
        kernels.compile()
        for mutation in planted:
            yield mutation, seen(mutation, kernels)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.mutations", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--show", action="store_true", help="the text of each fault that nobody saw")
    given = parser.parse_args()
    began, by_operator, missed = time.monotonic(), collections.defaultdict(list), []
    with tempfile.TemporaryDirectory(prefix="nagraph-tests-") as cache:
        os.environ.setdefault("XDG_CACHE_HOME", cache)
        for mutation, how in outcomes(given.seed, given.count):
            by_operator[mutation.operator].append(bool(how))
            if not how:
                missed.append(mutation)
                print(f"MISSED {mutation.operator}: {mutation.case.name}: {mutation.what}", flush=True)
    for operator, found in sorted(by_operator.items()):
        print(f"{sum(found):4} of {len(found):3}  {operator}")
    print(f"{given.count - len(missed)} of {given.count} faults are seen, in {time.monotonic() - began:.0f} s")
    return 1 if len(missed) > (0.05 if given.count >= 100 else 0.2) * given.count else 0


if __name__ == "__main__":
    sys.exit(main())
