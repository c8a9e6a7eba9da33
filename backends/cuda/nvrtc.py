"""NVRTC: GPU text becomes machine code for any architecture, on any machine, by NVIDIA's compiler in a library.

Texts are compiled in parallel, by threads, and what came of them is kept on disk by architecture, compiler and text.

Source: NVIDIA, NVRTC, the documentation of its C interface.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import ctypes.util
import functools
import hashlib
import importlib.util
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from nagraph.backends import cache
from nagraph.backends.cuda.driver import Built
from nagraph.errors import DeviceError, InternalError, SignatureError
from nagraph.suggestions import suggestion

#: The folder of the header that GPU text is written with.
HEADERS = pathlib.Path(__file__).parents[1] / "gpu" / "headers"
HEADER = "nagraph_gpu.h"
#: IEEE arithmetic: no product is fused with a sum but where the text says so, subnormal numbers stay, division and roots are exact.
OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true", "--ptxas-options=--verbose")
INSTALL = "pip install nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12 (CUDA 12)"


class _Library:
    """NVRTC's library, and the functions of it that are called here."""

    def __init__(self, path: str):
        self.path, self._library = path, ctypes.CDLL(path)
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = f"{major.value}.{minor.value}"
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        self.architectures = tuple(f"sm_{n}" for n in numbers)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise InternalError(f"NVRTC's {name} fails with status {status}")

    def compile(self, name: str, text: str, options: Sequence[str]) -> tuple[bytes, str, str]:
        """The machine code, the PTX and the log of a text. InternalError with the log if it is refused: texts are ours to write right."""
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), f"{name}.cu".encode(), 0, None, None)
        try:
            given = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
            status = self._library.nvrtcCompileProgram(program, len(options), given)
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if status:
                raise InternalError(f"NVRTC {self.version} refuses the text of kernel {name}:\n{log[:4000]}")
            return self._read(program, "CUBIN"), self._read(program, "PTX").rstrip(b"\0").decode(), log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        found = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, found)
        return found.raw


def _places() -> Iterator[pathlib.Path | str]:
    """Where NVRTC's library may be: in NVIDIA's wheels, in a toolkit, where the system looks for libraries."""
    names = ("nvrtc64_*_0.dll",) if sys.platform == "win32" else ("libnvrtc.so.*",)
    spec = importlib.util.find_spec("nvidia")
    folders = [pathlib.Path(p) for p in spec.submodule_search_locations or ()] if spec is not None else []
    for pattern in names:
        for folder in folders:
            yield from sorted(folder.glob(f"*/[lb]i[bn]/{pattern}"), reverse=True)
        for root in filter(None, (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda")):
            yield from sorted(pathlib.Path(root).glob(f"[lb]i[bn]*/{pattern}"), reverse=True)
    if found := ctypes.util.find_library("nvrtc"):
        yield found


@functools.cache
def _library() -> _Library | None:
    for place in _places():
        try:
            return _Library(str(place))
        except (OSError, AttributeError, InternalError):  # such as one of another processor
            continue
    return None


def missing() -> str:
    """Why nothing can be compiled here, as one sentence; "" if it can."""
    return "" if _library() is not None else f"it needs NVRTC, NVIDIA's compiler; {INSTALL}"


def version() -> str:
    """NVRTC's version; "" where there is none."""
    found = _library()
    return found.version if found is not None else ""


def path() -> str:
    """Where NVRTC's library is; "" where there is none."""
    found = _library()
    return found.path if found is not None else ""


def key() -> str:
    """What code follows from beside text and architecture: compiler, options, header."""
    return hashlib.sha256(repr((version(), OPTIONS, _header())).encode()).hexdigest()


def check_architecture(name: str) -> str:
    """The name of an architecture, sm_90. SignatureError for another, DeviceError without NVRTC."""
    known = _needed().architectures
    if not isinstance(name, str) or re.sub(r"(?<=\d)[af]$", "", name) not in known:
        hint = suggestion(name, known) if isinstance(name, str) else ""
        raise SignatureError(f"backend 'cuda' has no target {name!r:.80}{hint}; NVRTC {version()} compiles for {', '.join(known)}")
    return name


def _needed() -> _Library:
    found = _library()
    if found is None:
        raise DeviceError(f"backend 'cuda' can't compile here: {missing()}")
    return found


@functools.cache
def _header() -> str:
    """The header, and those that it includes."""
    return "".join(p.read_text(encoding="utf-8") for p in sorted(HEADERS.iterdir()))


def _compiled(function: Any, architecture: str) -> tuple[bytes, str, str]:
    options = (f"--gpu-architecture={architecture}", f"--include-path={HEADERS}", *OPTIONS)
    return _needed().compile(function.name, f'#include "{HEADER}"\n{function.text}', options)


def ptx(functions: Sequence[Any], architecture: str) -> list[str]:
    """The PTX of functions of GPU text."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [text for _, text, _ in pool.map(lambda f: _compiled(f, architecture), functions)]


def built(functions: Sequence[Any], architecture: str) -> list[Built]:
    """The machine code of functions of GPU text, each text's once, as far as it is not kept on disk already."""
    check_architecture(architecture)
    made_by = key()
    keys = [repr((made_by, architecture, f.name, f.text)) for f in functions]
    wanted = dict(sorted(zip(keys, functions), key=lambda x: -len(x[1].text)))  # the long ones first, so that no thread ends with one
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # NVRTC lets other threads run
        found = dict(zip(wanted, pool.map(lambda key: _built(wanted[key], key, architecture), wanted)))
    return [found[key] for key in keys]


def _built(function: Any, key: str, architecture: str) -> Built:
    file = cache.digest("cubin", key)
    if (known := kept(file)) is not None:
        return known
    code, _, log = _compiled(function, architecture)
    registers, spilled = _resources(log)
    cache.store("cubin", file, [registers, spilled], [code])
    return Built(code, registers, spilled, file)


def kept(file: str) -> Built | None:
    """What the cache has under a name; None if it is not there."""
    known = cache.load("cubin", file)
    return None if known is None else Built(known[1], *known[0], file)


def _resources(log: str) -> tuple[int, int]:
    """Registers of a thread, and bytes that it spills, from what ptxas says of the one function."""
    registers = re.search(r"Used (\d+) registers", log)
    spilled = re.search(r"(\d+) bytes spill stores", log)
    return int(registers[1]) if registers else 0, int(spilled[1]) if spilled else 0
