"""Examples beside a library: programs in C, C++ and Python that call its functions on made up numbers, and print what comes first."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.export.to_native.functions import Function, Member

#: Python's name of each C type.
_CTYPES = {"bool": "c_bool", "float": "c_float", "double": "c_double",
           **{f"{u}int{bits}_t": f"c_{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}}
#: Numbers of each result that are printed.
_SHOWN = 4


def c_example(library: str, functions: Sequence[Function], file: bool) -> str:
    """The text of example.c; file: whether the weights stand in a file."""
    load = f"    const {library}_weights *weights = load(\"{library}.safetensors\");\n" if file else ""
    return f"""\
/* Calls the functions of {library} on made up numbers, and prints the first numbers of each result.
 *
 *     cc example.c $(pkg-config --cflags --libs ./{library}.pc) -o example
 */
#include <stdio.h>
#include <stdlib.h>

#include "{library}.h"

#define THREADS 2

static void *memory(size_t nbytes)
{{
    void *found = calloc(nbytes + 1, 1);
    if (!found) {{
        fprintf(stderr, "no memory for %zu bytes\\n", nbytes);
        exit(1);
    }}
    return found;
}}

static void check(const char *function, int result)
{{
    if (result) {{
        fprintf(stderr, "%s: %s\\n", function, {library}_message(result));
        exit(1);
    }}
}}
{_c_ramps(functions)}{_c_load(library) if file else ""}{"".join(_c_function(library, f, file) for f in functions)}
int main(void)
{{
    void *room = memory({library}_pool_nbytes(THREADS));
    {library}_pool *pool = {library}_pool_start(room, THREADS);
{load}{"".join(f"    run_{f.symbol}(pool{', weights' if file else ''});{chr(10)}" for f in functions)}\
    {library}_pool_stop(pool);
    free(room);
{"    free((void *)weights);" + chr(10) if file else ""}    return 0;
}}
"""


def _c_ramps(functions: Sequence[Function]) -> str:
    """What makes up numbers, of the types that there are, and what shows them."""
    types = [t for t in ("float", "double") if any(m.c_type == t for f in functions for m in f.inputs)]
    ramps = "".join(f"""
/* 0, 1/16, 2/16, ... 1, and again. */
static {type} *ramp_{type}(size_t n)
{{
    {type} *x = memory(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = ({type})(i % 17) / 16;
    return x;
}}
""" for type in types)
    return f"""{ramps}
#define SHOW(name, x, n) \\
    do {{ \\
        printf("%s", name); \\
        for (size_t i = 0; i < (n) && i < {_SHOWN}; i++) printf(" %.6g", (double)(x)[i]); \\
        printf("\\n"); \\
    }} while (0)
"""


def _c_load(library: str) -> str:
    return f"""
static const {library}_weights *load(const char *path)
{{
    char *content = memory({library.upper()}_WEIGHTS_NBYTES);
    FILE *file = fopen(path, "rb");
    if (!file || fread(content, 1, {library.upper()}_WEIGHTS_NBYTES, file) != {library.upper()}_WEIGHTS_NBYTES) {{
        fprintf(stderr, "%s can't be read\\n", path);
        exit(1);
    }}
    fclose(file);
    const {library}_weights *found = {library}_weights_of(content, {library.upper()}_WEIGHTS_NBYTES);
    if (!found) {{
        fprintf(stderr, "%s does not belong to this library\\n", path);
        exit(1);
    }}
    return found;
}}
"""


def _c_function(library: str, f: Function, file: bool) -> str:
    given = [f"    in.{m.name} = {_c_array(f, m)};\n" for m in f.inputs] + ["    in.weights = weights;\n"] * f.takes_file
    found = [f"    out.{m.name} = memory({f.count(m)} * sizeof *out.{m.name});\n" for m in f.outputs]
    shown = [f'    SHOW("{f.symbol}.{m.name}", out.{m.name}, {f.count(m)});\n' for m in f.outputs]
    freed = [f"    free((void *)in.{m.name});\n" for m in f.inputs] + [f"    free(out.{m.name});\n" for m in f.outputs]
    weights = f", const {library}_weights *weights" if file else ""
    unused = "    (void)weights;\n" if file and not f.takes_file else ""
    return f"""
static void run_{f.symbol}({library}_pool *pool{weights})
{{
    {f.symbol}_inputs in = {{0}};
    {f.symbol}_outputs out = {{0}};
    size_t nbytes = {f.symbol}_workspace_nbytes(THREADS);
    void *workspace = memory(nbytes);
{unused}{"".join(given)}{"".join(found)}    check("{f.symbol}", {f.symbol}(&in, &out, workspace, nbytes, pool));
{"".join(shown)}{"".join(freed)}    free(workspace);
}}
"""


def _c_array(f: Function, m: Member) -> str:
    if m.c_type in ("float", "double"):
        return f"ramp_{m.c_type}({f.count(m)})"
    return f"memory({f.count(m)} * sizeof(*in.{m.name}))"


def cpp_example(library: str, functions: Sequence[Function], file: bool) -> str:
    """The text of example.cpp."""
    load = f"""\
    std::ifstream file("{library}.safetensors", std::ios::binary);
    std::vector<double> content({library.upper()}_WEIGHTS_NBYTES / sizeof(double) + 1);  // aligned to 8 bytes
    file.read(reinterpret_cast<char *>(content.data()), {library.upper()}_WEIGHTS_NBYTES);
    const {library}_weights *weights = file ? {library}_weights_of(content.data(), {library.upper()}_WEIGHTS_NBYTES) : nullptr;
    if (!weights) throw std::runtime_error("{library}.safetensors does not belong to this library");
""" if file else ""
    return f"""\
// Calls the functions of {library} on made up numbers, and prints the first numbers of each result.
//
//     c++ -std=c++11 example.cpp $(pkg-config --cflags --libs ./{library}.pc) -o example
#include <cstdio>
{"#include <fstream>" + chr(10) if file else ""}#include <memory>
#include <stdexcept>
#include <vector>

#include "{library}.h"

constexpr int threads = 2;

// 0, 1/16, 2/16, ... 1, and again; zeros of what is no float.
template <typename T> std::unique_ptr<T[]> made_up(std::size_t n)
{{
    std::unique_ptr<T[]> x(new T[n + 1]());
    if (T(0.5) != T(0) && T(0.5) != T(1))
        for (std::size_t i = 0; i < n; i++) x[i] = T(i % 17) / T(16);
    return x;
}}

template <typename T> void show(const char *name, const T &x, std::size_t n)
{{
    std::printf("%s", name);
    for (std::size_t i = 0; i < n && i < {_SHOWN}; i++) std::printf(" %.6g", static_cast<double>(x[i]));
    std::printf("\\n");
}}

void check(int result)
{{
    if (result) throw std::runtime_error({library}_message(result));
}}
{"".join(_cpp_function(library, f, file) for f in functions)}
int main()
{{
{load}    std::vector<unsigned char> room({library}_pool_nbytes(threads));
    {library}_pool *pool = {library}_pool_start(room.data(), threads);
{"".join(f"    run_{f.symbol}(pool{', weights' if file else ''});{chr(10)}" for f in functions)}\
    {library}_pool_stop(pool);
}}
"""


def _cpp_function(library: str, f: Function, file: bool) -> str:
    made = [f"    auto a_{m.name} = made_up<{m.c_type}>({f.count(m)});\n" for m in (*f.inputs, *f.outputs)]
    given = [f"    in.{m.name} = a_{m.name}.get();\n" for m in f.inputs] + ["    in.weights = weights;\n"] * f.takes_file
    found = [f"    out.{m.name} = a_{m.name}.get();\n" for m in f.outputs]
    shown = [f'    show("{f.symbol}.{m.name}", a_{m.name}, {f.count(m)});\n' for m in f.outputs]
    weights = f", const {library}_weights *{'weights' if f.takes_file else ''}" if file else ""
    return f"""
void run_{f.symbol}({library}_pool *pool{weights})
{{
    {f.symbol}_inputs in = {{}};
    {f.symbol}_outputs out = {{}};
{"".join(made)}{"".join(given)}{"".join(found)}    std::vector<unsigned char> workspace({f.symbol}_workspace_nbytes(threads));
    check({f.symbol}(&in, &out, workspace.data(), workspace.size(), pool));
{"".join(shown)}}}
"""


def python_example(library: str, functions: Sequence[Function], file: bool, shared: str) -> str:
    """The text of example.py, which needs nothing but Python. shared: the file of the shared library."""
    return f'''\
"""Calls the functions of {library} on made up numbers, and prints the first numbers of each result. It needs nothing but Python."""

import ctypes
import pathlib

THREADS = 2
folder = pathlib.Path(__file__).parent
library = ctypes.CDLL(str(folder / "{shared}"))
library.{library}_pool_nbytes.restype = ctypes.c_size_t
library.{library}_pool_start.restype = ctypes.c_void_p
{_PY_LOAD.format(library=library) if file else ""}

def made_up(kind, n):
    """0, 1/16, 2/16, ... 1, and again; zeros of what is no float."""
    ramp = kind in (ctypes.c_float, ctypes.c_double)
    return (kind * n)(*(i % 17 / 16 for i in range(n))) if ramp else (kind * n)()


def run(name, inputs, outputs, pool):
    """One call: arrays in the order of the header, by their names."""
    workspace_nbytes = getattr(library, f"{{name}}_workspace_nbytes")
    workspace_nbytes.restype = ctypes.c_size_t
    nbytes = workspace_nbytes(THREADS)
    pointers = [(ctypes.c_void_p * (len(arrays) + 1))(*map(ctypes.addressof, arrays.values())) for arrays in (inputs, outputs)]
    result = getattr(library, name)(*pointers, ctypes.create_string_buffer(nbytes), ctypes.c_size_t(nbytes), ctypes.c_void_p(pool))
    if result:
        raise RuntimeError(f"{{name}} gives {{result}}: see the header")
    for label, array in outputs.items():
        print(f"{{name}}.{{label}}", *(f"{{float(x):.6g}}" for x in array[:{_SHOWN}]))


room = ctypes.create_string_buffer(library.{library}_pool_nbytes(THREADS))
pool = library.{library}_pool_start(room, THREADS)
{"".join(map(_python_call, functions))}library.{library}_pool_stop(ctypes.c_void_p(pool))
'''


_PY_LOAD = '''
content = (folder / "{library}.safetensors").read_bytes()
weights = (ctypes.c_double * (len(content) // 8 + 1))()  # aligned to 8 bytes
ctypes.memmove(weights, content, len(content))
library.{library}_weights_of.restype = ctypes.c_void_p
if not library.{library}_weights_of(weights, ctypes.c_size_t(len(content))):
    raise RuntimeError("{library}.safetensors does not belong to this library")
'''


def _python_call(f: Function) -> str:
    def rows(members: Sequence[Member]) -> str:
        return "".join(f'    "{m.name}": made_up(ctypes.{_CTYPES[m.c_type]}, {m.count}),\n' for m in members)

    weights = '    "weights": weights,\n' if f.takes_file else ""
    return f'run("{f.symbol}", {{\n{weights}{rows(f.inputs)}}}, {{\n{rows(f.outputs)}}}, pool)\n'
