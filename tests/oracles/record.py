"""What the oracles ask and we answer: skips with their reasons, and the record of what agrees, which may only improve.

`skips.toml` is written by hand: for each oracle the entries that have no counterpart here, and the checks that are known to differ.
`record.tsv` is written by `python -m tests.oracles --record`: for each entry and check, the number of samples that agree, and what was
left out how often.
"""

from __future__ import annotations

import csv
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).parent
RECORD = HERE / "record.tsv"
Key = tuple[str, str, str]  # oracle, entry, check


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

    def check(self, entry: str, what: str, *, cut: bool = False, first_fault: bool = False) -> Outcome:
        """The samples of an entry compared: a few of them for a cut, and not beyond the first fault if so asked."""
        ...


def skips(oracle: str) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Reasons by entry that has no counterpart, and by (entry, check) that differs."""
    found = tomllib.loads((HERE / "skips.toml").read_text())[oracle]
    absent = {entry: reason for reason, entries in found.get("absent", {}).items() for entry in entries}
    differs = {(entry, check): reason for reason, lines in found.get("differs", {}).items()
               for line in lines for entry, *checks in [line.split()] for check in checks}
    return absent, differs


def recorded() -> dict[Key, Outcome]:
    """The record as it is kept."""
    if not RECORD.exists():
        return {}
    with RECORD.open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    return {(r[0], r[1], r[2]): Outcome(int(r[3]), Counter({k: int(n) for n, k in (p.split(" × ", 1) for p in r[4].split("; ") if p)}))
            for r in rows}


def write(found: dict[Key, Outcome]) -> None:
    """Keep these outcomes."""
    with RECORD.open("w", newline="") as file:
        lines = csv.writer(file, delimiter="\t", lineterminator="\n")
        for key, o in sorted(found.items()):
            lines.writerow([*key, o.agreed, "; ".join(f"{n} × {k}" for k, n in sorted(o.left_out.items()))])


def problems(oracle: str, found: dict[Key, Outcome]) -> list[str]:
    """Faults that no skip explains, skips that nothing needs, and checks that agree less often than recorded."""
    _, differs = skips(oracle)
    before = recorded()
    told: list[str] = []
    for key, o in found.items():
        known = differs.get(key[1:])
        if o.faults and known is None:
            told += o.faults
        if not o.faults and known is not None:
            told.append(f"{' '.join(key)}: agrees throughout; remove its line from skips.toml ({known})")
        if key in before and o.agreed < before[key].agreed:
            told.append(f"{' '.join(key)}: {o.agreed} samples agree; the record has {before[key].agreed}")
    return told
