"""A cut of StableHLO under XLA; the whole is `python -m tests.oracles stablehlo`."""

from __future__ import annotations

import pytest

from nagraph.export.to_stablehlo.registry import translation_of
from tests.oracles.exported import admitted
from tests.oracles.record import check_cut, check_table, skips
from tests.oracles.stablehlo.checks import StableHlo, of
from tests.support import own_ops

ORACLE = StableHlo()
DIFFERS = skips("stablehlo")[1]


def test_every_translation_is_asked() -> None:
    asked = {translation_of(of(name)[0]) for name, _ in ORACLE.cut() if name in admitted()}
    known = {translation_of(object.__new__(cls)) for name, cls in own_ops().items() if name in admitted()}
    assert None not in asked and asked == known


def test_what_agreed_is_still_asked() -> None:
    check_table(ORACLE)


@pytest.mark.parametrize("entry", dict.fromkeys(entry for entry, _ in ORACLE.cut()))
def test_cut(entry: str) -> None:
    check_cut(ORACLE, entry)


@pytest.mark.parametrize("entry, what", sorted(DIFFERS))
def test_what_is_said_to_differ_differs(entry: str, what: str) -> None:
    assert ORACLE.check(entry, what, first_fault=True).faults, f"agrees throughout; remove it from skips.toml: {DIFFERS[entry, what]}"
