"""Donated arguments: which output takes which input's array, and which arrays can be written at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph import tree
from nagraph.compiler.signature import Call
from nagraph.ir.graph import Graph


def paired(call: Call, graph: Graph, structure: tree.Structure, mask: Sequence[bool]) -> dict[int, int]:
    """Pairs of an output and a donated input of its type, by number: at the same place in its tree, else the first free one.

    So params, state = step(params, state, batch) updates each array in its own place.
    """
    names = tree.paths(structure)
    whole = structure.kind is not tuple
    outputs = [name if whole else name.partition(".")[2] for name, m in zip(names, mask, strict=True) if m]
    inputs = zip(graph.inputs, call.input_names, call.donated, strict=True)
    free = {i: (v.type, name.partition(".")[2]) for i, (v, name, donated) in enumerate(inputs) if donated}
    found: dict[int, int] = {}
    for same_place in (True, False):
        by_kind: dict[Any, list[int]] = {}
        for i, (type, place) in free.items():
            by_kind.setdefault((type, place) if same_place else type, []).append(i)
        for j, (v, place) in enumerate(zip(graph.outputs, outputs, strict=True)):
            fitting = by_kind.get((v.type, place) if same_place else v.type)
            if j not in found and fitting:
                found[j] = fitting.pop(0)
                del free[found[j]]
    return dict(sorted(found.items()))


def arrays(call: Call, pairs: dict[int, int], notes: set[str]) -> dict[int, Any]:
    """For each output the donated array that takes it; those that can't be written stay as they are, with a note."""
    given = call.arrays()
    meeting = overlapping(given)
    donated: dict[int, Any] = {}
    for j, i in pairs.items():
        why = "overlaps another argument" if i in meeting else not_donatable(given[i])
        if why:
            notes.add(f"{call.input_names[i]} was donated but copied: it {why}")
        else:
            donated[j] = given[i]
    return donated


def not_donatable(array: Any) -> str:
    """Why an array can't be updated in place; "" if it can."""
    if not isinstance(array, np.ndarray):
        return "is no array"
    flags = array.flags
    if not flags.writeable:
        return "is read-only"
    if not flags.c_contiguous:
        return "is not C-contiguous"
    if not flags.owndata:
        return "does not own its memory"
    if not array.dtype.isnative:
        return "is byte-swapped"
    return ""


def overlapping(arrays: Sequence[Any]) -> set[int]:
    """The numbers of arrays whose spans of memory meet another's."""
    held = [a for a in arrays if isinstance(a, np.ndarray)]
    if len(set(map(id, held))) == len(held) and all(a.flags.owndata for a in held):
        return set()  # the usual case: no two arrays own the same memory
    spans = sorted((*np.lib.array_utils.byte_bounds(a), i) for i, a in enumerate(arrays) if isinstance(a, np.ndarray) and a.size)
    found: set[int] = set()
    end, last = -1, -1
    for start, stop, i in spans:
        if start < end:
            found |= {i, last}
        if stop > end:
            end, last = stop, i
    return found
