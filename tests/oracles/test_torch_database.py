"""A cut of PyTorch's operator database beside our functions; the whole is `python -m tests.oracles torch`."""

from __future__ import annotations

import pytest

from tests.oracles.record import check_cut, check_table, skips
from tests.oracles.torch_database.checks import TorchDatabase
from tests.oracles.torch_database.samples import entries
from tests.oracles.torch_database.table import COUNTERPARTS

ORACLE = TorchDatabase()
ABSENT, DIFFERS = skips("torch")


def test_every_entry_has_a_counterpart_or_a_reason() -> None:
    assert not COUNTERPARTS.keys() & ABSENT.keys(), "these have a counterpart now; remove them from skips.toml"
    assert COUNTERPARTS.keys() | ABSENT.keys() == entries().keys()


def test_what_agreed_is_still_asked() -> None:
    check_table(ORACLE)


@pytest.mark.parametrize("entry", COUNTERPARTS)
def test_cut(entry: str) -> None:
    check_cut(ORACLE, entry)


@pytest.mark.parametrize("entry, what", sorted(DIFFERS))
def test_what_is_said_to_differ_differs(entry: str, what: str) -> None:
    assert ORACLE.check(entry, what, first_fault=True).faults, f"agrees throughout; remove it from skips.toml: {DIFFERS[entry, what]}"
