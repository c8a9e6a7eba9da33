"""Functions as C sees them: their arrays, with names that C can have."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nagraph.errors import ExportError
from nagraph.ir.types import SHORT_NAMES, TensorType

#: The C type of each dtype, by its short name; 16-bit floats are given by their bits.
C_TYPES = {"bool": "bool", "f16": "uint16_t", "bf16": "uint16_t", "f32": "float", "f64": "double",
           **{f"{kind}{bits}": f"{'u' if kind == 'u' else ''}int{bits}_t" for kind in "iu" for bits in (8, 16, 32, 64)}}
#: Words that neither C nor C++ allows as names of members.
_RESERVED = frozenset("""
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const const_cast constexpr continue
    decltype default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable
    namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict return
    short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename
    union unsigned using virtual void volatile wchar_t while xor xor_eq""".split())


class Member(NamedTuple):
    """An array of a call: its name in C and for the user, its type, and, of an output, the input whose memory it may have."""

    name: str
    label: str
    type: TensorType
    place: str = ""

    @property
    def dtype(self) -> str:
        """The short name of its dtype."""
        return SHORT_NAMES[self.type.dtype]

    @property
    def c_type(self) -> str:
        """The C type of its elements."""
        return C_TYPES[self.dtype]

    @property
    def count(self) -> int:
        """Its elements."""
        return math.prod(self.type.shape)


class Function(NamedTuple):
    """A function of a library: its symbol, the arrays that a caller gives and gets, and whether it takes the file of weights."""

    symbol: str
    inputs: tuple[Member, ...]
    outputs: tuple[Member, ...]
    takes_file: bool

    def count(self, member: Member) -> str:
        """The name of the constant that says how many elements an array has."""
        return f"{self.symbol}_{member.name}_COUNT".upper()

    @classmethod
    def of(cls, symbol: str, inputs: Sequence[tuple[str, TensorType]], outputs: Sequence[tuple[str, TensorType]],
           shared: Mapping[str, str], takes_file: bool) -> Function:
        """A function of arrays by the user's names. shared: output -> the input whose memory it may have."""
        names = c_names([name for name, _ in (*inputs, *outputs)], ["weights"] if takes_file else [])
        return cls(symbol, tuple(Member(names[name], name, type) for name, type in inputs),
                   tuple(Member(names[name], name, type, names.get(shared.get(name, ""), "")) for name, type in outputs), takes_file)


def c_names(labels: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """For each of the user's names, which differ, one that C can have: `params.blocks[0].w` is params_blocks_0_w."""
    used, found = set(taken), {}
    for label in labels:
        name = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_") or "array"
        name = f"x_{name}" if name[0].isdigit() else name
        base, n = f"{name}_" if name in _RESERVED else name, 1
        name = base
        while name in used:
            n += 1
            name = f"{base}_{n}"
        used.add(name)
        found[label] = name
    return found


def check_identifier(name: str, what: str) -> str:
    """The name, which C functions begin with. ExportError if they can't."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in _RESERVED:
        raise ExportError(f"{what} {name!r:.80} begins the names of C functions: take small letters, digits and _, such as 'digits'")
    return name
