"""The parts of a file of C99: arrays, memory, functions of kernels, and the function that calls them; and its header."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from nagraph import backends
from nagraph.c_text.text import Text, tidy
from nagraph.export.refusals import Refusals
from nagraph.export.subject import Subject
from nagraph.export.to_c.arrays import array_text
from nagraph.export.to_c.context import FileContext, Names, memory_name
from nagraph.export.to_c.expressions import plain
from nagraph.export.to_c.flow import Flow
from nagraph.export.to_c.kernel import kernel_function, mentioned, parameter
from nagraph.export.to_c.pointers import Pointers, operands_of
from nagraph.export.to_c.remarks import arena_map, comment, user_lines
from nagraph.export.to_c.sorting import sort_function
from nagraph.export.to_c.support import names as support_names
from nagraph.export.to_c.support import needed
from nagraph.export.to_c.words import C99
from nagraph.ir.graph import Graph
from nagraph.ir.nested import nested_graphs
from nagraph.ir.op import Op
from nagraph.ir.types import TensorType, type_of
from nagraph.kernel.form import Kernel
from nagraph.pipeline import Pipeline
from nagraph.plan.kernel_planner import kernel_plan
from nagraph.program.instructions import Launch, SortTask
from nagraph.program.lowering import lower
from nagraph.schedule.names import words_of

Array = np.ndarray[Any, Any]


class CFile:
    """The parts of one file while it is written."""

    def __init__(self, subject: Subject, stem: str, function: str = ""):
        """stem: what its files are called. function: what its function is called; the subject's name if that is not given."""
        self.subject, self.stem, self.macro = subject, stem, Names().new(stem).upper()
        self.context = FileContext()
        self.context.names.taken |= {*support_names()}
        self.entry = self.context.names.new(function or subject.name)
        self.donations = {j: i for j, i in subject.donations.items() if subject.inputs[i] not in subject.weights}
        self.graph = self._optimised(subject.graph)
        planner, self.plan = kernel_plan(self.graph, self.donations)
        self._names_of_sorts: dict[str, int] = {}
        self.program = lower(planner, self.plan, lambda work: _Function(work), host=False)
        self.named, self.arrays = self._operands()
        self.functions = self._functions()
        self.body = self._body()

    def _optimised(self, graph: Graph) -> Graph:
        """The graph as kernels, by the passes of the CPU's backend, whose bits it then has. ExportError for what computes in Python."""
        made = Pipeline.parse(backends.find("llvm").pipeline)(graph)
        refusals = Refusals("C99", self.subject.name)
        for g in nested_graphs(made):
            for node in g.nodes:
                if node.op.on_host:
                    refusals.add(node, "it is computed by Python")
        refusals.check()
        return made

    # -- names ------------------------------------------------------------------------------------------------------

    def _operands(self) -> tuple[dict[tuple[str, int], str], dict[str, Array]]:
        """What inputs, outputs and constants are called; the arrays that the file holds, by their names."""
        subject, program, names = self.subject, self.program, self.context.names
        named: dict[tuple[str, int], str] = {}
        arrays: dict[str, Array] = {}
        for i, name in enumerate(subject.inputs):
            named["input", i] = found = names.new(name)
            if name in subject.weights:
                arrays[found] = subject.weights[name]
        late = {e.number for e in program.table if e.kind == "donated"}
        for j, name in enumerate(subject.outputs):
            given = named["input", self.donations[j]] if j in self.donations else None
            if given is None:
                named["output", j] = names.new(name)
            else:  # the argument takes it: at once, or once all is read
                named["donated", j] = given
                named["output", j] = names.new(f"new_{given}") if j in late else given
        for n, array in enumerate(program.constants):
            named["constant", n] = found = names.new(f"constant_{n}")
            arrays[found] = array
        return named, arrays

    def _functions(self) -> dict[int, tuple[str, str]]:
        """For each kernel and sort its name, and its text."""
        launches: dict[int, list[Launch]] = {}
        for x in self.program.launches:
            launches.setdefault(id(x.function), []).append(x)
        found = {}
        for number, group in launches.items():
            work, lines = group[0].function.work, user_lines(x.node for x in group)
            if isinstance(work, SortTask):
                name = self.context.names.new(f"{work.op.name}_rows")
                text = sort_function(self.context, work, name)
            else:
                words = words_of(work)
                name = self.context.names.new("_".join(words) if len(words) > 1 else f"{words[0]}_kernel")
                text = kernel_function(self.context, work, name, self._parameters(group[0], work))
            found[number] = name, f"{comment([f'{name}: {_about(work)}', *lines])}\n{text}"
        return found

    def _parameters(self, x: Launch, kernel: Kernel) -> list[str]:
        """The names of a kernel's operands: the last part of the name that a weight or an argument has, x and y for others."""
        names, found = Names(), list[str]()
        inputs = len(kernel.operands) - kernel.outputs
        for n, slot in enumerate(x.slots):
            entry = self.program.table[slot]
            path = self.subject.inputs[entry.number] if entry.kind == "input" else ""
            found.append(names.new("y" if n >= inputs else re.split(r"[.\[]", path.rstrip("]"))[-1] if path else
                                   "table" if entry.kind == "constant" else "x"))
        return found

    # -- parts ------------------------------------------------------------------------------------------------------

    def _body(self) -> str:
        """The function that the file is for."""
        names = Names(self.context.names.taken)
        pointers = Pointers(self.program, self.named, names)
        text = Text(indent=1)
        if self._can_fail:
            text.line("uint8_t verdict[1] = {1};")
        pointers.declare(text)

        def call(x: Launch) -> str:
            return f"{self.functions[id(x.function)][0]}({', '.join(map(pointers.text, x.slots, operands_of(x)))});"

        Flow(pointers, names, text, call).emit()
        if self._can_fail:
            text.line("return verdict[0] != 0 ? 0 : 1;")
        body = str(text)
        unused = [f"  (void){n};" for n, _, _ in self._arguments() if not mentioned(n, body)]
        return "\n".join([f"{self._prototype()} {{", *unused, body, "}"])

    @property
    def _can_fail(self) -> bool:
        return any(e.kind == "verdict" for e in self.program.table)

    def _arguments(self) -> list[tuple[str, TensorType, str]]:
        """The parameters of the function: name, type, and whether each is "in", "out", or both."""
        subject, found = self.subject, []
        changed = {*self.donations.values()}
        for i, (name, v) in enumerate(zip(subject.inputs, subject.graph.inputs)):
            if name not in subject.weights:
                found.append((self.named["input", i], v.type, "in, out" if i in changed else "in"))
        for j, v in enumerate(subject.graph.outputs):
            if j not in self.donations:
                found.append((self.named["output", j], v.type, "out"))
        return found

    def _prototype(self) -> str:
        listed = [parameter(C99.memory_type(t.dtype), n, way != "in") for n, t, way in self._arguments()]
        return f"{'int' if self._can_fail else 'void'} {self.entry}({', '.join(listed) or 'void'})"

    def _about_arguments(self) -> list[str]:
        rows = [(n, str(t), way) for n, t, way in self._arguments()]
        widths = [max((len(r[k]) for r in rows), default=0) for k in (0, 1)]
        return [f"  {n:<{widths[0]}}  {t:<{widths[1]}}  {way}" for n, t, way in rows]

    def _arrays(self, text: str) -> str:
        """The arrays that a text mentions."""
        found = []
        for name, array in self.arrays.items():
            if mentioned(name, text):
                declared = f"static const {C99.memory_type(array.dtype)} {name}[{max(1, array.size)}]"
                found.append(f"/* {type_of(array)} */\n{declared} = {{\n{array_text(array)}\n}};")
        return "\n\n".join(found)

    def _union(self, name: str, nbytes: int, text: str) -> str:
        """Memory that holds elements of several dtypes, one after another."""
        kinds = {memory_name(d): (C99.memory_type(d), d.itemsize) for d in C99.types}
        members = [f"  {kind} {member}[{max(1, -(-nbytes // size))}];"
                   for member, (kind, size) in sorted(kinds.items(), key=lambda k: -k[1][1])
                   if mentioned(f"{name}.{member}", text)]
        return "\n".join(["static union {", *members, f"}} {name};"]) if members else ""

    def source(self, apart: bool) -> str:
        """The text of the file. apart: whether the arrays are in a header of their own."""
        functions, kernels = self.context.functions, [text for _, text in self.functions.values()]
        called = "\n".join(kernels)  # what nobody wants in the end is in no kernel
        elementary = [f"{comment([_first_line(op)])}\n{_plain(tidy(t))}" for op, t in zip(functions.ops, functions.texts)
                      if mentioned(t.partition("(")[0].split()[-1], called)]
        code = "\n\n".join([*elementary, *kernels, self.body])
        late = [f"static {C99.memory_type(v.dtype)} {self.named['output', j]}[{max(1, v.type.size)}];"
                for j, v in enumerate(self.graph.outputs) if j in self.donations and self.named["output", j] != self.named["donated", j]]
        memory = [f"{comment(arena_map(self.plan))}\n{arena}" if (arena := self._union("arena", self.plan.arena_bytes, code)) else "",
                  f"{comment(['What one kernel keeps between its loops.'])}\n{tiles}"
                  if (tiles := self._union("tiles", self.context.tiles_nbytes, code)) else "", *late]
        arrays = f'#include "{self.stem}_weights.h"' if apart else self._arrays(code)
        parts = [comment(self._head()), "\n".join([f'#include "{self.stem}.h"', *INCLUDES]), DEMANDS, arrays, *memory, *needed(code), code]
        return "\n\n".join(p for p in parts if p) + "\n"

    def weights_header(self) -> str:
        """The text of the header with the arrays."""
        code = "\n".join([*(text for _, text in self.functions.values()), self.body])
        guard = f"{self.macro}_WEIGHTS_H"
        parts = [comment([f"The weights of {self.stem}.c"]), f"#ifndef {guard}\n#define {guard}", "#include <math.h>\n#include <stdint.h>",
                 self._arrays(code), "#endif"]
        return "\n\n".join(p for p in parts if p) + "\n"

    def header(self) -> str:
        """The text of the header."""
        guard = f"{self.macro}_H"
        failing = ["Gives 0; or 1 if a class label is none of the classes: then no output means anything."] if self._can_fail else []
        about = [f"{self.entry}: row-major arrays, as many elements as the types say.", *self._about_arguments(), *failing,
                 "Outputs may not overlap with one another or with inputs. It works in static memory: one call at a time."]
        begin = [f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", "", "#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
        return "\n".join([*begin, comment(about), f"{self._prototype()};", "", "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""])

    def _head(self) -> list[str]:
        held = sum(a.nbytes for n, a in self.arrays.items())
        said = [f"{key}: {value}" for key, value in self.subject.metadata.items()]
        return [f"{self.entry}, as C99", *said, *self._about_arguments(),
                f"cc -std=c99 -O2 -c {self.stem}.c, and -lm where math is a library of its own.",
                f"Memory: {self.plan.arena_bytes:,} bytes of arena, {self.context.tiles_nbytes:,} for what kernels keep between loops, "
                f"{held:,} of constants. Nothing is allocated, nothing is recursive.",
                "A product that is fused with a sum says so (fma_f32); no compiler may fuse others, nor change an order of additions."]


class _Function:
    """What a launch calls: the kernel or sort that it was made of."""

    def __init__(self, work: Kernel | SortTask):
        self.work = work


def _about(work: Kernel | SortTask) -> str:
    """What a function computes, in words."""
    if isinstance(work, SortTask):
        return f"the rows of {work.type} along axis {work.op.axis}, in order"
    return ", ".join(words_of(work))


def _first_line(op: Op) -> str:
    """What an op is, from its documentation."""
    return f"{op.name}: {(type(op).__doc__ or op.name).strip().partition(chr(10))[0]}"


def _plain(text: str) -> str:
    return "\n".join(map(plain, text.split("\n")))


INCLUDES = ("#include <float.h>", "#include <limits.h>", "#include <math.h>", "#include <stdbool.h>")
DEMANDS = """\
#if INT_MAX < 2147483647
#error "an int has 32 bits here"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "floats are computed in float, doubles in double: for old x86, -msse2 -mfpmath=sse"
#endif
#ifdef __FAST_MATH__
#error "the order of additions is as it is written: compile without -ffast-math"
#endif
#if defined(__clang__) || !defined(__GNUC__)
#pragma STDC FP_CONTRACT OFF
#elif !defined(__STRICT_ANSI__)
#pragma GCC optimize("fp-contract=off")
#endif"""
