"""Golden numbers of train steps' kernels: none spills, and what changes is told."""

from __future__ import annotations

from nagraph.models import CLASSES
from tests.gpu.golden import ARCHITECTURES, differences, golden


def test_no_kernel_spills_and_every_model_has_all_architectures():
    known = golden()
    assert len(known) > 200 and not [row for row in known.values() if row.spilled_nbytes or not 0 < row.registers <= 255]
    assert {(m, a) for m, a, _ in known} == {(m, a) for m in CLASSES for a in ARCHITECTURES}


def test_what_changes_is_told():
    known = golden()
    row = next(iter(known.values()))
    assert list(differences([row], known)) == []
    (more,) = differences([row._replace(registers=row.registers + 1)], known)
    assert f"{row.registers + 1} registers" in more and f"they were {row.registers} and" in more
    (spill, *_) = differences([row._replace(spilled_nbytes=8)], known)
    assert "spills 8 bytes" in spill
    assert "is not in golden.tsv" in next(differences([row._replace(kernel="other")], known))
