"""Programs of the system that tests run: compilers, linkers, emulators.

A test fails where the one that it needs is missing, and says what to install.
"""

from __future__ import annotations

import functools
import shutil

import pytest

#: The Debian package of each program.
PACKAGES = {"gcc": "gcc", "g++": "g++", "clang": "clang", "valgrind": "valgrind", "pkg-config": "pkg-config", "nm": "binutils",
            "wasm-ld": "lld", "node": "nodejs", "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu", "qemu-aarch64-static": "qemu-user-static"}


@functools.cache
def tool(name: str) -> str:
    """Where a program is."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"this test runs {name}, which is not installed: apt-get install {PACKAGES[name]}", pytrace=False)
    return found
