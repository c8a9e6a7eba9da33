"""What native code reads of arrays is what NumPy says of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagraph.backends.llvm.calls import arguments
from nagraph.backends.llvm.calls.arguments import ALIGNED, OWNED, ROW_MAJOR, WRITEABLE, Arguments, Wanted


class Odd(np.ndarray):
    """A subclass of arrays."""


ARRAYS = [
    np.ones(3, np.float32), np.ones(3), np.ones((3, 1), np.float32), np.ones((1, 3), np.float32), np.ones((), np.float32),
    np.ones((2, 3), np.float32), np.ones((2, 3), np.float32, order="F"), np.ones((4, 3), np.float32)[::2], np.ones(0, np.float32),
    np.ones((0, 3), np.float32), np.ones(3, ">f4"), np.ones(3, np.int32), np.ones(3, np.float32).view(Odd),
    np.ones(6, np.float32)[:3], np.frombuffer(bytes(12), np.float32), np.frombuffer(bytes(13), np.float32, offset=1),
    np.ones(3, bool), np.broadcast_to(np.float32(1), 3), np.ones((1, 2, 1, 3), np.int8),
    1.0, None, "text", [1.0], np.float32(1)]
FLAGS = [ROW_MAJOR, ROW_MAJOR | ALIGNED, ROW_MAJOR | OWNED, ROW_MAJOR | WRITEABLE, ROW_MAJOR | ALIGNED | OWNED | WRITEABLE]


def test_objects_lie_in_memory_as_expected_here():
    assert arguments._native() is not None


@given(st.lists(st.tuples(st.sampled_from(ARRAYS[:19]), st.sampled_from(FLAGS), st.sampled_from(ARRAYS) | st.none()), max_size=5),
       st.integers(-1, 1))
def test_native_code_and_python_agree(items, more):
    """In each place the array that is wanted (None here), or some object."""
    order = list(range(len(items)))[::-1]
    wanted = Arguments([Wanted(np.asarray(w).dtype, np.shape(w), flags, at) for (w, flags, _), at in zip(items, order)])
    given = [w if x is None else x for w, _, x in items]
    given = given[:more] if more < 0 else given + [ARRAYS[0]] * more
    tables = [np.full(len(items), -1, np.int64) for _ in range(2)]
    native, python = wanted.filler(tables[0])(given), wanted.ask(tables[1], given)
    assert native == python
    assert python == (0 if not native else 1 if all(a.flags.owndata for a in given) else 2)
    if native:
        assert tables[0].tolist() == tables[1].tolist() == [given[at].ctypes.data for at in order]


@pytest.mark.parametrize("array", ARRAYS[:12])
def test_an_array_fits_itself_if_its_flags_do(array):
    table = np.zeros(1, np.int64)
    fits = Arguments([Wanted(array.dtype, array.shape, ROW_MAJOR | ALIGNED, 0)]).filler(table)([array])
    assert bool(fits) == (array.flags.c_contiguous and array.flags.aligned)
    assert table[0] == (array.ctypes.data if fits else 0)


def test_where_objects_lie_otherwise_python_asks(monkeypatch):
    monkeypatch.setattr(arguments, "_native", lambda: None)
    table = np.zeros(1, np.int64)
    fill = Arguments([Wanted(np.dtype("f4"), (3,), ROW_MAJOR, 0)]).filler(table)
    assert fill([ARRAYS[0]]) and table[0] == ARRAYS[0].ctypes.data and not fill([ARRAYS[1]]) and not fill([])
