"""A cut of the array API standard beside array-api-strict; the whole is `python -m tests.oracles array-api`."""

from __future__ import annotations

import array_api_strict as xp
import pytest

from tests.oracles.array_api.checks import ArrayApi
from tests.oracles.array_api.table import METHODS, ROWS
from tests.oracles.record import check_cut, check_table, skips

ORACLE = ArrayApi()
ABSENT, DIFFERS = skips("array-api")
#: The functions of the standard: what the strict namespace calls by name, but for its own switches.
STANDARD = {n for n in dir(xp) if not n.startswith("_") and callable(getattr(xp, n)) and not isinstance(getattr(xp, n), type)
            and "strict" not in n and getattr(getattr(xp, n), "__module__", "").startswith("array_api_strict")}


def test_every_function_has_a_row_or_a_reason() -> None:
    assert not ROWS.keys() & ABSENT.keys(), "these have a row now; remove them from skips.toml"
    assert ROWS.keys() <= STANDARD | {"round"}
    assert STANDARD <= ROWS.keys() | ABSENT.keys()


def test_what_agreed_is_still_asked() -> None:
    check_table(ORACLE)


@pytest.mark.parametrize("entry", [*ROWS, *METHODS])
def test_cut(entry: str) -> None:
    check_cut(ORACLE, entry)


@pytest.mark.parametrize("entry, way", sorted(DIFFERS))
def test_what_is_said_to_differ_differs(entry: str, way: str) -> None:
    assert ORACLE.check(entry, way).faults, f"agrees throughout; remove it from skips.toml: {DIFFERS[entry, way]}"
