"""A cut of derivatives beside JAX's; the whole is `python -m tests.oracles jax`."""

from __future__ import annotations

import pytest

from nagraph.composites.base import REGISTRY as COMPOSITES
from nagraph.ir import REGISTRY
from tests.oracles.jax_derivatives.checks import JaxDerivatives, ops_used
from tests.oracles.record import check_cut, check_table, skips

ORACLE = JaxDerivatives()
ABSENT, DIFFERS = skips("jax")


def test_every_op_is_used_or_has_a_reason() -> None:
    used, known = ops_used(), REGISTRY.keys() | COMPOSITES.keys()
    assert not used & ABSENT.keys(), "these are used now; remove them from skips.toml"
    assert known <= used | ABSENT.keys()


def test_what_agreed_is_still_asked() -> None:
    check_table(ORACLE)


@pytest.mark.parametrize("entry", dict.fromkeys(entry for entry, _ in ORACLE.cases()))
def test_cut(entry: str) -> None:
    check_cut(ORACLE, entry)


@pytest.mark.parametrize("entry, what", sorted(DIFFERS))
def test_what_is_said_to_differ_differs(entry: str, what: str) -> None:
    assert ORACLE.check(entry, what, first_fault=True).faults, f"agrees throughout; remove it from skips.toml: {DIFFERS[entry, what]}"
