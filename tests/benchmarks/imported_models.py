"""Models as PyTorch exports them, imported, beside ONNX Runtime: `python tests/benchmarks/imported_models.py [MODEL ...]`.

The eight architectures of `tests/oracles/onnx_backend/exported.py` at middling sizes, with random weights, two threads.
Blocks of calls alternate in one process, so that what disturbs one disturbs the other; a ratio above 1 says that nagraph is faster.
Needs torch, onnxscript, transformers and onnxruntime. Exports are kept in --folder: making them takes most of the time.
"""

import argparse
import functools
import math
import pathlib
import statistics
import tempfile
import time

import onnxruntime
import torch
import transformers as hf
from rich.console import Console
from rich.table import Table

import nagraph as ng
from tests.oracles.onnx_backend.exported import MODELS, Encoded, Part, export, ids, image, named

TEXT = dict(vocab_size=1000, hidden_size=256, num_hidden_layers=4, num_attention_heads=8, intermediate_size=1024)
VISION = dict(hidden_size=192, num_hidden_layers=4, num_attention_heads=6, intermediate_size=768, image_size=64, patch_size=8)
SIZED = {
    "gpt2": lambda: (Part(hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=1000, n_positions=64, n_embd=256, n_layer=4, n_head=8)), "logits",
                          use_cache=False), (ids(1000, 4, 64),)),
    "bert": lambda: (Part(hf.BertModel(hf.BertConfig(**TEXT)), "last_hidden_state"),
                     (ids(1000, 4, 64), torch.ones(4, 64, dtype=torch.int64))),
    "vit": lambda: (Part(hf.ViTForImageClassification(hf.ViTConfig(**VISION)), "logits"), (image(4, 3, 64, 64),)),
    "clip": lambda: (Part(hf.CLIPModel(hf.CLIPConfig(text_config=dict(TEXT, max_position_embeddings=32, eos_token_id=999, bos_token_id=0,
                                                                      pad_token_id=1), vision_config=VISION, projection_dim=128)),
                          "logits_per_image"), (ids(1000, 4, 32), image(4, 3, 64, 64))),
    "resnet": lambda: (Part(hf.ResNetForImageClassification(hf.ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 128, 256],
                                                                            depths=[2, 2, 2, 2], layer_type="basic")), "logits"),
                       (image(4, 3, 64, 64),)),
    "llama": lambda: (Part(hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT, num_key_value_heads=4, max_position_embeddings=64)), "logits",
                           use_cache=False), (ids(1000, 4, 64),)),
    "t5": lambda: (Encoded(hf.T5ForConditionalGeneration(hf.T5Config(vocab_size=1000, d_model=256, d_kv=32, d_ff=1024, num_layers=4,
                                                                     num_heads=8, decoder_start_token_id=0))),
                   (ids(1000, 4, 64), ids(1000, 4, 32))),
    "mamba": lambda: (Part(hf.MambaForCausalLM(hf.MambaConfig(vocab_size=1000, hidden_size=128, state_size=16, num_hidden_layers=2)),
                           "logits", use_cache=False), (ids(1000, 2, 32),)),
}
assert SIZED.keys() == MODELS.keys()
#: Calls of a block, and seconds before one.
BLOCK, PAUSE = 8, 0.05


def best_and_median(seconds, *calls):
    """For each call the best time and the median, of blocks of calls that alternate for so many seconds, five blocks of each at least.

    Before a block nothing runs for a while: threads of the other side may still look for work, on cores that this one wants.
    """
    times = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while len(times[0]) < 5 * BLOCK or time.perf_counter() < end:
        for call, found in zip(calls, times):
            time.sleep(PAUSE)
            call()
            for _ in range(BLOCK):
                start = time.perf_counter()
                call()
                found.append(time.perf_counter() - start)
    return [(min(t) * 1e3, statistics.median(t) * 1e3) for t in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(SIZED)}; all if none is named")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "nagraph-imported-models")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each model")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    table = Table("model", "nagraph, ms", "ONNX Runtime, ms", "ratio of medians", "of the best", "first call, s", "difference")
    ratios = []
    for name in options.models or SIZED:
        path = options.folder / f"{name}.onnx"
        arrays = named(SIZED[name]()[1])
        if not path.exists():
            export(SIZED[name], path)
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        start = time.perf_counter()
        graph = ng.from_onnx(path)
        run = ng.compile(graph, threads=options.threads)
        given = [arrays[n] for n in graph.input_names]
        (found, *_), (expected, *_) = run(*given), session.run(None, arrays)
        first = time.perf_counter() - start
        calls = functools.partial(run, *given), functools.partial(session.run, None, arrays)
        (ours, our), (theirs, their) = best_and_median(options.seconds, *calls)
        ratios.append(their / our)
        apart = abs(found - expected).max() / max(1, abs(expected).max())
        table.add_row(name, f"{our:.2f}", f"{their:.2f}", f"{their / our:.2f}", f"{theirs / ours:.2f}", f"{first:.2f}", f"{apart:.0e}")
    Console().print(table)
    print(f"geometric mean of the ratios of medians: {math.exp(statistics.mean(map(math.log, ratios))):.2f}")


if __name__ == "__main__":
    main()
