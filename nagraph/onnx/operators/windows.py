"""Windows of convolutions and poolings: where they lie, by strides, dilations and pads in ONNX's form."""

from __future__ import annotations

from typing import Any, NamedTuple

from nagraph.errors import OnnxError
from nagraph.ops.convolution import spread

Pairs = tuple[tuple[int, int], ...]


class Windows(NamedTuple):
    """Windows over the spatial axes: one entry for each axis."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    #: The padding that the windows reach into, which may be more than what is asked for (`asked`) where sizes are rounded up.
    padding: Pairs
    asked: Pairs

    def counts(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """How many windows there are along each axis."""
        return tuple((n + low + high - spread(k, d)) // s + 1
                     for n, k, s, d, (low, high) in zip(spatial, self.sizes, self.strides, self.dilations, self.padding))


def windows(spatial: tuple[int, ...], sizes: Any, strides: Any, dilations: Any, pads: Any, auto_pad: str,
            ceil_mode: bool = False) -> Windows:
    """The windows that attributes name; those that are None have ONNX's usual values. OnnxError for what makes no sense."""
    d = len(spatial)
    sizes, strides, dilations = (per_axis(n, v, d) for n, v in (("kernel_shape", sizes), ("strides", strides), ("dilations", dilations)))
    reach = tuple(map(spread, sizes, dilations))
    if auto_pad == "NOTSET":
        numbers = per_axis("pads", pads, 2 * d, 0)
        asked = tuple(zip(numbers[:d], numbers[d:]))
    elif auto_pad == "VALID":
        asked = ((0, 0),) * d
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(spatial, strides, reach)]
        asked = tuple(halves(t, auto_pad == "SAME_UPPER") for t in totals)
    else:
        raise OnnxError(f"auto_pad is NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {auto_pad!r}")
    padding = []
    for n, k, s, (low, high) in zip(spatial, reach, strides, asked):
        if n + low + high < k:
            raise OnnxError(f"a window of {k} elements does not fit an axis of {n} with padding {low} and {high}")
        if ceil_mode:
            count = -(-(n + low + high - k) // s) + 1
            count -= (count - 1) * s >= n + low  # the last one must begin before the upper padding
            high = max(high, (count - 1) * s + k - n - low) if count > (n + low + high - k) // s + 1 else high
        padding.append((low, high))
    return Windows(sizes, strides, dilations, tuple(padding), asked)


def halves(total: int, upper: bool) -> tuple[int, int]:
    """A padding in two halves, the odd element at the upper end, or at the lower one."""
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)


def per_axis(name: str, numbers: Any, count: int, least: int = 1) -> tuple[int, ...]:
    """The numbers of an attribute, `least` each if there are none."""
    found = (least,) * count if numbers is None else tuple(int(n) for n in numbers)
    if len(found) != count or min(found, default=least) < least or max(found, default=0) >= 1 << 31:
        raise OnnxError(f"{name} is {list(found)}, but must hold {count} numbers of at least {least}")
    return found


def spatial_of(x: Any) -> tuple[int, ...]:
    """The sizes after batch and channels."""
    if len(x.shape) < 3:
        raise OnnxError(f"its operand has {len(x.shape)} axes, but must be [batch, channels, ...]")
    return tuple(x.shape[2:])
