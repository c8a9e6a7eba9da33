"""A cut of ONNX's node tests; the whole is `python -m tests.oracles onnx`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.oracles.onnx_backend.cases import CORE, cases
from tests.oracles.onnx_backend.checks import OnnxBackend, refused
from tests.oracles.record import check_cut, check_table, skips

ORACLE = OnnxBackend()
#: Refusals among the cases of the operators that every model is made of.
MOST_REFUSED = 25


def test_the_core_operators_are_asked() -> None:
    asked = {entry for entry, _ in ORACLE.cases()}
    assert set(CORE) <= asked
    assert len([name for operator in CORE for name in cases()[operator] if name in refused()]) <= MOST_REFUSED


def test_what_is_refused_is_a_case() -> None:
    assert refused().keys() <= {name for named in cases().values() for name in named}


def test_the_page_gives_every_reason() -> None:
    page = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text()
    shown = {name: row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w+)`", row)}
    assert {name: shown.get(name) for name in refused()} == refused()
    absent = skips("onnx")[0]
    assert {name: shown.get(name) for name in absent} == absent


def test_what_agreed_is_still_asked() -> None:
    check_table(ORACLE)


@pytest.mark.parametrize("operator", sorted({entry for entry, _ in OnnxBackend().cases()}))
def test_cut(operator: str) -> None:
    check_cut(ORACLE, operator)
