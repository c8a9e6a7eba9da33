"""Times of training steps on a GPU beside PyTorch's and JAX's, as JSON and Markdown. `tests/gpu/run.sh` runs it.

    python -m tests.gpu.speed --out FOLDER --peers FOLDER   the eight models of that benchmark, and GPT-2 124M in float32 and bfloat16
    python -m tests.gpu.speed --out FOLDER                  our own models alone
    python -m tests.gpu.speed --report --out FOLDER         report.json and report.md, of what is there

Each column of each row is a process of its own, with a limit of time; what fails or is not there is named in the report. All columns
start from the same weights and see the same batches; a step is forward, backward and AdamW, and ends when its loss is read.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

COLUMNS = ("nagraph", "torch_eager", "torch_compile", "jax")
#: GPT-2 of 124 million parameters, and the batch.
LARGE = dict(kind="gpt", vocab=50304, d=768, layers=12, heads=12, ctx=1024, batch=8, tied=True)
#: Rows of the benchmark's folder, the most telling first: time may be up before the last.
ROWS = ("gpt2_124m", "gpt2_124m_bf16", "gpt2_big", "gpt2", "resnet", "bert", "modern", "vit", "clip", "mlp")
#: Seconds of all, of one process, of measuring in it; steps before that.
ALL_SECONDS, ONE_SECONDS, MEASURED_SECONDS, WARM = 150.0, 40.0, 1.5, 4


# -- one column of one row, in its own process -------------------------------------------------------------------------------------


def step_of(column: str, row: str, peers: bool) -> tuple[Callable[[], float], Callable[[float], dict[str, Any]]]:
    """A training step, which gives its loss, and a function that tells more of it once the seconds of a step are known."""
    if not peers:
        return _own_step(row)
    half = row.endswith("_bf16")
    configs = importlib.import_module("configs")
    if row.startswith("gpt2_124m"):
        configs.CONFIGS[row] = LARGE
    if column == "nagraph":
        import nagraph as ng
        from tests.benchmarks import peers_adapter

        if half:
            plain = configs.init_params
            configs.init_params = lambda name: {n: a.astype(ng.bfloat16) for n, a in plain(name).items()}
        step = peers_adapter.Adapter(1, "cuda").train(row)
        return step, lambda seconds: _roof(step.executable(), step.arguments(), seconds)  # type: ignore[attr-defined]
    if column == "jax":
        import jax.numpy as jnp

        if half:
            asarray = jnp.asarray
            jnp.asarray = lambda a, *args, **kw: asarray(a, *args, **kw).astype(jnp.bfloat16) if np.asarray(a).dtype == np.float32 else (
                asarray(a, *args, **kw))
        return importlib.import_module("jax_models").Adapter(1).train(row), lambda seconds: {}
    import torch

    from_numpy = torch.from_numpy
    torch.set_default_device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.from_numpy = lambda a: from_numpy(a).cuda().to(torch.bfloat16) if half and a.dtype == np.float32 else from_numpy(a).cuda()
    return importlib.import_module("torch_models").Adapter(1, column).train(row), lambda seconds: {}


def _own_step(row: str) -> tuple[Callable[[], float], Callable[[float], dict[str, Any]]]:
    """A training step of one of our models, at the sizes of its recipe."""
    from nagraph.models.workloads import workload

    work = workload(row, "train")
    call = work.calls("cuda")

    def step() -> float:
        call()
        return 0.0

    return step, lambda seconds: _roof(work.executable("cuda"), work.arrays(), seconds)


def _roof(executable: Any, arrays: Any, seconds: float) -> dict[str, Any]:
    """The share of the measured roofline that a step reaches, and its launches."""
    profile = executable.profile(*arrays, repeats=2)
    return {"roof": sum(r.least_seconds for r in profile) / seconds, "launches": sum(r.calls for r in profile),
            "machine": str(profile.machine), "table": profile.table(12)}


def one(column: str, row: str, peers: bool) -> dict[str, Any]:
    """What one process measures."""
    began = time.perf_counter()
    step, more = step_of(column, row, peers)
    losses = [step()]
    first = time.perf_counter() - began
    losses += [step() for _ in range(WARM)]
    times: list[float] = []
    while len(times) < 5 or (sum(times) < MEASURED_SECONDS and len(times) < 500):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    seconds = statistics.median(times)
    return {"ms": seconds * 1e3, "best_ms": min(times) * 1e3, "steps": len(times), "first_s": first, "losses": losses, **more(seconds)}


# -- all of them, and the report ----------------------------------------------------------------------------------------------------------


def measure(peers: str | None, out: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Every column of every row, as far as time allows; kept in speed.json after each."""
    began, found = time.monotonic(), dict[str, dict[str, Any]]()
    from nagraph.models import CLASSES

    rows, columns = (ROWS, COLUMNS) if peers else (tuple(CLASSES), COLUMNS[:1])
    for row in rows:
        for column in columns:
            library = {"nagraph": "nagraph", "jax": "jax"}.get(column, "torch")
            left = ALL_SECONDS - (time.monotonic() - began)
            cell: dict[str, Any]
            if importlib.util.find_spec(library) is None:
                cell = {"error": f"{library} is not installed"}
            elif left < 8:
                cell = {"error": "no time was left"}
            else:
                cell = _process(column, row, peers, min(left, ONE_SECONDS))
            found.setdefault(row, {})[column] = cell
            print(row, column, cell.get("error") or f"{cell['ms']:.3f} ms", flush=True)
            (out / "speed.json").write_text(json.dumps(found, indent=1))
    return found


def _process(column: str, row: str, peers: str | None, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.gpu.speed", "--one", column, row, *(["--peers", peers] if peers else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {seconds:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def report(out: pathlib.Path) -> None:
    """report.json and report.md: the device, the parts of the run, the table of times."""
    def read(name: str) -> str:
        return (out / name).read_text() if (out / name).exists() else ""

    parts = [line.split("\t") for line in read("parts.tsv").splitlines()]
    speed = json.loads(read("speed.json") or "{}")
    (out / "report.json").write_text(json.dumps({"device": read("device.txt").strip(), "parts": parts, "speed": speed}, indent=1))
    lines = ["# The CUDA backend on a device", "", read("device.txt").strip(), "", "| part | result | time |", "|---|---|---|"]
    lines += [f"| {' | '.join(p)} |" for p in parts]
    if speed:
        columns = list(dict.fromkeys(c for cells in speed.values() for c in cells))
        lines += ["", "Milliseconds of a training step, the median; best peer / nagraph; the share of the device's measured roofline.", "",
                  f"| model | {' | '.join(columns)} | best peer / nagraph | roof |", f"|---|{'---|' * (len(columns) + 2)}"]
        for row, cells in speed.items():
            ours, theirs = cells.get("nagraph", {}), [c["ms"] for n, c in cells.items() if n != "nagraph" and "ms" in c]
            shown = [f"{cells[c]['ms']:.2f}" if "ms" in cells.get(c, {}) else cells.get(c, {}).get("error", "")[:60] for c in columns]
            ratio = f"{min(theirs) / ours['ms']:.2f}" if theirs and "ms" in ours else ""
            lines.append(f"| {row} | {' | '.join(shown)} | {ratio} | {ours['roof']:.0%} |" if "roof" in ours else
                         f"| {row} | {' | '.join(shown)} | {ratio} | |")
        machine = next((c["nagraph"]["machine"] for c in speed.values() if "machine" in c.get("nagraph", {})), "")
        lines += ["", machine]
    (out / "report.md").write_text("\n".join([*lines, ""]))
    print((out / "report.md").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/gpu"))
    parser.add_argument("--peers", help="the folder of the benchmark beside other frameworks (configs.py, torch_models.py, jax_models.py)")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("COLUMN", "ROW"))
    given = parser.parse_args()
    if given.peers:
        sys.path.insert(0, given.peers)
    if given.one:
        print(json.dumps(one(*given.one, bool(given.peers))))
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    if given.report:
        report(given.out)
        return 0
    found = measure(given.peers, given.out)
    return 0 if all("ms" in cells["nagraph"] for cells in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
