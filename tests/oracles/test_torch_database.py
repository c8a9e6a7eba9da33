"""A cut of PyTorch's operator database beside our functions; the whole is `python -m tests.oracles torch`."""

from __future__ import annotations

import zlib

import pytest

from tests.oracles import record
from tests.oracles.torch_database.checks import DERIVATIVES, DTYPES, TorchDatabase
from tests.oracles.torch_database.samples import entries
from tests.oracles.torch_database.table import COUNTERPARTS

ORACLE = TorchDatabase()
CASES = ORACLE.cases()
ABSENT, DIFFERS = record.skips("torch")


def chosen(entry: str) -> list[str]:
    """The checks of an entry in the cut: values in two dtypes, and a derivative; which, follows from the name."""
    has = [what for e, what in CASES if e == entry]
    turn = zlib.crc32(entry.encode())
    narrow = ("float32", "float16", "bfloat16")
    found = [[what for what in group if what in has] for group in (narrow, [d for d in DTYPES if d not in narrow], DERIVATIVES)]
    return [group[turn % len(group)] for group in found if group]


def test_every_entry_has_a_counterpart_or_a_reason() -> None:
    assert not COUNTERPARTS.keys() & ABSENT.keys(), "these have a counterpart now; remove them from skips.toml"
    assert COUNTERPARTS.keys() | ABSENT.keys() == entries().keys()


def test_the_record_is_of_this_table() -> None:
    recorded = {key[1:] for key, o in record.recorded().items() if key[0] == "torch" and o.agreed}
    assert recorded <= set(CASES), "these agreed once; they may not go"


@pytest.mark.parametrize("entry", COUNTERPARTS)
def test_cut(entry: str) -> None:
    """No fault but those that skips.toml names; an entry that agreed in the record still compares something."""
    told: list[str] = []
    for what in chosen(entry):
        if (entry, what) not in DIFFERS:
            told += ORACLE.check(entry, what, cut=True).faults
    assert not told, "\n".join(told)


@pytest.mark.parametrize("entry, what", sorted(DIFFERS))
def test_what_is_said_to_differ_differs(entry: str, what: str) -> None:
    assert ORACLE.check(entry, what, first_fault=True).faults, f"agrees throughout; remove it from skips.toml: {DIFFERS[entry, what]}"
