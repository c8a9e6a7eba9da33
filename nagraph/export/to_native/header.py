"""The C header of a library: its functions, types and constants, documented."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nagraph.export.to_native.functions import Function, Member

#: Results of calls beside 0, in order, and what they mean.
RESULTS = {
    "POINTER": "a pointer is null, or not aligned to its elements",
    "WORKSPACE": "the workspace is null, or too small for the threads of the pool",
    "LABEL": "a class label is no class: what the loss checks",
}


def header(library: str, about: str, functions: Sequence[Function], weights_nbytes: int) -> str:
    """The text of LIBRARY.h. about: what was exported, for which machine. weights_nbytes: of the file beside it, 0 for none."""
    upper = library.upper()
    parts = [_opening(library, upper, about), _results(library, upper)]
    if weights_nbytes:
        parts.append(_weights(library, upper, weights_nbytes))
    parts += [_pools(library), *map(_function(library), functions), f"#ifdef __cplusplus\n}}\n#endif\n\n#endif /* {upper}_H */\n"]
    return "\n".join(parts)


def _opening(library: str, upper: str, about: str) -> str:
    return f"""\
/* {about}
 *
 * Arrays are row-major, without gaps, aligned to their elements. A function reads its inputs and writes its outputs whole; these may not
 * overlap, unless it says so. It keeps nothing from one call to the next, allocates nothing, and may be called by many threads at one
 * time, each with a workspace of its own. Its results have the same bits for any number of threads.
 */
#ifndef {upper}_H
#define {upper}_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif
"""


def _results(library: str, upper: str) -> str:
    constants = [f"#define {upper}_OK 0"]
    constants += [f"#define {upper}_{name} {n} /* {text} */" for n, (name, text) in enumerate(RESULTS.items(), 1)]
    cases = "".join(f'    case {upper}_{name}: return "{text}";\n' for name, text in RESULTS.items())
    return "/* What calls return. */\n" + "\n".join(constants) + f"""

static inline const char *{library}_message(int result)
{{
    switch (result) {{
    case {upper}_OK: return "";
{cases}    default: return "no result of {library}";
    }}
}}
"""


def _weights(library: str, upper: str, nbytes: int) -> str:
    return f"""\
/* The weights stand in {library}.safetensors, whose bytes the caller reads, or maps, into memory that is aligned to 8 bytes. They stay
 * there, unchanged, as long as functions are called with them. Null: these are not the bytes of the file that was written with this
 * library, of which its head is compared. */
#define {upper}_WEIGHTS_NBYTES {nbytes}
typedef struct {library}_weights {library}_weights;
const {library}_weights *{library}_weights_of(const void *file, size_t nbytes);
"""


def _pools(library: str) -> str:
    return f"""\
/* A pool has the threads of calls: their caller's, and workers, which start once and sleep between calls. Its memory is the caller's,
 * {library}_pool_nbytes(threads) bytes, until {library}_pool_stop has returned. A call that finds the pool busy has its caller's
 * thread alone. {library}_pool_start gives null for null; where the system starts no more threads, the pool has fewer, which
 * {library}_pool_threads tells. */
typedef struct {library}_pool {library}_pool;
size_t {library}_pool_nbytes(int threads);
{library}_pool *{library}_pool_start(void *memory, int threads);
int {library}_pool_threads(const {library}_pool *pool);
void {library}_pool_stop({library}_pool *pool);
"""


def _function(library: str) -> Callable[[Function], str]:
    def text(f: Function) -> str:
        counts = "\n".join(f"#define {f.count(m)} {m.count}" for m in (*f.inputs, *f.outputs))
        first = [f"    const {library}_weights *weights; /* from {library}_weights_of */"] if f.takes_file else []
        inputs = "\n".join([*first, *map(_input, f.inputs)] or ["    const void *none; /* it has no inputs, and may be given null */"])
        outputs = "\n".join(map(_output, f.outputs)) or "    void *none; /* it has no outputs, and may be given null */"
        return f"""\
/* -- {f.symbol}: {len(f.inputs)} inputs, {len(f.outputs)} outputs, and of each how many elements it has -- */

{counts}

typedef struct {f.symbol}_inputs {{
{inputs}
}} {f.symbol}_inputs;

typedef struct {f.symbol}_outputs {{
{outputs}
}} {f.symbol}_outputs;

/* The bytes of a workspace for calls with pools of so many threads; they need not be aligned, and hold nothing between calls. */
size_t {f.symbol}_workspace_nbytes(int threads);

/* Compute the outputs: 0, or why not. pool: null for the caller's thread alone. */
int {f.symbol}(const {f.symbol}_inputs *inputs, const {f.symbol}_outputs *outputs, void *workspace, size_t workspace_nbytes,
    {library}_pool *pool);
"""
    return text


def _input(m: Member) -> str:
    return f"    const {m.c_type} *{m.name}; /* {_described(m)} */"


def _output(m: Member) -> str:
    place = f"; may be the memory of the input {m.place}" if m.place else ""
    return f"    {m.c_type} *{m.name}; /* {_described(m)}{place} */"


def _described(m: Member) -> str:
    shape = "".join(f"[{n}]" for n in m.type.shape) or " (one number)"
    label = "" if m.label == m.name else f": {m.label}"
    return f"{m.dtype}{shape}{label}".replace("*/", "* /")
