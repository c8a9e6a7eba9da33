"""Tokens a second of generation, beside Hugging Face's: `python tests/benchmarks/generation_speed.py`.

A GPT-2 as `nagraph train` has it (4 layers, width 104, context 128) and one of the smallest published size (124 million
parameters), with random weights: the likeliest token each time, after a prompt, with a cache and without, on one thread and
more. Hugging Face generates with a cache. All take turns in each round, so that what else the machine does counts for all;
shown are medians. The time until the first token, which is that of reading the prompt, is shown by itself. Ratios above 1
mean that nagraph is faster.
"""

import argparse
import itertools
import statistics
import time
from functools import partial

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table

import nagraph as ng
from nagraph.models.generation import generate
from nagraph.models.gpt2 import GPT2, GPT2Config

CONFIGS = {"small": GPT2Config(vocabulary=103, context=128, layers=4, heads=4, width=104), "124m": GPT2Config()}


def theirs(config):
    made = transformers.GPT2Config(vocab_size=config.vocabulary, n_positions=config.context, n_layer=config.layers, n_head=config.heads,
                                   n_embd=config.width, bos_token_id=None, eos_token_id=None)
    return transformers.GPT2LMHeadModel(made).eval()


def ours_timed(model, ids, length, cache, threads):
    """Seconds until the first token, and for each further one."""
    start = time.perf_counter()
    tokens = generate(model, ids, length, temperature=0, cache=cache, threads=threads)
    next(tokens)
    first = time.perf_counter()
    assert len(list(tokens)) == length - 1
    return first - start, (time.perf_counter() - first) / (length - 1)


class Clock(transformers.generation.streamers.BaseStreamer):
    """Notes when tokens come; the prompt comes first."""

    def __init__(self):
        self.times = []

    def put(self, value):
        self.times.append(time.perf_counter())

    def end(self):
        pass


def theirs_timed(model, ids, length, threads):
    torch.set_num_threads(threads)
    given, clock, start = torch.tensor(ids[None]), Clock(), time.perf_counter()
    model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=length, do_sample=False, use_cache=True, pad_token_id=0,
                   streamer=clock)
    assert len(clock.times) == 1 + length
    return clock.times[1] - start, (clock.times[-1] - clock.times[1]) / (length - 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(CONFIGS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=32, help="tokens of the prompt")
    parser.add_argument("--length", type=int, default=64, help="tokens that are generated; without a cache a sixteenth of them")
    options = parser.parse_args()
    table = Table("model", "threads", "generator", "first token", "each further", "tokens/s", "ratio")
    models = {name: (GPT2.init(ng.random.key(0), CONFIGS[name]), theirs(CONFIGS[name])) for name in options.names}
    for name, threads in itertools.product(options.names, options.threads):
        config, (model, other) = CONFIGS[name], models[name]
        ids = np.random.default_rng(0).integers(0, config.vocabulary, options.prompt)
        runs = {"nagraph, cache": partial(ours_timed, model, ids, options.length, True, threads),
                "nagraph, no cache": partial(ours_timed, model, ids, max(2, options.length // 16), False, threads),
                "Hugging Face, cache": partial(theirs_timed, other, ids, options.length, threads)}
        for run in runs.values():
            run()
        found = {label: [] for label in runs}
        for _ in range(options.rounds):
            for label, run in runs.items():
                found[label].append(run())
        medians = {label: [statistics.median(x) for x in zip(*times)] for label, times in found.items()}
        base = medians["Hugging Face, cache"][1]
        for label, (first, further) in medians.items():
            table.add_row(name, str(threads), label, f"{first * 1e3:.1f} ms", f"{further * 1e3:.2f} ms", f"{1 / further:.0f}",
                          f"{base / further:.2f}")
        table.add_section()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
