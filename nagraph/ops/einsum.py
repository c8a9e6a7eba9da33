"""einsum: sums of products named by letters, in terms of diagonals, sums, transposes and contractions."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

from nagraph.errors import TypeRuleError
from nagraph.ir.sizes import same, typical
from nagraph.ops.contraction import DotGeneral, promoted
from nagraph.ops.movement import reshape, transpose
from nagraph.ops.operands import Operand
from nagraph.ops.reduction import sum
from nagraph.ops.slicing import Slice

#: One axis of an operand: a letter, or the place of an ellipsis axis counted from its end (-1 is the last).
Label = str | int
Term = tuple[tuple[Label, ...], Any]


def einsum(subscripts: str, *operands: Operand) -> Any:
    """NumPy's einsum for the string form: "ij,jk->ik", with "..." and with the output left out.

    Operands are contracted two by two, each time the pair that needs the fewest products.
    Raises TypeRuleError where letters and shapes do not fit.
    """
    left, _, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise TypeRuleError(f"einsum: {subscripts!r} names {len(terms)} operands, got {len(operands)}")
    values = promoted(operands)
    labels = [_labels(subscripts, term, len(v.shape)) for term, v in zip(terms, values)]
    sizes = _sizes(subscripts, labels, [v.shape for v in values])
    output = _output(subscripts, labels, right if "->" in subscripts else None, sizes)
    pending = [_distinct(term, v, sizes) for term, v in zip(labels, values)]
    while len(pending) > 1:
        i, j = min(itertools.combinations(range(len(pending)), 2), key=lambda pair: _work(pending, pair, sizes))
        b, a = pending.pop(j), pending.pop(i)
        kept = set(output).union(*(term for term, _ in pending))
        pending.append(_contract(_summed(a, kept | set(b[0])), _summed(b, kept | set(a[0])), kept))
    return _ordered(_summed(pending[0], set(output)), output)


# -- the string -------------------------------------------------------------------------------------


def _labels(subscripts: str, term: str, rank: int) -> list[Label]:
    head, dots, tail = term.partition("...")
    letters = head + tail
    if letters and not (letters.isascii() and letters.isalpha()):
        raise TypeRuleError(f"einsum: {subscripts!r} may hold letters, ',', '->' and one '...' per operand, not {term!r}")
    free = rank - len(letters)
    if free < 0 or (free and not dots):
        raise TypeRuleError(f"einsum: {term!r} of {subscripts!r} names {len(letters)} axes, its operand has {rank}")
    return [*head, *(range(-free, 0) if dots else ()), *tail]


def _sizes(subscripts: str, labels: list[list[Label]], shapes: list[tuple[int, ...]]) -> dict[Label, int]:
    """The size of every label; an axis of size 1 goes with any other."""
    sizes: dict[Label, int] = {}
    for term, shape in zip(labels, shapes):
        for label, size in zip(term, shape):
            if any(other == label and not same(n, size, "einsum") for other, n in zip(term, shape)):
                raise TypeRuleError(f"einsum: {subscripts!r}: {label!r} has sizes that differ in one operand of shape {shape}")
            known = sizes.setdefault(label, size)
            if known == 1:
                sizes[label] = size
            elif size != 1 and not same(size, known, "einsum"):
                name = f"{label!r}" if isinstance(label, str) else f"axis {label} of '...'"
                raise TypeRuleError(
                    f"einsum: {subscripts!r}: {name} has sizes {known} and {size} in shapes "
                    f"{' and '.join(map(str, shapes))}"
                )
    return sizes


def _output(subscripts: str, labels: list[list[Label]], right: str | None, sizes: dict[Label, int]) -> list[Label]:
    dots = sorted(label for label in sizes if isinstance(label, int))
    if right is None:
        counts = Counter(itertools.chain(*labels))
        return [*dots, *sorted(label for label, n in counts.items() if isinstance(label, str) and n == 1)]
    head, ellipsis, tail = right.partition("...")
    output: list[Label] = [*head, *(dots if ellipsis else ()), *tail]
    if len(set(output)) != len(output) or any(label not in sizes for label in output):
        raise TypeRuleError(f"einsum: the letters after '->' in {subscripts!r} are distinct and occur before it")
    if dots and not ellipsis:
        raise TypeRuleError(f"einsum: {subscripts!r} has '...' before '->', so it has it after '->' too")
    return output


# -- the work ---------------------------------------------------------------------------------------


def _distinct(labels: list[Label], x: Any, sizes: dict[Label, int]) -> Term:
    """Drop axes of size 1 that stand for more, and take the diagonal of axes with equal labels."""
    kept = [i for i, label in enumerate(labels) if x.shape[i] == sizes[label]]
    if len(kept) < len(labels):
        x, labels = reshape(x, tuple(x.shape[i] for i in kept)), [labels[i] for i in kept]
    while len(set(labels)) < len(labels):
        label = next(label for label, n in Counter(labels).items() if n > 1)
        i, j = [k for k, other in enumerate(labels) if other == label][:2]
        rest = [k for k in range(len(labels)) if k not in (i, j)]
        n = x.shape[i]
        shape = tuple(x.shape[k] for k in rest)
        # Row-major, the diagonal of n by n elements is every (n + 1)th.
        flat = reshape(transpose(x, (*rest, i, j)), (*shape, n * n))
        x = Slice((0,) * len(rest) + (0,), (*shape, n * n), (1,) * len(rest) + (n + 1,))(flat)
        labels = [*(labels[k] for k in rest), label]
    return tuple(labels), x


def _work(pending: list[Term], pair: tuple[int, int], sizes: dict[Label, int]) -> int:
    """The products that a pair takes; sizes that are known later count as typical ones."""
    return math.prod(typical(sizes[label]) for label in set(pending[pair[0]][0]) | set(pending[pair[1]][0]))


def _summed(term: Term, kept: set[Label]) -> Term:
    """The term summed over the labels that nobody else needs."""
    labels, x = term
    axes = tuple(i for i, label in enumerate(labels) if label not in kept)
    if not axes:
        return term
    return tuple(label for label in labels if label in kept), sum(x, axis=axes, dtype=x.dtype)


def _contract(a: Term, b: Term, kept: set[Label]) -> Term:
    """The product of two terms: shared labels are batch axes where they are needed later, else summed."""
    shared = [label for label in a[0] if label in b[0]]
    batch = [label for label in shared if label in kept]
    summed = [label for label in shared if label not in kept]

    def axes(term: Term, names: list[Label]) -> tuple[int, ...]:
        return tuple(map(term[0].index, names))

    dot = DotGeneral((axes(a, summed), axes(b, summed)), (axes(a, batch), axes(b, batch)))
    free = [label for term in (a, b) for label in term[0] if label not in shared]
    return (*batch, *free), dot(a[1], b[1])


def _ordered(term: Term, output: list[Label]) -> Any:
    """The axes in the order of the output."""
    labels, x = term
    order = tuple(map(labels.index, output))
    return x if order == tuple(range(len(order))) else transpose(x, order)
