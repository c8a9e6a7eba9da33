"""Names of kernels: what a kernel computes, in a few words, and a digest of its text. A name follows from the kernel alone."""

from __future__ import annotations

import hashlib

from nagraph.errors import SignatureError
from nagraph.kernel.form import Apply, Kernel

#: Ops that say little of what a kernel is for, and words of a name.
PLAIN, MOST_WORDS = frozenset({"cast", "select", "stop_gradient"}), 3


def name_of(kernel: Kernel) -> str:
    """The name of a kernel: dot-add-tanh-1a2b3c4d. Equal kernels have one name, in all programs. SignatureError for what is none."""
    if not isinstance(kernel, Kernel):
        raise SignatureError(f"a kernel, or the name of one, is wanted, got {type(kernel).__name__}: {kernel!r:.80}")
    return "-".join([*words_of(kernel), hashlib.sha256(str(kernel).encode()).hexdigest()[:8]])


def words_of(kernel: Kernel) -> list[str]:
    """What a kernel computes, in a few words: dot, add, tanh."""
    words: dict[str, None] = {}
    for stage in kernel.stages:
        folds = ["dot" if f.op is None else f.op.name for f in stage.folds]
        words |= dict.fromkeys((*(i.op.name for i in stage.body if isinstance(i, Apply) and i.op.name not in PLAIN), *folds))
    first = sorted(words, key=lambda word: word != "dot")[:MOST_WORDS]
    return first or ["copy"]
