"""Linking: objects for wasm32 become one module by wasm-ld, with sections of data for whoever loads it."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence

from nagraph.errors import ExportError

LINKER = "wasm-ld"
#: Bytes of the stack, at the bottom of memory: what leaves it is an error of the engine, not a changed array.
STACK_NBYTES = 1 << 20


def linker() -> str:
    """Where wasm-ld is. ExportError if it is nowhere."""
    found = shutil.which(LINKER)
    if found is None:
        raise ExportError(f"WebAssembly is linked by {LINKER}, which is not installed; it is a part of LLVM's lld "
                          "(Debian and Ubuntu: apt install lld; macOS: brew install lld)")
    return found


def linked(objects: Iterable[bytes], exports: Sequence[str]) -> bytes:
    """Objects as one module that imports nothing and exports these names, its memory and where the rest of that begins.

    ExportError if the linker is missing, or says that something is.
    """
    program = linker()
    with tempfile.TemporaryDirectory(prefix="nagraph-") as folder:
        root = pathlib.Path(folder)
        names = []
        for n, code in enumerate(objects):
            (root / f"{n}.o").write_bytes(code)
            names.append(f"{n}.o")
        asked = ["--no-entry", "--gc-sections", "--strip-all", "--stack-first", "-z", f"stack-size={STACK_NBYTES}",
                 "--export=__heap_base", *(f"--export={name}" for name in exports)]
        done = subprocess.run([program, *asked, *names, "-o", "module.wasm"], cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ExportError(f"{program} did not link the program: {' '.join(done.stderr.split())[:2000]}")
        return (root / "module.wasm").read_bytes()


def with_section(module: bytes, name: str, content: bytes) -> bytes:
    """A module with one more custom section, which engines keep for whoever asks."""
    label = name.encode()
    inside = _length(len(label)) + label
    return b"".join((module, b"\0", _length(len(inside) + len(content)), inside, content))


def _length(n: int) -> bytes:
    """A length as the format writes it: seven bits a byte, the lowest first (LEB128)."""
    found = bytearray()
    while True:
        low, n = n & 0x7F, n >> 7
        found.append(low | (0x80 if n else 0))
        if not n:
            return bytes(found)
