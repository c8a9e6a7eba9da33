"""Programs of the system that tests run: compilers, linkers, emulators, a browser.

Where one is missing, a test that needs it is skipped with what to install; not where CI=true, as on machines of continuous
integration: there it fails, since what is skipped is not checked.
"""

from __future__ import annotations

import functools
import os
import shutil

import pytest

#: The Debian package of each program. `.ci/run` installs those of the programs that it does not find.
PACKAGES = {"gcc": "gcc", "g++": "g++", "clang": "clang", "valgrind": "valgrind", "pkg-config": "pkg-config", "nm": "binutils",
            "wasm-ld": "lld", "node": "nodejs", "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu", "qemu-aarch64-static": "qemu-user-static",
            "chromium": "chromium", "chromedriver": "chromium-driver"}


@functools.cache
def tool(name: str) -> str:
    """Where a program is."""
    found = shutil.which(name)
    if found is None:
        reason = f"this test runs {name}, which is not installed: apt-get install {PACKAGES[name]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


if __name__ == "__main__":
    for package in sorted({package for name, package in PACKAGES.items() if shutil.which(name) is None}):
        print(package)
