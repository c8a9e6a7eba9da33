"""What to answer to an unknown name of a pass, a decision or a model: the name that it has now, or the closest known one."""

from __future__ import annotations

from collections.abc import Iterable

#: Names of passes, decisions and models that texts written for earlier versions may hold, and those in their place.
RENAMED = {
    "blocks": "row_blocks",
    "fold": "fold_constants",
    "made": "index_values",
    "modern": "llama",
    "order": "storage_order",
    "product": "gemm",
    "squares": "tiled_transpose",
    "stretches": "loop_split",
    "sweep": "row_sums",
    "Transformer": "Llama",
    "turn": "pretranspose",
}


def suggestion(name: str, known: Iterable[str]) -> str:
    """` (it is called row_sums now)` or ` (did you mean dce?)`, to be put behind the unknown name; empty if nothing known is like it."""
    known = tuple(known)
    if RENAMED.get(name) in known:
        return f" (it is called {RENAMED[name]} now)"
    import difflib  # a few ms, which only an error is worth

    close = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {close[0]}?)" if close else ""
