"""python -m tests.export.mutations [COUNT]: program files that are damaged at random; each must be read or refused in one sentence.

Most have the checksums that belong to what they hold, so that what is damaged is met: values in the manifest, tokens in the graph's text,
bytes of safetensors files. A worker reads them with little memory beyond what it has: twice the file and 64 MB. What ends the process,
raises anything but a `ProgramError`, or says more than a sentence is told with its seed: `python -m tests.export.mutations --seed 17`.
"""

from __future__ import annotations

import functools
import io
import json
import random
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import NagraphError, ProgramError
from nagraph.export.container import write_container
from nagraph.export.program_file import CONSTANTS, MANIFEST, TEXT, WEIGHTS
from nagraph.ir.interpret import interpret
from nagraph.ir.nested import nested_graphs
from tests.damaging import Damage, damaged_bytes, main
from tests.export.programs import DATA
from tests.ir.test_text import mutate

#: What a value of the manifest becomes.
_VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 1 << 63, 10**400, 0.5, float("nan"), "", "*", "x", "class", "__class__", "\0", "../x", "x" * 5000, [], {},
    [[]], ["*"], [["a", "*"]], {"tuple": []}, {"dict": [["a", "*"]]}, {"record": "R", "fields": [], "static": [], "buffers": []},
    {"foreign": "f"}, {"tuple": [{"tuple": ["*", None]}]}, "simplify,dce", "fuse{max_nodes=1}", "simplify{x=((((1))))}")
#: What a field of a tensor's entry becomes.
_ENTRIES: tuple[Any, ...] = ("F32", "U8", "BOOL", "F64", "BF16", "X", None, [], [0], [1 << 62, 0], [2, 3], [0, 8], [0, 1 << 62], [-1, 4],
                             [True, 2], [6], [0, 24], [0, 48])
#: Bytes of values up to which a graph that was read is also run.
MOST_RUN_NBYTES = 1 << 22


@functools.cache
def whole() -> dict[str, bytes]:
    """The programs that are damaged, by name."""
    return {p.stem: p.read_bytes() for p in sorted(DATA.glob("*.ngx"))}


def contents(data: bytes) -> dict[str, bytes]:
    """The files in a program."""
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def rewritten(data: bytes, **changes: Callable[[bytes], bytes]) -> bytes:
    """A program with files changed: manifest, text, weights, constants."""
    names = {"manifest": MANIFEST, "text": TEXT, "weights": WEIGHTS, "constants": CONSTANTS}
    held = contents(data)
    held |= {names[k]: change(held[names[k]]) for k, change in changes.items()}
    return packed(held)


def packed(held: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    write_container(made, {name: [content] for name, content in held.items()})
    return made.getvalue()


def mutated(seed: int) -> tuple[str, bytes]:
    """What was damaged, and the file."""
    rng = random.Random(seed)
    name = rng.choice([n for n in whole() if n != "everything-1"] * 3 + list(whole()))
    data, kind = whole()[name], rng.choice(("bytes", "manifest", "manifest", "text", "text", "weights", "constants"))
    if kind == "bytes":
        return f"{name}, bytes", damaged_bytes(rng, data)
    change = {"manifest": _manifest, "text": lambda rng, b: mutate(b.decode(), rng).encode("utf-8", "replace")}.get(kind, _tensors)
    return f"{name}, {kind}", rewritten(data, **{kind: lambda b: change(rng, b)})


def _manifest(rng: random.Random, data: bytes) -> bytes:
    """Some values, or keys, changed."""
    found = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        holder, key = rng.choice(list(_places(found)))
        kind = rng.randrange(5)
        if kind == 0 and isinstance(holder, dict):
            holder[rng.choice(("x", "dict", "tuple", "record", "static", "", key + "x"))] = holder.pop(key)
        elif kind == 1:
            del holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder.insert(key, holder[key])
        else:
            holder[key] = rng.choice(_VALUES)
        if not list(_places(found)):
            break
    return json.dumps(found).encode()


def _places(found: Any) -> Any:
    for key in (list(found) if isinstance(found, dict) else range(len(found))):
        yield found, key
        if isinstance(found[key], (dict, list)):
            yield from _places(found[key])


def _tensors(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, or values of the header, whose length then fits."""
    if rng.random() < 0.5:
        return damaged_bytes(rng, data)
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8:8 + length])
    for name, entry in found.items():
        if rng.random() < 0.7:
            key = rng.choice(("dtype", "shape", "data_offsets"))
            entry[key] = rng.choice(_ENTRIES)
        elif rng.random() < 0.3:
            found[rng.choice(("x", "w", "__metadata__"))] = found.pop(name)
            break
    text = json.dumps(found).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length:]


def read(data: bytes, folder: Path) -> tuple[str, str]:
    """What becomes of a file: "read" or "refused" with the sentence, or "fault" with what is wrong."""
    path = folder / "program.ngx"
    path.write_bytes(data)
    try:
        loaded = ng.load_program(path, backend="numpy")
        repr(loaded), loaded.arguments
    except ProgramError as error:
        text = str(error)
        fitting = text.startswith(f"{path}: ") and "\n" not in text and len(text) < 1000 and text.isprintable()
        return ("refused", text) if fitting else ("fault", f"more than a sentence: {text!r}")
    except BaseException as error:  # noqa: BLE001 - whatever else is raised is the finding
        return "fault", f"{type(error).__name__}: {error}"
    return _run(loaded)


def _run(loaded: Any) -> tuple[str, str]:
    graphs = list(nested_graphs(loaded.graph))
    small = sum(r.type.nbytes for g in graphs for n in g.nodes for r in n.results) <= MOST_RUN_NBYTES if not any(
        r.type.symbolic for g in graphs for n in g.nodes for r in n.results) else False
    if small and not any(n.op.name in ("while_loop", "debug_print") for g in graphs for n in g.nodes):
        try:
            arrays = [np.zeros(v.shape, v.dtype) if n not in loaded.weights else loaded.weights[n]
                      for n, v in zip(loaded.inputs, loaded.graph.inputs)]
            with np.errstate(all="ignore"):
                interpret(loaded.graph, arrays)
        except NagraphError as error:  # of running it, such as a label that is no class
            return "read", str(error)
        except BaseException as error:  # noqa: BLE001
            return "fault", f"running: {type(error).__name__}: {error}"
    return "read", ""


def _whole() -> list[bytes]:
    return list(whole().values())


DAMAGE = Damage(_whole, mutated, read)


if __name__ == "__main__":
    sys.exit(main("tests.export.mutations", __doc__, DAMAGE))
