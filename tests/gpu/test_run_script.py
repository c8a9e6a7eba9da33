"""`tests/gpu/run.sh` where there is no device: it is well-formed, says what is missing, and reports what there is."""

import json
import pathlib
import shutil
import subprocess

import pytest

from tests.gpu import speed

SCRIPT = pathlib.Path(__file__).with_name("run.sh")
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def test_it_is_a_script():
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0
    said = subprocess.run(["bash", SCRIPT, "--help"], capture_output=True, text=True)
    assert said.returncode == 2 and "tests/gpu/run.sh [--out FOLDER]" in said.stderr


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a device")
def test_without_a_driver_it_says_so_and_leaves_no_environment(tmp_path):
    said = subprocess.run(["bash", SCRIPT, "--out", tmp_path / "out"], capture_output=True, text=True)
    assert said.returncode == 1 and said.stderr == "there is no NVIDIA driver here: nvidia-smi is missing\n"
    assert not (tmp_path / "out" / "venv").exists()


def test_the_report_names_what_ran_and_what_did_not(tmp_path, capsys):
    (tmp_path / "device.txt").write_text("NVIDIA H200, 580.1, 143771 MiB\n")
    (tmp_path / "parts.tsv").write_text("ops and models\tpassed\t80 s\ncompute-sanitizer memcheck\tleft out\tit is not installed\n")
    ours = {"ms": 2.0, "roof": 0.5, "machine": "H200, measured"}
    cells = {"nagraph": ours, "torch_eager": {"ms": 3.0}, "jax": {"error": "jax is not installed"}}
    (tmp_path / "speed.json").write_text(json.dumps({"gpt2": cells, "mlp": {"nagraph": {"error": "it failed"}}}))
    speed.report(tmp_path)
    shown = (tmp_path / "report.md").read_text()
    assert "| gpt2 | 2.00 | 3.00 | jax is not installed | 1.50 | 50% |" in shown and "| mlp | it failed |" in shown
    assert "H200, measured" in shown
    assert "| compute-sanitizer memcheck | left out | it is not installed |" in shown
    assert json.loads((tmp_path / "report.json").read_text())["speed"]["gpt2"]["torch_eager"] == {"ms": 3.0}


def test_a_process_that_fails_is_told_in_one_line():
    found = speed._process("nagraph", "no such model", None, 60)
    assert list(found) == ["error"] and 5 < len(found["error"]) <= 200
