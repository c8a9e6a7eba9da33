"""Branches and loops: the regions of If, Loop and Scan as those of cond, scan and while_loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import NagraphError, OnnxError
from nagraph.onnx.operators.shapes import possible
from nagraph.onnx.registry import Ints, Region, checked_axis, operator
from nagraph.ops.movement import iota
from nagraph.transforms.flow import cond as branch
from nagraph.transforms.flow import scan as scanned
from nagraph.transforms.flow import while_loop

#: Iterations of a loop that can only be written out.
MOST_UNROLLED = 64


class _DependsOnData(Exception):
    """Whether a loop goes on is not known before it runs."""


@operator("If")
def if_(condition: Any, *, then_branch: Region, else_branch: Region, call: Any) -> Any:
    """The branch that is taken, where that is known; else both, of equal types."""
    known = call.known(condition)
    if known is not None:
        return call.region(then_branch if bool(known.reshape(-1)[0]) else else_branch)
    return branch(F.reshape(condition, ()), lambda: call.region(then_branch), lambda: call.region(else_branch))


@operator("Loop")
def loop(count: Any = None, condition: Any = None, *carries: Any, body: Region, call: Any) -> Any:
    """The carries after the last iteration, then what each iteration gives, stacked."""
    trips = None if count is None else call.known(count)
    going = np.asarray(True) if condition is None else call.known(condition)
    stacked = call.outputs_of(body) - 1 - len(carries)
    if stacked < 0:
        raise OnnxError(f"its body has {call.outputs_of(body)} outputs for a condition and {len(carries)} carries")
    if going is not None and not bool(going.reshape(-1)[0]):
        trips, going = np.asarray(0), np.asarray(True)
    try:
        if trips is not None and going is not None:
            return _counted(int(trips.reshape(-1)[0]), carries, body, stacked, call)
    except _DependsOnData:
        pass
    except NagraphError:
        if int(trips.reshape(-1)[0]) > MOST_UNROLLED:  # type: ignore[union-attr]
            raise
        return _written_out(int(trips.reshape(-1)[0]), carries, body, stacked, call)  # type: ignore[union-attr]
    if stacked:
        if trips is not None and int(trips.reshape(-1)[0]) <= MOST_UNROLLED:
            return _written_out(int(trips.reshape(-1)[0]), carries, body, stacked, call)
        raise call.needs_value("how often it runs, which says how long its stacked outputs are", count if trips is None else condition)
    return _while(count, condition, carries, body, call)


def _counted(trips: int, carries: tuple[Any, ...], body: Any, stacked: int, call: Any) -> Any:
    def step(state: Any, i: Any) -> Any:
        goes_on, *results = call.region(body, (i, np.asarray(True), *state))
        known = call.known(goes_on)
        if known is None or not bool(known.reshape(-1)[0]):
            raise _DependsOnData
        return tuple(results[:len(carries)]), tuple(results[len(carries):])

    trips = max(trips, 0)
    possible(np.int64, (trips,))
    last, ys = scanned(step, carries, iota("int64", (trips,), 0))
    return (*last, *ys)


def _while(count: Any, condition: Any, carries: tuple[Any, ...], body: Any, call: Any) -> Any:
    start = np.asarray(True) if condition is None else F.reshape(condition, ())

    def goes_on(state: Any) -> Any:
        return state[1] if count is None else F.logical_and(F.less(state[0], F.reshape(count, ())), state[1])

    def step(state: Any) -> Any:
        following, *results = call.region(body, (state[0], state[1], *state[2:]))
        return state[0] + 1, F.reshape(following, ()), *results

    return while_loop(goes_on, step, (np.asarray(0, np.int64), start, *carries))[2:]


def _written_out(trips: int, carries: tuple[Any, ...], body: Any, stacked: int, call: Any) -> Any:
    """Iteration after iteration, so that carries may change their shapes; whether it goes on must be known each time."""
    state, rows = carries, []
    for i in range(max(trips, 0)):
        goes_on, *results = call.region(body, (np.asarray(i, np.int64), np.asarray(True), *state))
        state, row = tuple(results[:len(carries)]), results[len(carries):]
        rows.append(row)
        known = call.known(goes_on)
        if known is None:
            raise call.needs_value("whether it goes on", goes_on)
        if not bool(known.reshape(-1)[0]):
            break
    if not rows and stacked:
        raise OnnxError("it runs not once, so nobody knows of what shape its stacked outputs would be")
    return (*state, *(F.stack([row[j] for row in rows]) for j in range(stacked)))


@operator("Scan")
def scan(*operands: Any, body: Region, num_scan_inputs: int, scan_input_axes: Ints | None = None, scan_input_directions: Ints | None = None,
         scan_output_axes: Ints | None = None, scan_output_directions: Ints | None = None, call: Any) -> Any:
    if not 0 < num_scan_inputs <= len(operands):
        raise OnnxError(f"num_scan_inputs is {num_scan_inputs} for {len(operands)} inputs")
    states, inputs = operands[:-num_scan_inputs], operands[-num_scan_inputs:]
    given = call.outputs_of(body) - len(states)
    axes, backwards = _numbers(scan_input_axes, len(inputs)), _numbers(scan_input_directions, len(inputs))
    out_axes, out_backwards = _numbers(scan_output_axes, given), _numbers(scan_output_directions, given)
    rows = []
    for x, axis, back in zip(inputs, axes, backwards):
        moved = F.moveaxis(x, checked_axis(axis, len(x.shape)), 0)
        rows.append(F.flip(moved, 0) if back else moved)

    def step(state: Any, row: Any) -> Any:
        results = call.region(body, (*state, *row))
        return tuple(results[:len(states)]), tuple(results[len(states):])

    last, ys = scanned(step, states, tuple(rows))
    found = [F.flip(y, 0) if back else y for y, back in zip(ys, out_backwards)]
    return (*last, *(F.moveaxis(y, 0, checked_axis(axis, len(y.shape))) for y, axis in zip(found, out_axes)))


def _numbers(given: Any, count: int) -> tuple[int, ...]:
    found = (0,) * max(count, 0) if given is None else tuple(given)
    if len(found) != count:
        raise OnnxError(f"axes or directions are {len(found)} for {count} values")
    return found
