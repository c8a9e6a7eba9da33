"""Exported files of C, built and run: many of them in one program, which reads their arguments and writes their results."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import nagraph as ng
from nagraph.export.subject import Subject
from nagraph.export.to_c.file import CFile
from nagraph.export.to_c.words import C99

Array = np.ndarray[Any, Any]
COMPILERS = tuple(name for name in ("gcc", "clang") if shutil.which(name))
COMPILES = pytest.mark.skipif(not COMPILERS, reason="there is neither gcc nor clang")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
SANITIZED = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


class Case(NamedTuple):
    """A file, and the arguments that its function is called with."""

    file: CFile
    arguments: Sequence[Array]


def case(what: Any, arguments: Sequence[Array], number: int = 0) -> Case:
    """The case of a graph or function, all of whose arguments are inputs."""
    subject = Subject.of(what, tuple(ng.spec(x.shape, x.dtype) for x in arguments) if callable(what) else None, optimised=False)
    return Case(CFile(subject, f"case{number}", f"{subject.name}_{number}"), arguments)


def run(folder: pathlib.Path, cases: Sequence[Case], compiler: str = COMPILERS[0] if COMPILERS else "cc",
        flags: Sequence[str] = ("-O0", *SANITIZED)) -> list[list[Array]]:
    """The results of all cases, from one program that is built strictly."""
    sources = []
    for x in cases:
        (folder / f"{x.file.stem}.h").write_text(x.file.header())
        sources.append(folder / f"{x.file.stem}.c")
        sources[-1].write_text(x.file.source(False))
    main = folder / "main.c"
    main.write_text(_main(cases))
    program = folder / f"run-{compiler}"
    _checked([compiler, *STRICT, *flags, *map(str, sources), str(main), "-o", str(program), "-lm"])
    given = b"".join(np.ascontiguousarray(a).tobytes() for x in cases for a in x.arguments)
    found = _checked([str(program)], given)
    results, at = [], 0
    for x in cases:
        results.append([])
        for v in x.file.subject.graph.outputs:
            nbytes = v.type.nbytes
            results[-1].append(np.frombuffer(found[at:at + nbytes], v.dtype).reshape(v.shape))
            at += nbytes
    assert at == len(found)
    return results


def differences(wanted: Sequence[Array], found: Sequence[Array]) -> list[str]:
    """In words, which outputs have other bits; nan is nan."""
    said = []
    for j, (x, y) in enumerate(zip(wanted, found, strict=True)):
        x = np.asarray(x)
        unsigned = np.dtype(f"u{x.dtype.itemsize}")
        other = np.ascontiguousarray(x).reshape(-1).view(unsigned) != np.ascontiguousarray(y).reshape(-1).view(unsigned)
        other &= ~((x != x) & (y != y)).reshape(-1)
        if (x.dtype, x.shape) != (y.dtype, y.shape) or other.any():
            n = int(np.argmax(other)) if other.size else 0
            here, there = (f"{z.reshape(-1)[n]}" for z in (y, x))
            said.append(f"output {j}, {int(other.sum())} of {other.size}: {here} at {n}, the LLVM backend has {there}")
    return said


def _checked(command: list[str], given: bytes = b"") -> bytes:
    done = subprocess.run(command, input=given, capture_output=True)
    assert done.returncode == 0, f"{' '.join(command)[:300]} returned {done.returncode}\n{done.stderr.decode(errors='replace')[:6000]}"
    return done.stdout


def _main(cases: Sequence[Case]) -> str:
    """A program that reads the arguments of each case into memory of their own size, and writes results from such memory."""
    lines = ["#include <stdio.h>", "#include <stdlib.h>", *(f'#include "{x.file.stem}.h"' for x in cases)]
    lines += ["static void *get(size_t size) {", "  void *x = malloc(size);", "  if (fread(x, 1, size, stdin) != size) exit(3);",
              "  return x;", "}", "static void put(void *x, size_t size) {", "  if (fwrite(x, 1, size, stdout) != size) exit(4);", "}"]
    for n, x in enumerate(cases):
        lines.append(f"static void call{n}(void) {{")
        subject, inside, outside = x.file.subject, [], {}
        given = {i: j for j, i in x.file.donations.items()}
        for i, v in enumerate(subject.graph.inputs):
            if subject.inputs[i] not in subject.weights:
                lines.append(f"  {C99.memory_type(v.dtype)} *x{i} = get({v.type.nbytes});")
                inside.append(f"x{i}")
                if i in given:
                    outside[given[i]] = f"x{i}"
        passed = list(inside)
        for j, v in enumerate(subject.graph.outputs):
            if j not in x.file.donations:
                lines.append(f"  {C99.memory_type(v.dtype)} *y{j} = malloc({v.type.nbytes});")
                outside[j] = f"y{j}"
                passed.append(f"y{j}")
        call = f"{x.file.entry}({', '.join(passed)})"
        lines.append(f"  if ({call} != 0) exit(5);" if x.file._can_fail else f"  {call};")
        lines += [f"  put({outside[j]}, {v.type.nbytes});" for j, v in enumerate(subject.graph.outputs)]
        lines += [f"  free({name});" for name in {*inside, *outside.values()}]
        lines.append("}")
    return "\n".join([*lines, "int main(void) {", *(f"  call{n}();" for n in range(len(cases))), "  return 0;", "}", ""])
