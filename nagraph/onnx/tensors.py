"""Tensors of a model: its TensorProtos as read-only arrays, mapped where the file allows it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nagraph.errors import OnnxError
from nagraph.ir.types import DTYPES, MAX_RANK, DType, TensorType
from nagraph.onnx.dtypes import Format, carrier, element_type, unpacked
from nagraph.onnx.external import ExternalFiles
from nagraph.onnx.wire import reference

#: The typed field of each element type, and the dtype of its numbers; 16-bit floats and what is smaller stand there as bits.
_FIELDS: dict[int, str] = {1: "float_data", 11: "double_data", 7: "int64_data", 12: "uint64_data", 13: "uint64_data"}


class Tensors:
    """The tensors of one file: `array(proto)` and what it is made of."""

    def __init__(self, file: np.ndarray, external: ExternalFiles):
        self._file, self._external = file, external

    def type(self, proto: Any) -> tuple[DType | Format, tuple[int, ...]]:
        """The element type and the shape that a tensor claims. OnnxError for what no array can have."""
        kind = element_type(proto.data_type)
        if len(proto.dims) > MAX_RANK:
            raise OnnxError(f"it has {len(proto.dims):,} axes; an array has {MAX_RANK} at most")
        shape = tuple(proto.dims)
        if any(n < 0 for n in shape) or not TensorType(carrier(kind), shape).possible:
            raise OnnxError(f"its shape is {list(shape)}, which no array has")
        return kind, shape

    def array(self, proto: Any) -> np.ndarray:
        """The numbers, read-only, in the dtype or the carrier of its element type.

        Its size is held against what is there before memory is taken.
        """
        kind, shape = self.type(proto)
        count = math.prod(shape)
        if proto.HasField("segment"):
            raise OnnxError("it is a segment of a larger tensor, which no version of ONNX has ever defined")
        if proto.data_location == 1:
            entries = {e.key: e.value for e in proto.external_data}
            return self._of_bytes(self._external.bytes_of(entries, _nbytes(kind, count)), kind, shape)
        if proto.HasField("raw_data"):
            offset, length = reference(proto.raw_data)
            if length != _nbytes(kind, count):
                raise OnnxError(f"it has {length:,} bytes, by its type and shape it should have {_nbytes(kind, count):,}")
            return self._of_bytes(self._file[offset:offset + length], kind, shape)
        return _settled(self._of_numbers(proto, kind, count)).reshape(shape)

    @staticmethod
    def _of_bytes(data: np.ndarray, kind: DType | Format, shape: tuple[int, ...]) -> np.ndarray:
        if isinstance(kind, Format):
            return _settled(unpacked(data, kind, math.prod(shape))).reshape(shape)
        if kind == DTYPES["bool"]:
            return _settled(data != 0).reshape(shape)
        found = data.view(kind.newbyteorder("<") if kind.kind != "V" else kind).reshape(shape)
        return found if found.flags.aligned and found.dtype.isnative else _settled(found.astype(kind))

    @staticmethod
    def _of_numbers(proto: Any, kind: DType | Format, count: int) -> np.ndarray:
        """From the typed fields: a number for each element, or a byte for as many as have room in it."""
        field = _FIELDS.get(proto.data_type, "int32_data")
        numbers = getattr(proto, field)
        expected = -(-count * kind.bits // 8) if isinstance(kind, Format) else count
        if len(numbers) != expected:
            raise OnnxError(f"it has {len(numbers):,} numbers in {field}, by its type and shape it should have {expected:,}")
        dtype = {"float_data": np.float32, "double_data": np.float64, "int64_data": np.int64, "uint64_data": np.uint64}.get(field, np.int32)
        found = np.fromiter(numbers, dtype, expected)
        if isinstance(kind, Format):
            return unpacked(found.astype(np.uint8), kind, count)
        if kind in (DTYPES["f16"], DTYPES["bf16"]):
            return found.astype(np.uint16).view(kind)
        return found.astype(kind, copy=False)


def _nbytes(kind: DType | Format, count: int) -> int:
    return -(-count * kind.bits // 8) if isinstance(kind, Format) else count * kind.itemsize


def _settled(array: np.ndarray) -> np.ndarray:
    """The array, to which nobody writes from now on."""
    array.flags.writeable = False
    return array
