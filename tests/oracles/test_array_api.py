"""A cut of the array API standard beside array-api-strict; the whole is `python -m tests.oracles array-api`."""

from __future__ import annotations

import array_api_strict as xp
import pytest

from tests.oracles import record
from tests.oracles.array_api.checks import ArrayApi
from tests.oracles.array_api.table import ROWS

ORACLE = ArrayApi()
CASES = ORACLE.cases()
ABSENT, DIFFERS = record.skips("array-api")
#: The functions of the standard: what the strict namespace calls by name, but for its own switches.
STANDARD = {n for n in dir(xp) if not n.startswith("_") and callable(getattr(xp, n)) and not isinstance(getattr(xp, n), type)
            and "strict" not in n and getattr(getattr(xp, n), "__module__", "").startswith("array_api_strict")}


def test_every_function_has_a_row_or_a_reason() -> None:
    assert not ROWS.keys() & ABSENT.keys(), "these have a row now; remove them from skips.toml"
    assert ROWS.keys() <= STANDARD | {"round"}
    assert STANDARD <= ROWS.keys() | ABSENT.keys()


def test_the_record_is_of_this_table() -> None:
    recorded = {key[1:] for key, o in record.recorded().items() if key[0] == "array-api" and o.agreed}
    assert recorded <= set(CASES), "these agreed once; they may not go"


@pytest.mark.parametrize("entry, way", [c for c in CASES if c not in DIFFERS and c[1] != "jit-numpy"])
def test_cut(entry: str, way: str) -> None:
    faults = ORACLE.check(entry, way, cut=True).faults
    assert not faults, faults[0]


@pytest.mark.parametrize("entry, way", sorted(DIFFERS))
def test_what_is_said_to_differ_differs(entry: str, way: str) -> None:
    assert ORACLE.check(entry, way).faults, f"agrees throughout; remove it from skips.toml: {DIFFERS[entry, way]}"
