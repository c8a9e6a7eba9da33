"""`ng.export.native`: what is written, and from what."""

from __future__ import annotations

import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nagraph.backends.llvm.ahead_of_time.entries import Entry, WeightsFile
from nagraph.backends.llvm.ahead_of_time.objects import NativeObject, native_object
from nagraph.backends.llvm.text.machines import Machine, machine
from nagraph.errors import ExportError
from nagraph.export.machine_code import Exported
from nagraph.export.to_native.examples import c_example, cpp_example, python_example
from nagraph.export.to_native.functions import Function, check_identifier
from nagraph.export.to_native.header import header
from nagraph.export.to_native.linking import archive, compiler, link, runs_here
from nagraph.files import atomic_folder
from nagraph.ir.types import TensorType
from nagraph.storage import safetensors_bytes

Array = np.ndarray[Any, Any]

#: Weights of more bytes than these are written to a file beside the library, unless something else is said.
EMBEDDED_NBYTES = 1 << 26
#: The most bytes of weights that code can address.
MOST_EMBEDDED_NBYTES = 1 << 30
#: The function of a library of one.
ONE = "run"


def native(what: Any, folder: str | pathlib.Path, args_or_specs: Any = None, *, target: str = "native", name: str | None = None,
           embed: bool | None = None, shared: bool | None = None, names: Mapping[str, str] | None = None) -> pathlib.Path:
    """Write a library of machine code with a C header, and say where: no Python, no dependency but the system's C library.

    what: a function, model, graph or executable, with its arguments or their specs (`Subject.of`): the library's function NAME_run; or a
    mapping from names of functions to pairs (what, args_or_specs): NAME_prefill, NAME_step. Executables of the LLVM backend are exported
    as they are, all else as that backend optimises it; results have the bits that they have there. Equal weights are kept once.

    The folder gets NAME.h, libNAME.a and NAME.o, examples in C, C++ and Python, NAME.pc for pkg-config; libNAME.so (.dylib) if
    `shared`, by default where the target's code is for this system and processor; and NAME.safetensors where weights are not embedded.

    target: "native" is this very CPU; "x86-64-v2", "x86-64-v3" (AVX2), "x86-64-v4" (AVX-512), "aarch64-linux", "arm64-macos".
    name: of the library, the folder's by default. embed: weights as part of the library; by default up to 64 MB of them.
    names: other names for inputs and outputs. Raises SignatureError, and ExportError, which lists ops that only Python computes.
    """
    path = pathlib.Path(folder)
    made_for = machine(target)
    if made_for.clock is None:
        raise ExportError(f"there are no native libraries for {target}; use ng.export.wasm")
    library = check_identifier(_identifier(path.absolute().name) if name is None else name, "the library's name")
    wanted = dict(what) if isinstance(what, Mapping) else {ONE: (what, args_or_specs)}
    if isinstance(what, Mapping) and (args_or_specs is not None or not all(isinstance(x, tuple) and len(x) == 2 for x in wanted.values())):
        raise ExportError("functions are given as {name: (what, args_or_specs), ...}, and args_or_specs of its own is left out")
    _check_names(library, wanted)
    found = {check_identifier(n, "the function's name"): Exported.of(*x, "native code", names) for n, x in wanted.items()}
    here = runs_here(made_for.triple, made_for.system)
    cc = compiler(made_for.triple, made_for.system) if shared or shared is None and here else None
    weights, entries = _weights(library, found)
    nbytes = sum(a.nbytes for a in weights.values())
    embed = nbytes <= EMBEDDED_NBYTES if embed is None else embed
    if embed and nbytes > MOST_EMBEDDED_NBYTES:
        raise ExportError(f"{nbytes:,} bytes of weights are too many to be part of a library, which may have {MOST_EMBEDDED_NBYTES:,}; "
                          "take embed=False")
    content = b"" if embed or not weights else _file(weights)
    file = WeightsFile.of(content) if content else None
    made = native_object(library, entries, made_for, weights if file is None else None, file)
    functions = [_function(library, n, x, file is not None) for n, x in found.items()]
    with atomic_folder(path, ExportError) as draft:
        _write(draft, library, made_for, made, functions, content, cc)
    return path


def _write(draft: pathlib.Path, library: str, made_for: Machine, made: NativeObject, functions: list[Function], content: bytes,
           cc: str | None) -> None:
    (draft / f"{library}.o").write_bytes(made.content)
    if made_for.system == "linux":
        (draft / f"lib{library}.a").write_bytes(archive(f"{library}.o", made.content, made.exports))
    shared = ""
    if cc is not None:
        shared = f"lib{library}.dylib" if made_for.system == "darwin" else f"lib{library}.so"
        link(cc, [draft / f"{library}.o"], draft / shared, made_for.system)
    if content:
        (draft / f"{library}.safetensors").write_bytes(content)
    symbols = ", ".join(f.symbol for f in functions)
    about = f"{library}: {symbols}; machine code for {made_for.name} ({made_for.triple}), written by nagraph."
    texts = {f"{library}.h": header(library, about, functions, len(content)), f"{library}.pc": _package(library, about, bool(shared)),
             "example.c": c_example(library, functions, bool(content)), "example.cpp": cpp_example(library, functions, bool(content))}
    if shared:
        texts["example.py"] = python_example(library, functions, bool(content), shared)
    for name, text in texts.items():
        (draft / name).write_text(text, encoding="utf-8")


def _weights(library: str, found: Mapping[str, Exported]) -> tuple[dict[str, Array], list[Entry]]:
    """The weights of all functions by names of their own, and the entry points. Weights of one name are one if they are equal."""
    weights: dict[str, Array] = {}
    entries = []
    for function, x in found.items():
        numbers = {}
        for i, label in enumerate(x.subject.inputs):
            if label in x.subject.weights:
                array = x.subject.weights[label]
                known = weights.get(label)
                own = label if known is None or _equal(known, array) else f"{function}.{label}"
                weights[own], numbers[i] = array, own
        entries.append(Entry(f"{library}_{function}", x.graph, x.donations, numbers))
    return weights, entries


def _equal(a: Array, b: Array) -> bool:
    return a is b or a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _function(library: str, name: str, x: Exported, file: bool) -> Function:
    subject = x.subject

    def types(labels: tuple[str, ...], values: Any) -> list[tuple[str, TensorType]]:
        return [(label, v.type) for label, v in zip(labels, values, strict=True) if label not in subject.weights]

    shared = {subject.outputs[j]: subject.inputs[i] for j, i in x.donations.items()}
    return Function.of(f"{library}_{name}", types(subject.inputs, x.graph.inputs), types(subject.outputs, x.graph.outputs), shared,
                       file and bool(subject.weights))


def _file(weights: Mapping[str, Array]) -> bytes:
    """The weights as a safetensors file."""
    return safetensors_bytes(weights, {"format": "nagraph native weights"})


def _check_names(library: str, functions: Iterable[str]) -> None:
    """ExportError if two things in the header would have one name, as the user's `pool_start` and ours."""
    ours = [f"{library}_{n}" for n in (
        "pool", "pool_nbytes", "pool_start", "pool_threads", "pool_stop", "weights", "weights_of", "message")]
    theirs = [f"{library}_{n}{end}" for n in functions for end in ("", "_inputs", "_outputs", "_workspace_nbytes")]
    twice = [name for name, count in Counter((*ours, *theirs)).items() if count > 1]
    if twice:
        raise ExportError(f"a library has two things called {twice[0]}; give your function another name")


def _package(library: str, about: str, shared: bool) -> str:
    """The text of LIBRARY.pc for pkg-config: the folder may be moved."""
    private = "-lm -lpthread"
    return f"""\
prefix=${{pcfiledir}}

Name: {library}
Description: {about}
Version: 1
Cflags: -I${{prefix}}
Libs: -L${{prefix}} {f"-Wl,-rpath,${{prefix}} -l{library}" if shared else f"-l{library} {private}"}
Libs.private: {private}
"""


def _identifier(name: str) -> str:
    """A name that C functions can begin with, made of the folder's."""
    found = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return f"lib_{found}" if found[:1].isdigit() else found or "library"
