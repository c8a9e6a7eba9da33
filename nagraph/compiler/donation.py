"""Donated arguments: which output takes which input's array, and which arrays can be written at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nagraph import tree
from nagraph.arrays import HOST, ArrayKind, kind_of
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


def donated(call: Call, given: Sequence[Any], ready: Sequence[Any], kind: ArrayKind, pairs: dict[int, int],
            notes: set[str]) -> dict[int, Any]:
    """For each output the array whose memory it takes; those that can't be written stay as they are, with a note.

    given: the call's leaves. ready: what was made of them for the executable, whose arrays are of this kind.
    """
    own = [i for i, x in enumerate(given) if kind_of(x) is kind]
    meeting = {own[n] for n in kind.overlapping([given[i] for i in own])}
    here = set(own)
    found: dict[int, Any] = {}
    for j, i in pairs.items():
        if kind is not HOST and isinstance(given[i], np.ndarray):  # it was copied to get there, and the copy is nobody's
            why = kind.not_donatable(ready[i])
        elif i in here:
            why = "overlaps another argument" if i in meeting else kind.not_donatable(given[i])
        else:
            why = "is no array" if kind_of(given[i]) is None else "is another library's array"
        if why:
            notes.add(f"{call.input_names[i]} was donated but copied: it {why}")
        else:
            found[j] = ready[i]
    return found
