"""Linking: an object file becomes a static archive, by ourselves, and a shared library, by the system's compiler for the machine."""

from __future__ import annotations

import os
import pathlib
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence

from nagraph.errors import ExportError

#: The processors of machines, as `platform.machine` calls them.
_PROCESSORS = {"x86_64": ("x86_64", "amd64"), "aarch64": ("aarch64", "arm64"), "arm64": ("aarch64", "arm64")}
#: Compilers for other machines than this one, by the begin of the triple and the system, and their Debian packages.
_CROSS = {("x86_64", "linux"): ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
          ("aarch64", "linux"): ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")}


def runs_here(triple: str, system: str) -> bool:
    """Whether code for a triple is for this system, and a processor of this kind."""
    return sys.platform == system and platform.machine().lower() in _PROCESSORS.get(triple.partition("-")[0], ())


def compiler(triple: str, system: str) -> str:
    """The C compiler that links for a machine: CC in the environment, this system's, or a cross compiler. ExportError if there is none."""
    cross, package = _CROSS.get((triple.partition("-")[0], system), ("", ""))
    here = runs_here(triple, system)
    for name in (os.environ.get("CC", ""), *(("cc", "gcc", "clang") if here else (cross,))):
        if name and (found := shutil.which(name)):
            return found
    wanted = "a C compiler, such as gcc" if here else f"{cross} (Debian's {package})" if cross else f"a compiler for {triple}"
    raise ExportError(f"a shared library is linked by {wanted}, which is not installed here; install it, name one in CC, or take "
                      "shared=False: an object file and a static archive need none")


def link(cc: str, objects: Sequence[pathlib.Path], out: pathlib.Path, system: str) -> None:
    """Link objects as a shared library that refers to nothing but the system's C library. ExportError with what the linker says."""
    named = [f"-Wl,-install_name,@rpath/{out.name}"] if system == "darwin" else [
        f"-Wl,-soname,{out.name}", "-Wl,-z,defs", "-Wl,-z,noexecstack", "-Wl,--build-id=none"]
    done = subprocess.run([cc, "-shared", *map(str, objects), "-o", str(out), *named, "-lm", "-lpthread"], capture_output=True, text=True)
    if done.returncode:
        raise ExportError(f"{cc} can't link {out.name}: {done.stderr.strip()[:2000]}")


def archive(name: str, content: bytes, symbols: Sequence[str]) -> bytes:
    """A static archive of one object file that defines these symbols, as System V and GNU have it.

    Source: System V Application Binary Interface, "Archive File".
    """
    names = b"".join(s.encode() + b"\0" for s in symbols)
    table_nbytes = 4 + 4 * len(symbols) + len(names)
    # The magic, a head and the table, a head and the names of members: there the object begins.
    long_names = f"{name}/\n".encode()
    at = 8 + 60 + _even(table_nbytes) + 60 + _even(len(long_names))
    table = struct.pack(f">{1 + len(symbols)}I", len(symbols), *[at] * len(symbols)) + names
    return b"!<arch>\n" + _member("/", table) + _member("//", long_names) + _member("/0", content)


def _member(name: str, content: bytes) -> bytes:
    """A member: its head, without times and owners so that equal contents give equal archives, its content, and a byte that fills up."""
    numbers = ("", "", "", "", len(content)) if name == "//" else (0, 0, 0, 644, len(content))
    date, uid, gid, mode, nbytes = numbers
    head = f"{name:<16}{date:<12}{uid:<6}{gid:<6}{mode:<8}{nbytes:<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)


def _even(nbytes: int) -> int:
    return nbytes + nbytes % 2
