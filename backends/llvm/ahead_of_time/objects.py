"""Objects: entry points, kernels, runtime and data, compiled together for a machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np

from nagraph.backends.llvm.ahead_of_time import multiply_add
from nagraph.backends.llvm.ahead_of_time.entries import Data, Entry, EntryPoint, WeightsFile, weights_text
from nagraph.backends.llvm.ahead_of_time.kernels import KernelTexts
from nagraph.backends.llvm.native.machine_code import only_one
from nagraph.backends.llvm.runtime.records import EXPORTED
from nagraph.backends.llvm.runtime.standalone import standalone_text
from nagraph.backends.llvm.text.machines import Machine
from nagraph.errors import SignatureError

Array = np.ndarray[Any, Any]


class NativeObject(NamedTuple):
    """An object file, its entry points, and the names of all functions that it exports."""

    machine: Machine
    content: bytes
    entries: tuple[EntryPoint, ...]
    exports: tuple[str, ...]


def native_object(library: str, entries: Sequence[Entry], machine: Machine, weights: Mapping[str, Array] | None = None,
                  file: WeightsFile | None = None) -> NativeObject:
    """Graphs as functions of one relocatable object file for a machine, which refers to no symbol of Python.

    library: what exported names begin with. entries: optimised graphs, such as `executable.graph` of the LLVM backend. weights: arrays,
    by name, that are embedded; file: the file beside the library, in place of them. Each entry point is

        i32 SYMBOL(ptr in, ptr out, ptr workspace, size nbytes, ptr pool)
        size SYMBOL_workspace_nbytes(i32 threads)

    in: addresses of the row-major arrays of `EntryPoint.given`, in order; before them, with a file, that of the file's bytes, as
    `ptr LIBRARY_weights_of(ptr file, size nbytes)` has given it. out: addresses of the outputs' arrays. The result is a
    `runtime.standalone.Result`. size is i64, or i32 where pointers have 32 bits. pool: null, or what `LIBRARY_pool_start` gave; a machine
    without threads, such as wasm32, has no pools, and pool is null.

    Needed of the system: memcpy, memset, where the CPU has no fma fma and fmaf, and for pools pthread_*, sched_yield, clock_gettime.
    Raises MissingRuleError for ops that only Python computes; SignatureError if LLVM has no code for the machine.
    """
    wide, kernels, data = machine.pointer_nbytes == 8, KernelTexts(machine), Data()
    points = tuple(EntryPoint(e, kernels, data, weights or {}, file) for e in entries)
    symbols = [k.code.symbol for k in kernels.kernels]
    texts = [p.text(machine, symbols) for p in points]
    if file is not None:
        texts.append(weights_text(library, file, wide))
    # LLVM gets zeros with a mark in front: the data are put into the object when it is made.
    mark = hashlib.sha256("".join((library, *texts)).encode()).digest()
    room = max(data.nbytes - len(mark), 0)
    marked = "".join(f"\\{byte:02X}" for byte in mark)
    declared = (f'@data = internal constant <{{[{len(mark)} x i8], [{room} x i8]}}> <{{[{len(mark)} x i8] c"{marked}", '
                f"[{room} x i8] zeroinitializer}}>, align 64")
    declarations = "\n".join(f"declare void @{s}(ptr, ptr, i64, i64, ptr)" for s in symbols)
    main = "\n".join((standalone_text(library, machine.triple, machine.clock), declarations, declared, *texts))
    made, exports = _compiled([main, *kernels.texts()], machine)
    content = bytearray(made)
    at = content.find(mark)
    if at < 0 or content.find(mark, at + 1) >= 0:
        raise AssertionError("an object file holds its data once")
    content[at:at + len(mark)] = bytes(len(mark))
    for offset, part in data.parts:
        content[at + offset:at + offset + part.nbytes] = part.data
    return NativeObject(machine, bytes(content), points, exports)


def _compiled(texts: Sequence[str], machine: Machine) -> tuple[bytes, tuple[str, ...]]:
    """The object code of texts that are one module, and the names of the functions that are seen from outside."""
    generator = machine.code_generator()
    if machine.multiply_adds != "machine":
        texts = multiply_add.with_functions(texts, machine)
    with only_one():
        first, *rest = (llvm.parse_assembly(text) for text in texts)
        for other in rest:
            first.link_in(other)
        exports = []
        for function in [f for f in first.functions if not f.is_declaration]:
            if function.name.startswith(EXPORTED):
                exports.append(function)
            else:
                function.linkage = llvm.Linkage.internal
                function.name = f"nagraph.{function.name}"
        names = [f.name.removeprefix(EXPORTED) for f in exports]
        for function, name in zip(exports, names):
            function.name = name
            if function.name != name:
                raise SignatureError(f"{name} is a function of the C library; give the library or its function another name")
        first.verify()
        passes = llvm.create_new_module_pass_manager()
        passes.add_always_inliner_pass()
        passes.run(first, llvm.create_pass_builder(generator, llvm.create_pipeline_tuning_options(speed_level=0)))
        made: bytes = generator.emit_object(first)
    return made, tuple(names)


def engine_object(machine: Machine) -> bytes:
    """The object of WebAssembly's own multiply-adds, for objects whose machine has them "linked", and of `multiply_add.FUSES`."""
    return _compiled([multiply_add.engine_module(machine, EXPORTED)], machine)[0]
