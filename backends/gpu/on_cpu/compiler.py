"""The system's C++ compiler: it makes libraries of the text of kernels, which are kept by a digest of all that they follow from."""

from __future__ import annotations

import concurrent.futures
import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from nagraph.backends import cache
from nagraph.errors import DeviceError, InternalError

FOLDER = pathlib.Path(__file__).parent
#: IEEE arithmetic without contraction, as kernels are compiled for devices; types may be punned, as there.
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-w", "-ffp-contract=off", "-fno-strict-aliasing", "-fvisibility=hidden", "-fsigned-char")
#: What is checked while kernels run, and how that is compiled: the machine, the text of kernels, the library.
#: "": what the machine itself sees. "watch": every access to memory, and what C++ leaves undefined. "address": AddressSanitizer's checks,
#: in a process that has its library loaded first (`sanitizer_library`). "portable": as "", by fibers
#: as systems for which there is no code of ours have them.
CHECKS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "": ((), (), ()),
    "watch": (("-DMACHINE_WATCHES",), ("-fsanitize=thread,alignment,bounds,signed-integer-overflow,shift,integer-divide-by-zero",
                                       "-fsanitize-undefined-trap-on-error"), ()),
    "address": (("-fsanitize=address",),) * 3,
    "portable": (("-DFIBERS_PORTABLE",), (), ()),
}


@functools.cache
def compiler() -> str:
    """The path of the compiler: CXX in the environment, or the first that is there. DeviceError if none is."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise DeviceError("running the code of GPU kernels on this CPU takes a C++ compiler: install g++ or clang++, or name one in CXX")


def missing() -> str:
    """Why nothing can be compiled here, as one sentence; "" if it can."""
    try:
        compiler()
    except DeviceError as error:
        return str(error)
    return ""


@functools.cache
def _version() -> str:
    done = subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True)
    return f"{done.stdout.partition(chr(10))[0]} {platform.machine()} {sys.platform}"


def sanitizer_library() -> str:
    """The path of AddressSanitizer's library, which has to be in LD_PRELOAD when a process begins that checks "address"."""
    name = "libasan.so" if "clang" not in _version() else f"libclang_rt.asan-{platform.machine()}.so"
    done = subprocess.run([compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def library(texts: Sequence[str], check: str = "", folders: Sequence[pathlib.Path] = ()) -> ctypes.CDLL:
    """A library of the machine and these translation units. folders: where headers are found beside the machine's.

    InternalError with what the compiler says if it refuses a text: kernels are ours to write right.
    """
    machine, unit, _ = CHECKS[check]
    headers = [p.read_text(encoding="utf-8") for folder in (FOLDER, *folders) for p in sorted(folder.iterdir())
               if p.is_file() and p.suffix != ".py"]
    key = repr((_version(), FLAGS, machine, unit, headers, list(texts)))
    name = cache.digest("on_cpu", hashlib.sha256(key.encode()).hexdigest())
    found = cache.load("on_cpu", name)
    if found is None:
        code = _compiled(texts, check, folders)
        cache.store("on_cpu", name, None, [code])
    else:
        code = found[1]
    with tempfile.TemporaryDirectory(prefix="nagraph-") as folder:
        place = pathlib.Path(folder) / "kernels.so"
        place.write_bytes(code)
        return ctypes.CDLL(str(place))


@functools.cache
def _machine(check: str) -> bytes:
    """The object code of the machine, the same for all libraries."""
    with tempfile.TemporaryDirectory(prefix="nagraph-") as folder:
        place = pathlib.Path(folder) / "machine.o"
        done = _run([*CHECKS[check][0], "-c", str(FOLDER / "machine.cpp"), "-o", str(place)])
        if done.returncode:
            raise InternalError(f"the C++ compiler refuses the machine that runs kernels:\n{done.stderr[:4000]}")
        return place.read_bytes()


def _compiled(texts: Sequence[str], check: str, folders: Sequence[pathlib.Path]) -> bytes:
    _, unit, linked = CHECKS[check]
    include = [f"-I{folder}" for folder in (FOLDER, *folders)]
    with tempfile.TemporaryDirectory(prefix="nagraph-") as name, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = pathlib.Path(name)
        jobs, machine = [], pool.submit(_machine, check)
        for i, text in enumerate(texts):
            (folder / f"unit{i}.cpp").write_text(text, encoding="utf-8")
            jobs.append([*unit, *include, "-c", str(folder / f"unit{i}.cpp"), "-o", str(folder / f"unit{i}.o")])
        for done in pool.map(_run, jobs):
            if done.returncode:
                raise InternalError(f"the C++ compiler refuses the text of a kernel:\n{done.stderr[:4000]}")
        (folder / "machine.o").write_bytes(machine.result())
        objects = [str(folder / "machine.o"), *(job[-1] for job in jobs)]
        done = _run([*linked, "-shared", *objects, "-o", str(folder / "kernels.so"), "-lm", "-lpthread"])
        if done.returncode:
            raise InternalError(f"the C++ compiler can't link kernels:\n{done.stderr[:4000]}")
        return (folder / "kernels.so").read_bytes()


def _run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([compiler(), *FLAGS, *arguments], capture_output=True, text=True)
