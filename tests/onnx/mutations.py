"""python -m tests.onnx.mutations [COUNT]: models that are damaged at random, each of which must be read or refused in one sentence.

A worker process reads them with little memory beyond what it has: twice the file and 64 MB. What ends the process, raises anything but
an `OnnxError`, or says more than a sentence is told, with the seed that makes it again: `python -m tests.onnx.mutations --seed 17`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import onnx

import nagraph as ng
from nagraph.errors import NagraphError, OnnxError
from nagraph.ir.interpret import interpret
from nagraph.ir.nested import nested_graphs
from tests.damaging import Damage, damaged_bytes, main
from tests.onnx.models import MODELS, written

#: Numbers that sizes, axes and counts become.
_INTEGERS = (0, 1, -1, 2, 3, -2, 7, 64, 1 << 16, 1 << 31, -(1 << 31), 1 << 40, (1 << 63) - 1, -(1 << 63))
#: Bytes of values up to which a graph that was read is also run.
MOST_RUN_NBYTES = 1 << 22


def mutated(seed: int) -> tuple[str, bytes]:
    """What was damaged, and the file."""
    rng = random.Random(seed)
    name = rng.choice(sorted(MODELS))
    data = written(name)
    if rng.random() < 0.4:
        return f"{name}, bytes", damaged_bytes(rng, data)
    proto = onnx.ModelProto.FromString(data)
    done = [_field(rng, proto) for _ in range(rng.choice((1, 1, 2, 4)))]
    return f"{name}, {'; '.join(done)}", proto.SerializeToString()


def _field(rng: random.Random, proto: Any) -> str:
    """Change one field of one message somewhere in a model."""
    messages = [m for m in _messages(proto) if m.ListFields()]
    message = rng.choice(messages)
    field, value = rng.choice(message.ListFields())
    repeated = isinstance(value, (list, tuple)) or hasattr(value, "append") or hasattr(value, "add")
    where = f"{message.DESCRIPTOR.name}.{field.name}"
    if repeated and len(value) and rng.random() < 0.4:
        i = rng.randrange(len(value))
        if rng.random() < 0.5:
            del value[i]
            return f"{where}[{i}] goes"
        value.append(value[i])
        return f"{where}[{i}] twice"
    if field.message_type is not None:
        message.ClearField(field.name)
        return f"{where} goes"
    made = _other(rng, field, proto)
    if repeated:
        if len(value):
            value[rng.randrange(len(value))] = made
        return f"{where}[] is {made!r:.20}"
    try:
        setattr(message, field.name, made)
    except ValueError:  # an enumeration has no such number
        message.ClearField(field.name)
    return f"{where} is {made!r:.20}"


def _other(rng: random.Random, field: Any, proto: Any) -> Any:
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e30, float("inf"), float("nan"), 0.5))
    if field.cpp_type == field.CPPTYPE_STRING:
        names = [n for m in _messages(proto) if m.DESCRIPTOR.name == "NodeProto" for n in (*m.input, *m.output, m.op_type)]
        text = rng.choice((*names, "", "x" * 300, "../secret", "NonZero", "Resize", "Tile", "Expand", "Loop", "\x00", "ü"))
        return text.encode() if field.type == field.TYPE_BYTES else text
    limits = {field.CPPTYPE_INT32: 31, field.CPPTYPE_ENUM: 31}.get(field.cpp_type)
    unsigned = field.cpp_type in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64)
    fitting = [n for n in _INTEGERS if (limits is None or -(1 << limits) <= n < 1 << limits) and (not unsigned or n >= 0)]
    return rng.choice((*fitting, *range(30))) if rng.random() < 0.7 else rng.choice(fitting)


def _messages(message: Any) -> list[Any]:
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if hasattr(value, "add") or isinstance(value, (list, tuple)) else (value,):
                found += _messages(inner)
    return found


def read(data: bytes, folder: Path) -> tuple[str, str]:
    """What becomes of a file: "read" or "refused" with the sentence, or "fault" with what is wrong."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    try:
        graph = ng.from_onnx(path, types={"x": ng.spec((2, 6, 8))} if b"wanted" in data else {},
                             sizes={"batch": 2} if b"batch" in data else {})
        small = sum(r.type.nbytes for g in nested_graphs(graph) for n in g.nodes for r in n.results) <= MOST_RUN_NBYTES
        if small and not any("while" in n.op.name for g in nested_graphs(graph) for n in g.nodes):
            from nagraph.cli.targets import random_arrays

            interpret(graph, random_arrays([v.type for v in graph.inputs]))
        return "read", ""
    except OnnxError as error:
        text = str(error)
        return ("refused", text) if "\n" not in text and len(text) < 1500 else ("fault", f"more than a sentence: {text!r}")
    except NagraphError as error:  # of running it, such as a label that is no class
        return "read", str(error)
    except BaseException as error:  # noqa: BLE001 - whatever else is raised is the finding
        return "fault", f"{type(error).__name__}: {error}"


def _whole() -> list[bytes]:
    return [written(name) for name in MODELS]


DAMAGE = Damage(_whole, mutated, read)


if __name__ == "__main__":
    sys.exit(main("tests.onnx.mutations", __doc__, DAMAGE))
