"""Arguments of a call: native code checks arrays against what a program takes, and puts their addresses into its table.

Asking an array for its dtype, shape, flags and address costs Python half a microsecond. Native code reads them from the
object, whose head is part of NumPy's binary interface: data, rank, shape, strides, base, dtype, flags. Whether lists and
arrays lie in memory as expected is tried out once; where they do not, Python asks.

Source: NumPy C-API, "PyArrayObject"; CPython, "PyListObject".
"""

from __future__ import annotations

import ctypes
import functools
import math
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.backends.llvm.native import files
from nagraph.backends.llvm.native.addresses import address
from nagraph.backends.llvm.native.machine_code import Library, object_code
from nagraph.backends.llvm.runtime.assembler import Words

#: What is asked of an array, as bits of its flags.
ROW_MAJOR, OWNED, ALIGNED, WRITEABLE = 0x1, 0x4, 0x100, 0x400
#: Bytes of an object's head: its count of references and its type.
HEAD = 16
#: What is said of a list: it does not fit; it does, and every array has memory of its own; it does, and some show other objects' memory.
UNFIT, OWNERS, BORROWERS = 0, 1, 2


class Wanted(NamedTuple):
    """An array of a dtype and shape whose flags have these bits; its address goes to a place in the table."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    flags: int
    at: int

    def fits(self, a: Any) -> bool:
        """Whether an object is such an array."""
        return type(a) is np.ndarray and a.dtype is self.dtype and a.shape == self.shape and a.flags.num & self.flags == self.flags


class Arguments:
    """The arrays that a program takes, in order."""

    def __init__(self, wanted: Sequence[Wanted]):
        self.wanted = tuple(wanted)
        words = [len(self.wanted), id(np.ndarray)]
        for w in self.wanted:
            words += [id(w.dtype), w.flags, w.at, len(w.shape), *w.shape]
        self._words = np.array(words, np.int64)

    def filler(self, table: Words) -> Callable[[list[Any]], int]:
        """A function that tells whether a list holds just these arrays, and if so puts their addresses into the table.

        It answers UNFIT, OWNERS or BORROWERS.
        """
        native = _native()
        if native is None:
            return functools.partial(self.ask, table)
        words, place = self._words.ctypes.data, table.ctypes.data
        return lambda arrays: native(id(arrays), words, place)

    def ask(self, table: Words, arrays: list[Any]) -> int:
        """What the filler does, done by Python."""
        if len(arrays) != len(self.wanted) or not all(w.fits(a) for w, a in zip(self.wanted, arrays)):
            return UNFIT
        for w, a in zip(self.wanted, arrays):
            table[w.at] = address(a)
        return OWNERS if all(a.flags.owndata for a in arrays) else BORROWERS


class MemoryRanges:
    """The memory that the arrays of a call take up, to find those that are written and overlap another."""

    def __init__(self, wanted: Sequence[Wanted]):
        self._places = np.array([w.at for w in wanted], np.int64)
        self._nbytes = np.array([w.dtype.itemsize * math.prod(w.shape) for w in wanted], np.int64)
        self._written = np.array([[i] for i, w in enumerate(wanted) if w.flags & WRITEABLE], np.int64).reshape(-1, 1)
        #: Of these, those that have any memory meet themselves.
        self._meetings = np.count_nonzero(self._nbytes[self._written])

    def overlap(self, table: Words) -> bool:
        """Whether an array that is to be written shares memory with another one; their addresses stand in the table."""
        begins = table[self._places]
        ends = begins + self._nbytes
        written = self._written
        return bool(np.count_nonzero((begins < ends[written]) & (begins[written] < ends)) > self._meetings)


FILL = f"""
define i64 @fill(ptr %list, ptr %words, ptr %table) nounwind {{
entry:
  %count.at = getelementptr i8, ptr %list, i64 {HEAD}
  %count = load i64, ptr %count.at
  %wanted = load i64, ptr %words
  %as_many = icmp eq i64 %count, %wanted
  %kind.at = getelementptr i64, ptr %words, i64 1
  %kind = load i64, ptr %kind.at
  %items.at = getelementptr i8, ptr %list, i64 {HEAD + 8}
  %items = load ptr, ptr %items.at
  %first = getelementptr i64, ptr %words, i64 2
  br i1 %as_many, label %next, label %no
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %fits ]
  %w = phi ptr [ %first, %entry ], [ %w1, %fits ]
  %answer = phi i64 [ {OWNERS}, %entry ], [ %answer1, %fits ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %look, label %yes
look:
  %item.at = getelementptr ptr, ptr %items, i64 %i
  %item = load ptr, ptr %item.at
  %type.at = getelementptr i8, ptr %item, i64 8
  %type = load i64, ptr %type.at
  %is_array = icmp eq i64 %type, %kind
  br i1 %is_array, label %array, label %no
array:
  %a = getelementptr i8, ptr %item, i64 {HEAD}
  %rank.at = getelementptr i8, ptr %a, i64 8
  %rank32 = load i32, ptr %rank.at
  %rank = sext i32 %rank32 to i64
  %shape.at = getelementptr i8, ptr %a, i64 16
  %shape = load ptr, ptr %shape.at
  %dtype.at = getelementptr i8, ptr %a, i64 40
  %dtype = load i64, ptr %dtype.at
  %flags.at = getelementptr i8, ptr %a, i64 48
  %flags32 = load i32, ptr %flags.at
  %flags = zext i32 %flags32 to i64
  %dtype1 = load i64, ptr %w
  %flags1.at = getelementptr i64, ptr %w, i64 1
  %flags1 = load i64, ptr %flags1.at
  %at.at = getelementptr i64, ptr %w, i64 2
  %at = load i64, ptr %at.at
  %rank1.at = getelementptr i64, ptr %w, i64 3
  %rank1 = load i64, ptr %rank1.at
  %shape1 = getelementptr i64, ptr %w, i64 4
  %owned = and i64 %flags, {OWNED}
  %own = icmp ne i64 %owned, 0
  %answer1 = select i1 %own, i64 %answer, i64 {BORROWERS}
  %has = and i64 %flags, %flags1
  %same_dtype = icmp eq i64 %dtype, %dtype1
  %same_flags = icmp eq i64 %has, %flags1
  %same_rank = icmp eq i64 %rank, %rank1
  %same1 = and i1 %same_dtype, %same_flags
  %same = and i1 %same1, %same_rank
  br i1 %same, label %axis, label %no
axis:
  %d = phi i64 [ 0, %array ], [ %d1, %compare ]
  %axes = icmp slt i64 %d, %rank
  br i1 %axes, label %compare, label %fits
compare:
  %n.at = getelementptr i64, ptr %shape, i64 %d
  %n = load i64, ptr %n.at
  %n1.at = getelementptr i64, ptr %shape1, i64 %d
  %n1 = load i64, ptr %n1.at
  %d1 = add i64 %d, 1
  %equal = icmp eq i64 %n, %n1
  br i1 %equal, label %axis, label %no
fits:
  %data = load i64, ptr %a
  %place = getelementptr i64, ptr %table, i64 %at
  store i64 %data, ptr %place
  %w1 = getelementptr i64, ptr %shape1, i64 %rank
  %i1 = add i64 %i, 1
  br label %next
yes:
  ret i64 %answer
no:
  ret i64 {UNFIT}
}}
"""


@functools.cache
def _native() -> Callable[[int, int, int], int] | None:
    """The function `fill`, loaded; None where objects lie in memory in another way."""
    if not _as_expected():
        return None
    library = Library([files.routine("fill", lambda: object_code(FILL))])
    # PYFUNCTYPE: with Python's lock held, so that no object changes meanwhile.
    function = ctypes.PYFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 3)(library.address("fill"))
    function.library = library  # type: ignore[attr-defined]  # it lives as long as the function
    return function


def _as_expected() -> bool:
    """Whether a list and some arrays have their parts where the function looks for them."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or object.__basicsize__ != HEAD:
        return False
    arrays = [np.zeros((2, 3, 5)), np.zeros((4, 6), np.int8)[:, 1:3], np.zeros((), np.float32), np.zeros((3, 2), order="F")]
    count, items = struct.unpack("=qq", ctypes.string_at(id(arrays) + HEAD, 16))
    return count == len(arrays) and struct.unpack("=4q", ctypes.string_at(items, 32)) == tuple(map(id, arrays)) and all(
        map(_is_as_expected, arrays))


def _is_as_expected(a: np.ndarray[Any, Any]) -> bool:
    """Whether an array's head is data, rank, shape, strides, base, dtype, flags."""
    kind, data, rank, shape, dtype, flags = struct.unpack("=8xqqi4xq16xqi", ctypes.string_at(id(a), HEAD + 52))
    if (kind, data, rank, dtype, flags) != (id(np.ndarray), a.ctypes.data, a.ndim, id(a.dtype), a.flags.num):
        return False
    return struct.unpack(f"={rank}q", ctypes.string_at(shape, 8 * rank)) == a.shape
