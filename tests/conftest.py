"""Tests keep their compiled kernels to themselves, and every kernel that they make is proved to write each element once.

They are strict: what fails inside the compiler is an error, though users would get a plainer program.
"""

import os
import tempfile

_CACHE = tempfile.TemporaryDirectory(prefix="nagraph-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
os.environ.setdefault("NAGRAPH_STRICT", "1")

from tests import stores  # noqa: E402

stores.install()


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(stores.report())
    for line in stores.open_[:3]:
        terminalreporter.write_line(f"open: {line}")
