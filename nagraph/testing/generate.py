"""Random programs: statement after statement, each accepted if NumPy can run it and rounding does not decide what it gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nagraph.testing.choice import Choice, NoChoice
from nagraph.testing.oracle import Oracle, Undetermined
from nagraph.testing.program import Program, Statement, Step, hole
from nagraph.testing.rules import RULES, Rule

#: The sizes of axes: empty, one, odd, and beyond vectors and blocks of every width; the last are past what splits long loops.
SIZES = (0, 1, 2, 3, 7, 8, 17, 33, 65, 130, 520)
_WEIGHTS = np.array([1, 3, 3, 4, 4, 3, 4, 3, 3, 1, 0.7])
#: Which dtypes a program is made of.
PALETTES = (("f32",), ("f32",), ("f64",), ("f32", "i32", "bool"), ("f32", "f64", "i64"), ("f16", "f32"), ("bf16", "f32"), ("bf16",),
            ("f16",), ("f32", "u8", "i8"), ("f32", "i16", "u32", "bool"), ("f64", "u64", "u16"))
#: The most elements of an argument at the start.
MOST_AT_FIRST = 40_000


def random_program(seed: int, least: int = 5, most: int = 60, rules: Sequence[Rule] = tuple(RULES)) -> Program:
    """A program of `least` to `most` statements, always the same one for a seed.

    rules: what statements it is made of; give more of your own to test your own ops: `Rule(name, propose, weight)`, where
    propose(choice) returns the text of an expression, such as "my_op({0})", and the operands that it names.
    """
    rng = np.random.default_rng([0x6E61, seed])
    length = int(least + (most - least) * rng.beta(1, 2))
    dtypes = PALETTES[int(rng.integers(len(PALETTES)))]
    sizes = {name: int(rng.choice(SIZES, p=_WEIGHTS / _WEIGHTS.sum())) for name in "ABC"}
    oracle, steps = Oracle(sizes), []
    counter = iter(range(1_000_000))

    def fresh_name() -> str:
        return f"x{next(counter)}"

    def try_step(new: Sequence[Step]) -> bool:
        added = []
        try:
            for step in new:
                oracle.add(step)
                added.append(step.name)
        except Undetermined:
            for name in added:
                for run in (oracle.native, oracle.exact, *oracle.noisy):
                    del run[name]
            return False
        steps.extend(new)
        return True

    choice = Choice(rng, oracle.native, fresh_name, dtypes)
    for dtype in (dtypes[0], *dtypes):
        choice.fresh(_first_shape(choice, sizes), dtype)
        try_step([choice.made.pop()])
    weights = np.array([r.weight for r in rules])
    weights /= weights.sum()
    statements, failed = 0, 0
    while statements < length and failed < 50 * length:
        choice.made = []
        try:
            text, operands = rules[int(rng.choice(len(rules), p=weights))].propose(choice)
        except NoChoice:
            failed += 1
            continue
        made = [i for i in choice.made if i.name in operands]
        used = tuple(o for n, o in enumerate(operands) if hole(n) in text)
        text = _renumbered(text, operands, used)
        name = f"t{next(counter)}"
        if try_step([*(i for i in made if i.name in used), Statement(name, text, used)]):
            statements += 1
        else:
            failed += 1
    return Program(sizes, tuple(steps), _outputs(choice, steps), seed).needed()


def _first_shape(choice: Choice, sizes: dict[str, int]) -> str:
    """The text of a shape of a few of the sizes."""
    while True:
        axes = [choice.one([*sizes, *sizes, "1"]) for _ in range(choice.number(0, 4))]
        if np.prod([sizes.get(a, 1) for a in axes], dtype=float) <= MOST_AT_FIRST:
            return f"({''.join(f'{a}, ' for a in axes)})"


def _renumbered(text: str, operands: tuple[str, ...], used: tuple[str, ...]) -> str:
    """The text with its operands counted from 0 again, where some of them do not occur in it."""
    for number, name in enumerate(operands):
        if name in used:
            text = text.replace(hole(number), hole(used.index(name)))
    return text


def _outputs(choice: Choice, steps: Sequence[Step]) -> tuple[str, ...]:
    """The last value, every one that nothing reads, and a few that something does."""
    names = [s.name for s in steps if isinstance(s, Statement)] or [s.name for s in steps]
    read = {o for s in steps if isinstance(s, Statement) for o in s.operands}
    kept = [n for n in names if n not in read or n == names[-1] or choice.chance(0.1)]
    return tuple(kept)


