"""Moves: what a program does with pointers and counters between launches, as rows that one thread of the device goes through.

So the table of pointers lives on the device alone. A captured loop moves on by itself, and each of its iterations is the same launches.
"""

from __future__ import annotations

from typing import NamedTuple

from nagraph.program.instructions import SetPointer, Swap

#: Kinds of rows.
SET, SWAP, ZERO, COUNT, RAISE = range(5)
#: Words of a row.
WIDTH = 6


class Row(NamedTuple):
    """One move.

    SET    table[target] = table[source] + offset + step * counters[counter]
    SWAP   table[target] and table[source] change places
    ZERO   counters[counter] = 0
    COUNT  counters[counter] += 1
    RAISE  the bool at table[target] becomes true
    """

    kind: int
    target: int = 0
    source: int = 0
    offset: int = 0
    step: int = 0
    counter: int = 0


def row_of(instruction: SetPointer | Swap) -> Row:
    """An instruction that moves pointers, as a row."""
    match instruction:
        case Swap(a=a, b=b):
            return Row(SWAP, a, b)
        case SetPointer(target=target, source=source, offset=offset, loop=-1):
            return Row(SET, target, source, offset)
        case SetPointer(target, source, offset, step, loop, length, reverse):
            return Row(SET, target, source, offset + step * (length - 1) * reverse, -step if reverse else step, loop)
    raise AssertionError(instruction)


class Helper(NamedTuple):
    """A function of GPU text that no kernel becomes, run by one thread."""

    name: str
    text: str
    grid: tuple[int, int, int] = (1, 1, 1)
    block: tuple[int, int, int] = (1, 1, 1)
    shared_nbytes: int = 0
    scratch_nbytes: int = 0


#: Goes through `count` rows from `first` on. `rows` and `counters` are the slots of these arrays in the table.
MOVES = """
extern "C" __global__ void nagraph_moves(void* const* table, int rows, int counters, int first, int count) {
  const long long* row = (const long long*)table[rows] + 6 * (long long)first;
  long long* counter = (long long*)table[counters];
  char** pointers = (char**)table;
  for (int i = 0; i < count; ++i, row += 6) {
    long long target = row[1], source = row[2];
    if (row[0] == 0) {
      pointers[target] = pointers[source] + row[3] + row[4] * counter[row[5]];
    } else if (row[0] == 1) {
      char* held = pointers[target];
      pointers[target] = pointers[source];
      pointers[source] = held;
    } else if (row[0] == 2) {
      counter[row[5]] = 0;
    } else if (row[0] == 3) {
      counter[row[5]] += 1;
    } else {
      *(bool*)pointers[target] = true;
    }
  }
}
"""
#: Copies the bool behind a pointer to where the host fetches it.
FLAG = """
extern "C" __global__ void nagraph_flag(void* const* table, int slot, int flag) {
  *(bool*)table[flag] = *(const bool*)table[slot];
}
"""
HELPERS = Helper("nagraph_moves", MOVES), Helper("nagraph_flag", FLAG)
