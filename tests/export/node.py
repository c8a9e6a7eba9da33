"""Programs for WebAssembly, run in Node: arrays go to it and come back as files."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nagraph.ir.types import DTYPES
from tests.tools import tool

#: With it Node 20 has the multiply-adds that browsers have; later ones have them anyway.
RELAXED = "--experimental-wasm-relaxed-simd"

#: Runs calls[i] = {input: [dtype's class, start, length in bytes]} and appends what comes out to a file.
_RUN = """
import { readFileSync, writeFileSync } from "node:fs";
const [folder, work, fused] = process.argv.slice(2);
const { load } = await import(`${folder}/nagraph.js`);
const { calls, state } = JSON.parse(readFileSync(`${work}/calls.json`));
const data = readFileSync(`${work}/data`);
const program = await load(`${folder}/program.wasm`, { fused: fused === "true" });
const parts = [], rows = [];
for (const call of calls) {
  const given = {};
  for (const [name, [kind, start, nbytes]] of Object.entries(call)) {
    const Kind = globalThis[kind], bytes = data.subarray(start, start + nbytes);
    given[name] = new Kind(new Uint8Array(bytes).buffer);
  }
  const found = program.run(given);
  for (const name of state) found[name] = program.get(name);
  const row = {};
  for (const [name, array] of Object.entries(found)) {
    row[name] = array.byteLength;
    parts.push(new Uint8Array(array.buffer));
  }
  rows.push(row);
}
writeFileSync(`${work}/results`, Buffer.concat(parts));
console.log(JSON.stringify({ rows, outputs: program.outputs, fused: program.fused }));
"""
_CLASSES = {"bool": "Uint8Array", "f16": "Uint16Array", "bf16": "Uint16Array", "i64": "BigInt64Array", "u64": "BigUint64Array",
            "f32": "Float32Array", "f64": "Float64Array"}


def node(*arguments: str, relaxed: bool = False, check: bool = True) -> str:
    """What Node prints."""
    command = [tool("node"), *([RELAXED] if relaxed else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert not check or not done.returncode, done.stderr[-2000:]
    return done.stdout


def called(folder: pathlib.Path, calls: Sequence[Mapping[str, np.ndarray[Any, Any]]], state: Sequence[str] = (), *, fused: bool = False,
           relaxed: bool = False) -> list[dict[str, np.ndarray[Any, Any]]]:
    """The results of calls, one after another, of the program in a folder; of the outputs of its state those that are named."""
    work = folder.with_name(f"{folder.name}.calls")
    work.mkdir(exist_ok=True)
    rows, parts, at = [], [], 0
    for call in calls:
        row = {}
        for name, array in call.items():
            short = next(s for s, d in DTYPES.items() if d == array.dtype)
            kind = _CLASSES.get(short) or f"{'Uint' if short[0] == 'u' else 'Int'}{short[1:]}Array"
            row[name] = [kind, at, array.nbytes]
            parts.append(np.ascontiguousarray(array).tobytes())
            at += array.nbytes
        rows.append(row)
    (work / "calls.json").write_text(json.dumps({"calls": rows, "state": list(state)}))
    (work / "data").write_bytes(b"".join(parts))
    (work / "run.mjs").write_text(_RUN)
    said = json.loads(node(str(work / "run.mjs"), str(folder), str(work), str(fused).lower(), relaxed=relaxed))
    assert said["fused"] is (fused and relaxed)
    data, at, found = (work / "results").read_bytes(), 0, []
    for row in said["rows"]:
        one = {}
        for name, nbytes in row.items():
            about = said["outputs"][name]
            one[name] = np.frombuffer(data[at:at + nbytes], DTYPES[about["dtype"]]).reshape(about["shape"])
            at += nbytes
        found.append(one)
    return found


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays have the same type and bits, of all but nan."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind in "iub":
        return bool((a == b).all())
    wide = np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64))
    kind = np.dtype(f"u{a.dtype.itemsize}")
    return bool(((np.ascontiguousarray(a).view(kind) == np.ascontiguousarray(b).view(kind)) | wide).all())
