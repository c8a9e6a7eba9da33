"""A cut of derivatives beside JAX's; the whole is `python -m tests.oracles jax`."""

from __future__ import annotations

import zlib

import pytest

from nagraph.composites.base import REGISTRY as COMPOSITES
from nagraph.ir import REGISTRY
from tests.oracles import record
from tests.oracles.jax_derivatives.checks import MODES, JaxDerivatives, ops_used

ORACLE = JaxDerivatives()
CASES = ORACLE.cases()
ABSENT, DIFFERS = record.skips("jax")
ENTRIES = list(dict.fromkeys(entry for entry, _ in CASES))


def chosen(entry: str) -> list[str]:
    """Reverse mode in float32, second order in float64, and one mode in a 16-bit dtype."""
    turn = zlib.crc32(entry.encode())
    return ["reverse:float32", f"{MODES[3 + turn % 2]}:float64", f"{MODES[1 + turn // 2 % 2]}:{('float16', 'bfloat16')[turn // 4 % 2]}"]


def test_every_op_is_used_or_has_a_reason() -> None:
    used, all_ = ops_used(), REGISTRY.keys() | COMPOSITES.keys()
    assert not used & ABSENT.keys(), "these are used now; remove them from skips.toml"
    assert all_ <= used | ABSENT.keys()


def test_the_record_is_of_this_table() -> None:
    recorded = {key[1:] for key, o in record.recorded().items() if key[0] == "jax" and o.agreed}
    assert recorded <= set(CASES), "these agreed once; they may not go"


@pytest.mark.parametrize("entry", ENTRIES)
def test_cut(entry: str) -> None:
    told: list[str] = []
    for what in chosen(entry):
        if (entry, what) not in DIFFERS:
            told += ORACLE.check(entry, what, cut=True).faults
    assert not told, "\n".join(told)


@pytest.mark.parametrize("entry, what", sorted(DIFFERS))
def test_what_is_said_to_differ_differs(entry: str, what: str) -> None:
    assert ORACLE.check(entry, what, first_fault=True).faults, f"agrees throughout; remove it from skips.toml: {DIFFERS[entry, what]}"
