"""The wire format of a model's file: its skeleton, in which the bytes of each tensor are a reference into the file.

protobuf would copy the bytes of weights when it reads them, and once more when they are asked for. So they are taken out before: what
protobuf gets is the file with 16 bytes in place of each `raw_data`, which say where in the file the bytes are. What nobody reads,
such as shapes that the exporter inferred, is left out, and what takes much more memory than file is counted.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

from nagraph.errors import OnnxError

#: Messages within one another; a loop in a loop takes four levels.
MOST_NESTED = 64
#: Messages (nodes, attributes, names of sizes): protobuf takes some 200 bytes of memory for each.
MOST_MESSAGES = 300_000
#: Names and other texts, some 40 bytes each.
MOST_NAMES = 1_000_000
#: Bytes of repeated integers, each of which may become eight times as long, and as much again where it is used.
MOST_INTEGERS_NBYTES = 2 << 20
#: Bytes of all that is not in `raw_data`.
MOST_SKELETON_NBYTES = 64 << 20

#: Fields that are not read.
_DROPPED = {
    "GraphProto": ("doc_string", "value_info", "quantization_annotation", "metadata_props"),
    "ModelProto": ("doc_string", "metadata_props", "training_info", "configuration"),
    "NodeProto": ("doc_string", "metadata_props", "device_configurations"),
    "FunctionProto": ("doc_string", "value_info", "metadata_props"),
    "TensorProto": ("doc_string", "metadata_props"),
    "AttributeProto": ("doc_string",),
    "ValueInfoProto": ("doc_string", "metadata_props"),
}
_REFERENCE = struct.Struct("<QQ")
_DROP, _RAW, _INTEGERS, _TEXT, _BYTES = "drop", "raw", "integers", "text", "bytes"


def skeleton(data: memoryview) -> bytes:
    """The file without the bytes of its tensors. OnnxError if it is no protobuf message, or beyond a limit."""
    import onnx

    return _Skeleton(data).message(0, len(data), _plan(onnx.ModelProto.DESCRIPTOR), 0)


def reference(raw: bytes) -> tuple[int, int]:
    """The offset and the length of a tensor's bytes in the file, by what the skeleton has in their place."""
    offset, length = _REFERENCE.unpack(raw)
    return offset, length


class _Skeleton:
    """The walk over a file."""

    def __init__(self, data: memoryview):
        self.data, self.messages, self.names, self.integers, self.nbytes = data, 0, 0, 0, 0

    def message(self, at: int, end: int, plan: dict[int, Any], depth: int) -> bytes:
        """The skeleton of the message in [at, end)."""
        self.messages += 1
        if depth > MOST_NESTED:
            raise OnnxError(f"messages are nested more than {MOST_NESTED} deep")
        if self.messages > MOST_MESSAGES:
            raise OnnxError(f"it holds more than {MOST_MESSAGES:,} nodes, attributes and other messages")
        parts: list[bytes] = []
        kept = at  # from here on the file is taken over as it is
        while at < end:
            begin = at
            tag, at = self._varint(at, end)
            what, wire = plan.get(tag >> 3), tag & 7
            if wire == 2:
                length, at = self._varint(at, end)
                body, at = at, at + length
            elif wire == 0:
                body = at
                _, at = self._varint(at, end)
            elif wire in (1, 5):
                body, at = at, at + (8 if wire == 1 else 4)
            else:
                raise OnnxError(f"byte {begin} of it begins a field of kind {wire}, which protobuf files of today do not have")
            if at > end:
                raise OnnxError(f"it is cut off: the field at byte {begin} ends {at - end} bytes after what it is part of")
            if what is _INTEGERS:
                self.integers += at - body
                if self.integers > MOST_INTEGERS_NBYTES:
                    raise OnnxError(f"it holds more than {MOST_INTEGERS_NBYTES >> 20} MB of integers outside of raw_data; "
                                    "write such tensors with onnx.numpy_helper.from_array")
            if what in (_TEXT, _BYTES) and wire == 2:
                self._name(body, at, what)
            if what in (None, _INTEGERS, _TEXT, _BYTES) or wire != 2 and what is not _DROP:
                continue
            parts.append(self._copied(kept, begin))
            kept = at
            if what is _RAW:
                parts.append(_field(tag, _REFERENCE.pack(body, at - body)))
            elif what is not _DROP:
                parts.append(_field(tag, self.message(body, at, _plan(what), depth + 1)))
        parts.append(self._copied(kept, end))
        return b"".join(parts)

    def _name(self, begin: int, end: int, what: str) -> None:
        self.names += 1
        if self.names > MOST_NAMES:
            raise OnnxError(f"it holds more than {MOST_NAMES:,} names")
        try:
            if what is _TEXT:
                str(self.data[begin:end], "utf-8")
        except UnicodeDecodeError as error:
            raise OnnxError(f"byte {begin + error.start} of it is in a name, and no UTF-8 text") from None

    def _copied(self, begin: int, end: int) -> bytes:
        self.nbytes += end - begin
        if self.nbytes > MOST_SKELETON_NBYTES:
            raise OnnxError(f"it holds more than {MOST_SKELETON_NBYTES >> 20} MB outside of raw_data; "
                            "write its tensors with onnx.numpy_helper.from_array")
        return bytes(self.data[begin:end])

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (1 << 64) - 1, at
            shift += 7
        raise OnnxError(f"it is damaged, or no ONNX model: there is no number at byte {at}")


def _field(tag: int, body: bytes) -> bytes:
    return _written(tag) + _written(len(body)) + body


def _written(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


@functools.cache
def _plan(descriptor: Any) -> dict[int, Any]:
    """What is done about each field of a message, by number: dropped, referred to, counted, or the message that it is."""
    found: dict[int, Any] = {}
    for field in descriptor.fields:
        if field.name in _DROPPED.get(descriptor.name, ()):
            found[field.number] = _DROP
        elif descriptor.name == "TensorProto" and field.name == "raw_data":
            found[field.number] = _RAW
        elif field.message_type is not None:
            found[field.number] = field.message_type
        elif field.type == field.TYPE_STRING:
            found[field.number] = _TEXT
        elif field.type == field.TYPE_BYTES:
            found[field.number] = _BYTES
        elif field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_UINT64) and _repeated(field):
            found[field.number] = _INTEGERS
    return found


def _repeated(field: Any) -> bool:
    repeated = getattr(field, "is_repeated", None)
    return bool(repeated) if repeated is not None else bool(field.label == field.LABEL_REPEATED)
