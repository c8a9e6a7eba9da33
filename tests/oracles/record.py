"""What the oracles ask and we answer: skips with their reasons, and the record of what agrees, which may only improve.

`skips.toml` is written by hand: for each oracle the entries that have no counterpart here, and the checks that are known to differ.
`record.tsv` is written by `python -m tests.oracles --record`, of the whole, and with `--cut` of the cut: for each entry and check, the
number of samples that agree, and what was left out how often.
"""

from __future__ import annotations

import csv
import functools
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).parent
RECORD = HERE / "record.tsv"
Key = tuple[str, str, str, str]  # oracle, "whole" or "cut", entry, check


@dataclass
class Outcome:
    """What came of a check: how many samples agree, what was left out and how often, and what is wrong."""

    agreed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class Oracle(Protocol):
    """A library, or a standard, that answers the same calls as we do."""

    name: str

    def cases(self) -> list[tuple[str, str]]:
        """Each entry that has a counterpart, with each check of it."""
        ...

    def cut(self) -> list[tuple[str, str]]:
        """Those of the cases that a cut asks, some for each entry; which, follows from the names."""
        ...

    def check(self, entry: str, what: str, *, cut: bool = False, first_fault: bool = False) -> Outcome:
        """The samples of an entry compared: a few of them for a cut, and not beyond the first fault if so asked."""
        ...


@functools.cache
def skips(oracle: str) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Reasons by entry that has no counterpart, and by (entry, check) that differs."""
    found = tomllib.loads((HERE / "skips.toml").read_text())[oracle]
    absent = {entry: reason for reason, entries in found.get("absent", {}).items() for entry in entries}
    differs = {(entry, check): reason for reason, lines in found.get("differs", {}).items()
               for line in lines for entry, *checks in [line.split()] for check in checks}
    return absent, differs


@functools.cache
def recorded() -> dict[Key, Outcome]:
    """The record as it is kept."""
    if not RECORD.exists():
        return {}
    with RECORD.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    found: dict[Key, Outcome] = {}
    for oracle, part, entry, check, agreed, left_out in rows:
        reasons = (reason.split(" × ", 1) for reason in left_out.split("; ") if reason)
        found[oracle, part, entry, check] = Outcome(int(agreed), Counter({k: int(n) for n, k in reasons}))
    return found


def write(found: dict[Key, Outcome]) -> None:
    """Keep these outcomes."""
    with RECORD.open("w", newline="") as file:
        lines = csv.writer(file, delimiter="\t", lineterminator="\n")
        for key, o in sorted(found.items()):
            lines.writerow([*key, o.agreed, "; ".join(f"{n} × {k}" for k, n in sorted(o.left_out.items()))])


def problems(key: Key, found: Outcome) -> list[str]:
    """Faults that no skip explains, a skip that nothing needs, and less agreement than recorded."""
    known, before = skips(key[0])[1].get(key[2:]), recorded().get(key)
    told = found.faults if known is None else []
    if known is not None and not found.faults and key[1] == "whole":
        told = [f"{' '.join(key)}: agrees throughout; remove its line from skips.toml ({known})"]
    if before is not None and found.agreed < before.agreed:
        told = [*told, f"{' '.join(key)}: {found.agreed} samples agree; the record has {before.agreed}"]
    return told


def check_cut(oracle: Oracle, entry: str) -> None:
    """The cut of one entry agrees, and no less than recorded, but for what skips.toml names."""
    told = [line for e, what in oracle.cut() if e == entry and (e, what) not in skips(oracle.name)[1]
            for line in problems((oracle.name, "cut", e, what), oracle.check(e, what, cut=True))]
    assert not told, "\n".join(told)


def check_table(oracle: Oracle) -> None:
    """Whatever agreed once is still asked."""
    gone = {key[2:] for key, o in recorded().items() if key[0] == oracle.name and o.agreed} - set(oracle.cases())
    assert not gone, "these agreed once; they may not go"
