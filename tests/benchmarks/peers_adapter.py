"""Eight models and some single operations for the benchmark against other frameworks, which is a folder of its own.

    python FOLDER/run.py --plugin nagraph=peers_adapter         # with tests/benchmarks on PYTHONPATH
    python tests/benchmarks/peers_adapter.py --peers FOLDER     # losses and results beside PyTorch's, nothing timed

The folder's `configs` has the sizes, the weights, the batches and the optimiser's settings. A column may name its backend:
`--plugin llvm=peers_adapter:llvm`; with any other name it has the default one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.backends import BACKENDS
from nagraph.models.operations import OPERATIONS
from nagraph.nn import functional as F
from nagraph.nn.losses import cross_entropy

Array = Any
Parameters = dict[str, Array]
Sizes = dict[str, Any]


# -- parts --------------------------------------------------------------------------------------------


def linear(p: Parameters, name: str, x: Array) -> Array:
    return x @ p[name + ".w"] + p[name + ".b"]


def layer_norm(p: Parameters, name: str, x: Array) -> Array:
    return F.layer_norm(x, p[name + ".g"], p[name + ".b"])


def heads(qkv: Array, count: int) -> tuple[Array, ...]:
    """Queries, keys and values, each [batch, heads, time, width / heads]."""
    return tuple(ng.nn.split_heads(part, count) for part in np.split(qkv, 3, axis=-1))


def block(p: Parameters, at: str, x: Array, count: int, gelu: Callable[[Array], Array], *, causal: bool = False,
          post: bool = False) -> Array:
    """A transformer block; its norms come before attention and perceptron, or, where `post`, after each sum."""

    def attention(x: Array) -> Array:
        return linear(p, at + "proj", ng.nn.join_heads(F.attention(*heads(linear(p, at + "qkv", x), count), causal=causal)))

    def perceptron(x: Array) -> Array:
        return linear(p, at + "fc2", gelu(linear(p, at + "fc1", x)))

    if post:
        x = layer_norm(p, at + "ln1", x + attention(x))
        return layer_norm(p, at + "ln2", x + perceptron(x))
    x = x + attention(layer_norm(p, at + "ln1", x))
    return x + perceptron(layer_norm(p, at + "ln2", x))


def vision_tower(p: Parameters, at: str, c: Sizes, images: Array) -> Array:
    """The class token of a vision transformer, [batch, width], of images [batch, channels, height, width]."""
    batch, channels, size, _ = images.shape
    patch = c["patch"]
    n = size // patch
    x = images.reshape(batch, channels, n, patch, n, patch).transpose(0, 2, 4, 1, 3, 5)
    x = linear(p, at + "patch", x.reshape(batch, n * n, channels * patch * patch))
    first = np.broadcast_to(p[at + "cls"], (batch, 1, c["d"]))
    x = np.concatenate([first, x], axis=1) + p[at + "pos"]
    for i in range(c["layers"]):
        x = block(p, f"{at}blocks.{i}.", x, c["heads"], F.gelu)
    return layer_norm(p, at + "lnf", x[:, 0])


def unit(x: Array) -> Array:
    """Rows of length one."""
    return x / np.maximum(np.sqrt((x * x).sum(axis=-1, keepdims=True)), 1e-12)


# -- models: outputs of parameters and inputs ------------------------------------------------------------


def gpt(c: Sizes, p: Parameters, tokens: Array) -> Array:
    x = p["tok"][tokens] + p["pos"]
    for i in range(c["layers"]):
        x = block(p, f"blocks.{i}.", x, c["heads"], F.gelu_tanh, causal=True)
    x = layer_norm(p, "lnf", x)
    return x @ p["tok"].T if c["tied"] else linear(p, "head", x)


def vit(c: Sizes, p: Parameters, images: Array) -> Array:
    return linear(p, "head", vision_tower(p, "", c, images))


def bert(c: Sizes, p: Parameters, tokens: Array, segments: Array) -> Array:
    x = layer_norm(p, "lne", p["tok"][tokens] + p["pos"] + p["type"][segments])
    for i in range(c["layers"]):
        x = block(p, f"blocks.{i}.", x, c["heads"], F.gelu, post=True)
    return linear(p, "head", np.tanh(linear(p, "pool", x[:, 0])))


def clip(c: Sizes, p: Parameters, images: Array, tokens: Array) -> Array:
    """Similarity of each image to each text."""
    seen = vision_tower(p, "img.", c, images) @ p["img.proj.w"]
    x = p["txt.tok"][tokens] + p["txt.pos"]
    for i in range(c["layers"]):
        x = block(p, f"txt.blocks.{i}.", x, c["heads"], F.gelu, causal=True)
    read = layer_norm(p, "txt.lnf", x[:, -1]) @ p["txt.proj.w"]
    return np.exp(p["scale"]) * (unit(seen) @ unit(read).T)


def modern(c: Sizes, p: Parameters, tokens: Array) -> Array:
    cos, sin = F.rope_tables(c["ctx"], c["d"] // c["heads"])
    x = p["tok"][tokens]
    for i in range(c["layers"]):
        at = f"blocks.{i}."
        q, k, v = heads(F.rms_norm(x, p[at + "n1.g"]) @ p[at + "qkv.w"], c["heads"])
        x = x + ng.nn.join_heads(F.attention(F.rope(q, cos, sin), F.rope(k, cos, sin), v, causal=True)) @ p[at + "proj.w"]
        gate, up = np.split(F.rms_norm(x, p[at + "n2.g"]) @ p[at + "gateup.w"], 2, axis=-1)
        x = x + (F.silu(gate) * up) @ p[at + "down.w"]
    return F.rms_norm(x, p["nf.g"]) @ p["head.w"]


def mlp(c: Sizes, p: Parameters, x: Array) -> Array:
    last = len(c["dims"]) - 2
    for i in range(last):
        x = F.relu(linear(p, f"l{i}", x))
    return linear(p, f"l{last}", x)


def resnet(c: Sizes, p: Parameters, images: Array, stats: Parameters, training: bool = False) -> tuple[Array, Parameters]:
    """The outputs, and the running statistics, which move when training."""
    moved = dict(stats)

    def conv_norm(x: Array, name: str, stride: int = 1) -> Array:
        w, g, b = (p[f"{name}.{part}"] for part in "wgb")
        norm = ng.nn.BatchNorm(g, b, stats[name + ".rm"], stats[name + ".rv"])
        x = F.conv(x, w, stride, padding=w.shape[-1] // 2)
        if not training:
            return norm(x)
        x, norm = norm(x, training=True)
        moved[name + ".rm"], moved[name + ".rv"] = norm.running_mean, norm.running_var
        return x

    x, channels = F.relu(conv_norm(images, "stem")), c["widths"][0]
    for i, (width, blocks) in enumerate(zip(c["widths"], c["blocks"])):
        for j in range(blocks):
            at, stride = f"s{i}.{j}.", 2 if i and not j else 1
            y = conv_norm(F.relu(conv_norm(x, at + "c1", stride)), at + "c2")
            x = F.relu(y + (x if channels == width else conv_norm(x, at + "sc", stride)))
            channels = width
    return linear(p, "head", x.mean(axis=(2, 3))), moved


MODELS: dict[str, Callable[..., Array]] = {"gpt": gpt, "vit": vit, "bert": bert, "clip": clip, "modern": modern, "mlp": mlp}


def forward(c: Sizes, p: Parameters, stats: Parameters, *inputs: Array, training: bool = False) -> tuple[Array, Parameters]:
    """The outputs of a model of these sizes, and its running statistics."""
    if c["kind"] == "resnet":
        (images,) = inputs
        return resnet(c, p, images, stats, training)
    return MODELS[c["kind"]](c, p, *inputs), stats


def loss(c: Sizes, p: Parameters, stats: Parameters, *batch: Array) -> tuple[Array, Parameters]:
    """Cross entropy, of CLIP in both directions, and the running statistics."""
    if c["kind"] == "clip":
        out, stats = forward(c, p, stats, *batch, training=True)
        labels = np.arange(len(out))
        return 0.5 * (cross_entropy(out, labels) + cross_entropy(out.T, labels)), stats
    *inputs, labels = batch
    out, stats = forward(c, p, stats, *inputs, training=True)
    return cross_entropy(out, labels), stats


# -- the adapter -----------------------------------------------------------------------------------------


class Adapter:
    """What the benchmark calls: functions that compute one result, or one training step, when called."""

    def __init__(self, threads: int, variant: str = ""):
        self.options = {"threads": threads, "backend": variant if variant in BACKENDS else None}

    def infer(self, name: str) -> tuple[Callable[[], Array], Callable[[Array], Array]]:
        import configs

        sizes, p, stats = configs.CONFIGS[name], configs.init_params(name), configs.init_state(name)
        inputs = configs.make_batch(name)[:configs.n_inputs(name)]

        def outputs(p: Parameters, stats: Parameters, *inputs: Array) -> Array:
            return forward(sizes, p, stats, *inputs)[0]

        run = ng.jit(outputs, **self.options)
        return lambda: run(p, stats, *inputs), np.asarray

    def train(self, name: str) -> Callable[[], float]:
        import configs

        sizes, o = configs.CONFIGS[name], configs.OPT
        optimizer = ng.optim.AdamW(o["lr"], o["b1"], o["b2"], o["eps"], o["wd"])
        p, stats = configs.init_params(name), configs.init_state(name)
        state = optimizer.init(p)
        batches = [configs.make_batch(name, i) for i in range(5)]
        done = 0

        def update(p: Parameters, state: Any, stats: Parameters, *batch: Array) -> Any:
            (value, stats), gradients = ng.value_and_grad(lambda p: loss(sizes, p, stats, *batch), has_aux=True)(p)
            return *optimizer.update(p, gradients, state), stats, value

        run = ng.jit(update, donate_argnames=("p", "state", "stats"), **self.options)

        def step() -> float:
            nonlocal p, state, stats, done
            p, state, stats, value = run(p, state, stats, *batches[done % len(batches)])
            done += 1
            return float(ng.to_numpy(value))

        step.arguments = lambda: [x for x in ng.tree.leaves((p, state, stats, *batches[0])) if x is not None]  # type: ignore[attr-defined]
        step.executable = lambda: run.lower(p, state, stats, *batches[0]).executable  # type: ignore[attr-defined]
        return step

    def micro(self, name: str) -> tuple[Callable[[], Array], Callable[[Array], Array]]:
        import configs

        inputs = configs.micro_inputs(name)
        run = ng.jit(next(f for start, f in OPERATIONS.items() if name.startswith(start)), **self.options)
        return lambda: run(*inputs), np.asarray


# -- the check -------------------------------------------------------------------------------------------


def difference(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest entry."""
    x, y = (np.asarray(v, np.float64) for v in (found, expected))
    assert x.shape == y.shape, (x.shape, y.shape)
    return float(np.abs(x - y).max() / np.abs(y).max())


def check(names: list[str], variant: str, threads: int, steps: int) -> bool:
    """Whether all results, and the losses of some training steps, agree with PyTorch's: within 1e-5, losses of ResNet 2e-4."""
    import configs
    import torch_models

    ours, theirs = Adapter(threads, variant), torch_models.Adapter(threads)
    good = True

    def report(what: str, found: float, bound: float) -> None:
        nonlocal good
        good &= found <= bound
        print(f"{what:<30} {found:.1e}{'' if found <= bound else f'  more than {bound}'}", flush=True)

    for name in names:
        task = "infer" if name in configs.CONFIGS else "micro"
        found, expected = (array(run()) for run, array in (getattr(each, task)(name) for each in (ours, theirs)))
        report(f"{name}: results", difference(found, expected), 1e-5)
        if task == "infer" and steps:
            step, peer_step = ours.train(name), theirs.train(name)
            worst = max(difference(step(), peer_step()) for _ in range(steps))
            report(f"{name}: losses of {steps} steps", worst, 2e-4 if name == "resnet" else 1e-5)
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, metavar="FOLDER", help="the folder that holds configs.py and torch_models.py")
    parser.add_argument("--only", help="names of models and operations, with commas between")
    parser.add_argument("--backend", default="", help=f"{' or '.join(BACKENDS)}; the default one where it is left out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="training steps of each model")
    given = parser.parse_args()
    sys.path.insert(0, given.peers)
    import configs

    names = given.only.split(",") if given.only else [*configs.MODELS, *configs.MICRO]
    sys.exit(not check(names, given.backend, given.threads, given.steps))


if __name__ == "__main__":
    main()
