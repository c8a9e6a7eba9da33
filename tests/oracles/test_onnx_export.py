"""A cut of what is written as ONNX, in ONNX Runtime; the whole is `python -m tests.oracles onnx-export`."""

from __future__ import annotations

import pytest

from tests.oracles.exported import admitted
from tests.oracles.onnx_export.checks import KINDS, OnnxExport, refused
from tests.oracles.record import check_cut, check_table
from tests.support import own_ops

ORACLE = OnnxExport()
#: Ops that hold graphs, which the functions and models are about, and ops without operands.
OTHERS = {"call", "cond", "scan", "while_loop", "const", "debug_print"}


def test_every_op_is_asked() -> None:
    assert set(admitted()) | OTHERS == set(own_ops())
    assert {name for name, _ in refused()} <= set(own_ops())


def test_what_agreed_is_still_asked() -> None:
    check_table(ORACLE)


@pytest.mark.parametrize("part", range(8))
def test_cut_of_ops(part: int) -> None:
    for name in sorted(admitted())[part::8]:
        check_cut(ORACLE, name)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_of(kind: str) -> None:
    check_cut(ORACLE, kind)
