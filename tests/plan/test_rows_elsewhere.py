"""Kernels whose stages read what an earlier one made at other places: backwards, shifted, strided, turned.

Stages of one kernel may go through rows block by block, or many points of the grid at once, only where all that a block reads is
its own. Each program makes a value that costs something and reads it at two places; every decision is forced in turn.
"""

import numpy as np
import pytest

import nagraph as ng
from nagraph import choices
from nagraph.choices import DECISIONS
from nagraph.nn import functional as F

MADE = {
    "product": lambda x, w: x @ w,
    "activated product": lambda x, w: np.tanh(x @ w) + 1,
    "product of own factors": lambda x, w: x @ np.swapaxes(x, -1, -2),
    "softmax": lambda x, w: F.softmax(x @ w),
    "running sum": lambda x, w: np.cumsum(x @ w, -2),
    "sum": lambda x, w: np.sum(x @ w, -1, keepdims=True) + x @ w,
}
READ = {
    "as it is": lambda t: t,
    "backwards": lambda t: np.flip(t, -2),
    "all backwards": lambda t: np.flip(t, (-2, -1)),
    "columns backwards": lambda t: t[..., ::-1],
    "shifted": lambda t: np.roll(t, 1, -2),
    "padded": lambda t: np.pad(t[:, 1:], ((0, 0), (0, 1), (0, 0))),
    "its first row": lambda t: t[:, :1],
    "every other row": lambda t: np.repeat(t[:, ::2], 2, 1)[:, :t.shape[1]],
    "turned": lambda t: np.swapaxes(t, -1, -2),
    "its square": lambda t: t @ np.swapaxes(t, -1, -2),
    "summed rows": lambda t: np.sum(t, -2, keepdims=True),
    "batches exchanged": lambda t: t[::-1],
}
MODES = [f"force={d}" for d in DECISIONS] + [f"chaos={s}" for s in range(8)]


@pytest.mark.parametrize("made", MADE)
def test_what_is_read_elsewhere(made):
    """Beside the value itself; in blocks, and by one other mode after another."""
    rng = np.random.default_rng(0)
    for n, (read, at) in enumerate(READ.items()):
        rows = int(rng.choice([2, 33, 66]))
        x, w = rng.normal(size=(2, rows, 5)).astype("f"), rng.normal(size=(5, rows)).astype("f")

        def fn(x, w, at=at):
            t = MADE[made](x, w)
            return at(t) + t

        wide = fn(x.astype(float), w.astype(float))
        for mode in ("force=row_blocks", MODES[(len(READ) * [*MADE].index(made) + n) % len(MODES)]):
            with choices.using(mode):
                found = ng.jit(fn)(x, w)
            np.testing.assert_allclose(found, wide, rtol=0, atol=1e-5 * np.abs(wide).max(), err_msg=f"{read}, {rows} rows, {mode}")


def test_blocks_do_not_read_one_another_by_default():
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(2, 1024, 4)).astype("f"), rng.normal(size=(4, 128)).astype("f")
    wide = x.astype(float) @ w
    np.testing.assert_allclose(ng.jit(lambda x, w: x @ w + np.flip(x @ w, 1))(x, w), wide + wide[:, ::-1], rtol=0, atol=1e-4)
