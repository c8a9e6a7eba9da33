"""The example beside a module: a few lines that run it in Node, with the names that its user has."""

from __future__ import annotations

from nagraph.export.machine_code import Exported
from nagraph.ir.types import SHORT_NAMES

#: The classes of the loader's typed arrays.
ARRAYS = {"bool": "Uint8Array", "i8": "Int8Array", "i16": "Int16Array", "i32": "Int32Array", "i64": "BigInt64Array",
          "u8": "Uint8Array", "u16": "Uint16Array", "u32": "Uint32Array", "u64": "BigUint64Array",
          "f16": "Uint16Array", "bf16": "Uint16Array", "f32": "Float32Array", "f64": "Float64Array"}


def example(exported: Exported) -> str:
    """The text of `example.js`: a call with zeros, whose results are printed."""
    subject = exported.subject
    state = {subject.inputs[i] for i in exported.donations.values()}
    given = [(name, v) for name, v in zip(subject.inputs, exported.graph.inputs) if name not in subject.weights and name not in state]
    rows = [f"  {_key(name)}: new {ARRAYS[SHORT_NAMES[v.dtype]]}({v.type.size}), // {v.type}" for name, v in given]
    return "\n".join([
        '// A call with zeros. Run it with "node example.js"; in a page the same lines stand in a <script type="module">.',
        'import { load } from "./nagraph.js";', "",
        'const program = await load(new URL("program.wasm", import.meta.url));',
        "const results = program.run({", *rows, "});",
        "for (const [name, array] of Object.entries(results)) console.log(name, program.outputs[name].shape, array);", ""])


def _key(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else f'"{name}"'
