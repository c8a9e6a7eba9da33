"""Tests keep their compiled kernels to themselves."""

import os
import tempfile

_CACHE = tempfile.TemporaryDirectory(prefix="nagraph-tests-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
