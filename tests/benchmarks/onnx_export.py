"""Published models as nagraph exports them, beside PyTorch's own export of the same weights, under ONNX Runtime.

    python tests/benchmarks/onnx_export.py                       # all of them, at their true sizes
    python tests/benchmarks/onnx_export.py gpt2-124m --opset 23 --rounds 30

A row says how far the outputs are apart, as a share of the largest, the median time of both, and the median over rounds of the time of
nagraph's export as a multiple of that of PyTorch's. In each round both run, and PyTorch's once more in a session of its own: by how much
that ratio is off 1 says how noisy the machine is. With --threads 1 the time is that of the processor, which others on the machine
disturb less. Needs torch, transformers, onnxscript and onnxruntime.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import pathlib
import statistics
import sys
import tempfile
import time
import warnings
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers

import nagraph as ng

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from true_sizes import CASES, Case, save, tokens  # noqa: E402 - a file beside this one

#: The most that nagraph's export may take, as a multiple, and that outputs may be apart.
MOST, LIMIT = 1.05, 2e-5
#: A Llama that is small enough to be exported in the memory of a small machine.
SMALL_LLAMA = (("vocab_size", 8000), ("hidden_size", 1024), ("intermediate_size", 2816), ("num_hidden_layers", 6),
               ("num_attention_heads", 16), ("num_key_value_heads", 4))
MEASURED = {name: case for name, case in CASES.items() if case.write is None} | {
    "llama-94m": Case(("LlamaForCausalLM", "LlamaConfig"), CASES["llama-1.1b"].ours, tokens(1, 128, 8000), "logits",
                      CASES["llama-1.1b"].call, SMALL_LLAMA)}


class Output(torch.nn.Module):
    """One result of a model, by inputs in the order of their names."""

    def __init__(self, model: Any, names: list[str], output: str):
        super().__init__()
        self.model, self.names, self.output = model, names, output

    def forward(self, *arrays: Any) -> Any:
        given = dict(zip(self.names, arrays))
        if [*given] == ["input_ids"]:  # a language model
            given["use_cache"] = False
        return getattr(self.model(**given), self.output)


def export_theirs(model: Any, case: Case, inputs: dict[str, Any], path: str, opset: int) -> None:
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            tensors = tuple(map(torch.from_numpy, inputs.values()))
            torch.onnx.export(Output(model.eval(), [*inputs], case.output), tensors, path, dynamo=True, opset_version=opset, verbose=False,
                              input_names=[*inputs])
    finally:
        logging.disable(logging.NOTSET)


class Session:
    """A model under ONNX Runtime, with its inputs."""

    def __init__(self, path: str, inputs: dict[str, Any], threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {i.name: inputs[i.name] for i in self.session.get_inputs()}
        self.clock = time.process_time if threads == 1 else time.perf_counter

    def __call__(self) -> Any:
        return self.session.run(None, self.inputs)[0]

    def seconds(self) -> float:
        start = self.clock()
        self()
        return self.clock() - start


def measure(name: str, case: Case, opset: int, threads: int, rounds: int) -> bool:
    """Print a case's row; whether the outputs agree, and ours is fast enough."""
    torch.manual_seed(0)
    model_class, config_class = (getattr(transformers, n) for n in case.theirs)
    inputs = case.inputs(np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        save(model_class(config_class(**dict(case.options))), folder)
        export_theirs(model_class.from_pretrained(folder), case, inputs, f"{folder}/theirs.onnx", opset)

        def forward(model: Any, *arrays: Any) -> Any:
            return case.call(model, dict(zip(inputs, arrays)))

        specs = [ng.spec(x.shape, x.dtype) for x in inputs.values()]
        ng.export.onnx(forward, f"{folder}/ours.onnx", (case.ours.from_pretrained(folder), *specs), opset=opset, verify=False,
                       names={f"arrays[{i}]": n for i, n in enumerate(inputs)})
        theirs, ours = (Session(f"{folder}/{whose}.onnx", inputs, threads) for whose in ("theirs", "ours"))
        again = Session(f"{folder}/theirs.onnx", inputs, threads)
        expected, found = theirs(), ours()
        again()
        times = [(theirs.seconds(), ours.seconds(), again.seconds()) for _ in range(rounds)]
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    ratio, noise = (statistics.median(t[i] / t[0] for t in times) for i in (1, 2))
    spread = statistics.quantiles([t[2] / t[0] for t in times], n=10)
    middle = [1000 * statistics.median(t[i] for t in times) for i in (0, 1)]
    print(f"{name:<18}{error:>10.1e}{middle[0]:>10.1f} ms{middle[1]:>10.1f} ms{ratio:>8.3f}{noise:>11.3f}"
          f"  {spread[0]:.2f} to {spread[-1]:.2f}", flush=True)
    return error <= LIMIT and ratio <= MOST


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(MEASURED)}; all where none is named")
    parser.add_argument("--opset", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    names = given.cases or [*MEASURED]
    if unknown := set(names) - set(MEASURED):
        parser.error(f"no case is called {', '.join(sorted(unknown))}; there are {', '.join(MEASURED)}")
    print(f"{'model':<18}{'error':>10}{'PyTorch':>13}{'nagraph':>13}{'ratio':>8}{'noise':>11}  nine in ten")
    good = [measure(name, MEASURED[name], given.opset, given.threads, given.rounds) for name in names]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
