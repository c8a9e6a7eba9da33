"""The rows of faults fit the code as it is: each line that brings one back is there, once, and so is its test.

That the tests see them: `python tests/faults/faults.py`.
"""

from __future__ import annotations

import importlib.util
import pathlib
import shlex

import pytest

spec = importlib.util.spec_from_file_location("faults", pathlib.Path(__file__).with_name("faults.py"))
assert spec is not None and spec.loader is not None
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
FAULTS = module.faults()


@pytest.mark.parametrize("fault", FAULTS, ids=[f.name for f in FAULTS])
def test_a_fault_can_be_put_back(fault: module.Fault) -> None:
    text = (module.ROOT / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.right) == 1 and fault.wrong != fault.right
    place, _, name = shlex.split(fault.test)[0].partition("::")
    tests = (module.ROOT / place).read_text(encoding="utf-8")
    assert not name or f"def {name.partition('[')[0]}(" in tests


def test_names_differ() -> None:
    assert FAULTS and len({f.name for f in FAULTS}) == len(FAULTS)
