"""Tests keep their compiled kernels to themselves."""

import os
import tempfile

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="nagraph-tests-")
