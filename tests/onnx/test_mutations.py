"""Some damaged models; many more are `python -m tests.onnx.mutations`."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from tests.onnx.models import MODELS, written
from tests.onnx.mutations import mutated, read

COUNT = 40


def test_damaged_models_are_read_or_refused_in_a_sentence(tmp_path: Path) -> None:
    for name in MODELS:
        assert read(written(name), tmp_path) == ("read", ""), name
    outcomes = []
    tracemalloc.start()
    try:
        for seed in range(COUNT):
            what, data = mutated(seed)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            outcome, told = read(data, tmp_path)
            assert outcome != "fault", f"seed {seed}, {what}: {told}"
            assert tracemalloc.get_traced_memory()[1] - before < 2 * len(data) + (64 << 20), f"seed {seed}, {what}"
            outcomes.append(outcome)
    finally:
        tracemalloc.stop()
    assert outcomes.count("refused") > COUNT // 4 and outcomes.count("read") > COUNT // 10
