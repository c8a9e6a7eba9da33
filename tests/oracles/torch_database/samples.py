"""The samples of PyTorch's operator database as calls that PyTorch and we both answer."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_flatten, tree_unflatten

from tests.oracles.torch_database.counterpart import unoffered

DTYPES = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int64": torch.int64,
    "int32": torch.int32, "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}
#: Entries of whose results the first alone is compared: we give no places, or others of equals.
FIRST = {"cummax", "cummin", "topk", "native_layer_norm", "native_batch_norm", "native_group_norm"}
#: Entries that give one of two numbers. Of 0.0 and -0.0, which are equal, nobody promises which: it depends on the width of vectors
#: in PyTorch, on the dtype in NumPy.
CHOOSE = {"maximum", "minimum", "max.binary", "min.binary", "clamp_max", "clamp_min", "nextafter", "nn.functional.relu",
          "nn.functional.relu6"}
#: Entries whose zeros have another sign: a remainder of 0 has that of the divisor in NumPy, of the dividend in PyTorch; the logarithm
#: of a probability of 1 is -0.0 here; what PyTorch shrinks to 0 keeps its sign in some vectors.
OTHER_SIGNS = {"remainder", "__rmod__", "nn.functional.logsigmoid", "nn.functional.softshrink"}
#: Entries that PyTorch is asked otherwise: for the order of equals that is ours, where it promises none by itself.
ASKED = {
    "sort": lambda x, dim=-1, descending=False, stable=True: torch.sort(x, dim=dim, descending=descending, stable=True),
    "argsort": lambda x, dim=-1, descending=False, stable=True: torch.argsort(x, dim=dim, descending=descending, stable=True),
}
#: Arguments that say nothing of values.
IGNORED = {"device", "memory_format", "requires_grad", "out_int32", "layout", "pin_memory"}


@functools.cache
def entries() -> dict[str, Any]:
    """The database: name, with its variant after a point, and entry."""
    return {o.name + (f".{o.variant_test_name}" if o.variant_test_name else ""): o for o in op_db}


def is_elementwise(entry: Any) -> bool:
    """Whether each element of the result follows from the elements at its place."""
    return type(entry).__name__ in ("UnaryUfuncInfo", "BinaryUfuncInfo")


@dataclass
class Sample:
    """One call of an entry: the leaves of (args, kwargs), of which those numbered in `at` are tensors."""

    entry: str
    function: Callable[..., Any]
    leaves: list[Any]
    structure: Any
    at: tuple[int, ...]

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [self.leaves[i] for i in self.at]

    def theirs(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """PyTorch's results for other tensors in the same places."""
        args, kwargs = self._put(tensors, self.leaves)
        try:
            found = self.function(*args, **kwargs)
        except Exception as error:
            unoffered(f"PyTorch itself: {type(error).__name__}")
        if found is NotImplemented:
            unoffered("PyTorch itself: NotImplemented")
        return [t for t in tree_flatten(found)[0] if isinstance(t, torch.Tensor)][:1 if self.entry in FIRST else None]

    def ours(self, counterpart: Callable[..., Any], arrays: Sequence[Any]) -> list[Any]:
        """Our results for these arrays or traced values."""
        args, kwargs = self._put(arrays, [_plain(leaf) for leaf in self.leaves])
        kwargs = {k: v for k, v in kwargs.items() if k not in IGNORED}
        found = counterpart(*args, **kwargs)
        return list(found) if isinstance(found, (tuple, list)) else [found]

    def _put(self, found: Sequence[Any], leaves: Sequence[Any]) -> tuple[Any, Any]:
        given = list(leaves)
        for i, x in zip(self.at, found, strict=True):
            given[i] = x
        return tree_unflatten(given, self.structure)

    def signed(self) -> Any:
        """Where a zero has the sign of PyTorch's: not where the entry chooses among zeros."""
        if self.entry not in CHOOSE:
            return self.entry not in OTHER_SIGNS
        return functools.reduce(np.logical_or, (array(t) != 0 for t in self.tensors))

    def shown(self) -> str:
        def one(x: Any) -> str:
            return f"{str(x.dtype)[6:]}{list(x.shape)}" if isinstance(x, torch.Tensor) else repr(x)

        args, kwargs = tree_unflatten([_Text(one(x)) for x in self.leaves], self.structure)
        return ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])


class _Text(str):
    def __repr__(self) -> str:
        return str(self)


def _plain(leaf: Any) -> Any:
    if isinstance(leaf, torch.dtype):
        return np.dtype(ml_dtypes.bfloat16) if leaf == torch.bfloat16 else torch.empty(0, dtype=leaf).numpy().dtype
    if isinstance(leaf, complex):
        unoffered("complex numbers")
    return leaf


def samples(name: str, dtype: str, reference: bool, most: int | None = None, largest: int | None = None) -> list[Sample]:
    """The samples of an entry in a dtype; `most` of them, evenly from the list, none of more elements than `largest`."""
    entry = entries()[name]
    made = (entry.reference_inputs if reference else entry.sample_inputs)("cpu", DTYPES[dtype])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [_sample(name, s) for s in made]
    found = [s for s in found if not any(t.is_complex() or t.is_sparse or t.is_quantized for t in s.tensors)]
    if largest is not None:
        found = [s for s in found if sum(t.numel() for t in s.tensors) <= largest] or found[:1]
    if most is not None and len(found) > most:
        found = [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]
    return found


def _sample(name: str, sample: Any) -> Sample:
    args = (sample.input, *(tuple(a) if isinstance(a, torch.Size) else a for a in sample.args))
    args = tuple(tuple(a) if isinstance(a, torch.Size) else a for a in args)
    leaves, structure = tree_flatten((args, sample.kwargs))
    at = tuple(i for i, x in enumerate(leaves) if isinstance(x, torch.Tensor))
    return Sample(name, ASKED.get(name, entries()[name].op), leaves, structure, at)


def array(t: torch.Tensor) -> np.ndarray:
    """The tensor as an array of its strides, a sparse one with its zeros; bfloat16 by its bits."""
    t = torch.zeros_like(t) if t._is_zerotensor() else t.detach().to_dense()
    if t.dtype == torch.bfloat16:
        return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return t.numpy()
