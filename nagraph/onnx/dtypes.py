"""Element types of ONNX: which dtype of a graph each is, and which small formats a graph carries in a wider dtype."""

from __future__ import annotations

from typing import NamedTuple

import ml_dtypes
import numpy as np

from nagraph.errors import OnnxError
from nagraph.ir.types import DTYPES, SHORT_NAMES, DType

#: TensorProto.DataType by number, for the dtypes that graphs have.
DTYPE_OF: dict[int, DType] = {
    1: DTYPES["f32"], 2: DTYPES["u8"], 3: DTYPES["i8"], 4: DTYPES["u16"], 5: DTYPES["i16"], 6: DTYPES["i32"], 7: DTYPES["i64"],
    9: DTYPES["bool"], 10: DTYPES["f16"], 11: DTYPES["f64"], 12: DTYPES["u32"], 13: DTYPES["u64"], 16: DTYPES["bf16"],
}
NUMBER_OF: dict[DType, int] = {dtype: number for number, dtype in DTYPE_OF.items()}


class Format(NamedTuple):
    """A format is an element type that graphs do not have; they carry its numbers, all of them exact, in a wider dtype."""

    name: str
    #: The dtype of one element, as ml_dtypes has it.
    element: np.dtype
    #: The dtype in which a graph carries it.
    carrier: DType
    #: Bits of an element in a file; below 8 the first element has the lowest ones of a byte.
    bits: int

    @property
    def is_float(self) -> bool:
        return self.carrier.kind not in "iu"

    def __str__(self) -> str:
        return self.name


#: TensorProto.DataType by number, for the formats.
FORMAT_OF: dict[int, Format] = {
    17: Format("float8e4m3fn", np.dtype(ml_dtypes.float8_e4m3fn), DTYPES["f16"], 8),
    18: Format("float8e4m3fnuz", np.dtype(ml_dtypes.float8_e4m3fnuz), DTYPES["f16"], 8),
    19: Format("float8e5m2", np.dtype(ml_dtypes.float8_e5m2), DTYPES["f16"], 8),
    20: Format("float8e5m2fnuz", np.dtype(ml_dtypes.float8_e5m2fnuz), DTYPES["f16"], 8),
    21: Format("uint4", np.dtype(ml_dtypes.uint4), DTYPES["u8"], 4),
    22: Format("int4", np.dtype(ml_dtypes.int4), DTYPES["i8"], 4),
    23: Format("float4e2m1", np.dtype(ml_dtypes.float4_e2m1fn), DTYPES["f16"], 4),
    24: Format("float8e8m0", np.dtype(ml_dtypes.float8_e8m0fnu), DTYPES["bf16"], 8),
    25: Format("uint2", np.dtype(ml_dtypes.uint2), DTYPES["u8"], 2),
    26: Format("int2", np.dtype(ml_dtypes.int2), DTYPES["i8"], 2),
}
#: What the other numbers are called.
_OTHERS = {0: "nothing at all", 8: "strings", 14: "complex64", 15: "complex128", 27: "float6e2m3", 28: "float6e3m2"}


def element_type(number: int) -> DType | Format:
    """The dtype or format of a TensorProto.DataType. OnnxError for what a graph can neither hold nor carry."""
    found = DTYPE_OF.get(number) or FORMAT_OF.get(number)
    if found is None:
        raise OnnxError(f"element type {number} ({_OTHERS.get(number, 'which ONNX does not define')}) is none that a graph can hold; "
                        f"it holds {', '.join(SHORT_NAMES.values())}, and carries {', '.join(f.name for f in FORMAT_OF.values())}")
    return found


def carrier(kind: DType | Format) -> DType:
    """The dtype in which a graph has an element type."""
    return kind.carrier if isinstance(kind, Format) else kind


def unpacked(data: np.ndarray, kind: Format, count: int) -> np.ndarray:
    """The first `count` numbers of a format, in its carrier, from the bytes of a file. data: uint8."""
    if kind.bits < 8:
        shifts = np.arange(0, 8, kind.bits, dtype=np.uint8)
        data = ((data[:, None] >> shifts) & np.uint8((1 << kind.bits) - 1)).reshape(-1)[:count]
    if not kind.is_float:  # two's complement of so many bits
        low = np.uint8(8 - kind.bits)
        signed = data << low
        return signed.view(np.int8) >> np.int8(low) if kind.carrier.kind == "i" else data
    return data.view(kind.element).astype(kind.carrier)
