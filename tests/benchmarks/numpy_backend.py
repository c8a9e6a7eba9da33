"""Compiled functions beside the same functions in plain NumPy: `python tests/benchmarks/numpy_backend.py`.

The two run in turns in one process, with as many BLAS threads as NumPy has; shown are medians and their
ratio. Differences below ten per cent mean nothing.
"""

import argparse
import statistics
import time

import numpy as np
from rich.console import Console
from rich.table import Table

import nagraph as ng

rng = np.random.default_rng(0)


def array(*shape, scale=None):
    return (rng.normal(size=shape) * (scale or shape[0] ** -0.5)).astype(np.float32)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def layer_norm(x, scale, shift):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5) * scale + shift


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def mlp(x, w1, b1, w2, b2, w3, b3):
    """Three layers: 784, 1024, 1024, 10."""
    return softmax(gelu(gelu(x @ w1 + b1) @ w2 + b2) @ w3 + b3)


def block(x, mask, s1, t1, qkv, out, s2, t2, up, b1, down, b2):
    """A pre-norm transformer block with eight heads."""
    batch, time_, width = x.shape
    heads, size = 8, width // 8
    q, k, v = np.split(layer_norm(x, s1, t1) @ qkv, 3, axis=-1)
    q, k, v = (y.reshape(batch, time_, heads, size).transpose(0, 2, 1, 3) for y in (q, k, v))
    scores = softmax(q @ k.transpose(0, 1, 3, 2) * (1 / size ** 0.5) + mask)
    x = x + (scores @ v).transpose(0, 2, 1, 3).reshape(batch, time_, width) @ out
    return x + gelu(layer_norm(x, s2, t2) @ up + b1) @ down + b2


def sgd(x, y, w1, w2):
    """A train step of two layers, with the derivatives written by hand."""
    h = np.tanh(x @ w1)
    error = (h @ w2 - y) * (2 / y.size)
    g2 = h.transpose() @ error
    g1 = x.transpose() @ ((error @ w2.transpose()) * (1 - h * h))
    return w1 - 0.1 * g1, w2 - 0.1 * g2


def cases():
    yield "mlp, 256 rows", mlp, (array(256, 784, scale=1), array(784, 1024), array(1024), array(1024, 1024), array(1024),
                                 array(1024, 10), array(10))
    yield "mlp, 1 row", mlp, (array(1, 784, scale=1), array(784, 1024), array(1024), array(1024, 1024), array(1024),
                              array(1024, 10), array(10))
    mask = np.where(np.tri(128, dtype=bool), 0, -np.inf).astype(np.float32)
    for batch, width in ((8, 256), (4, 512)):
        w = width
        yield f"transformer block, {batch} x 128 x {w}", block, (
            array(batch, 128, w, scale=1), mask, np.ones(w, np.float32), np.zeros(w, np.float32), array(w, 3 * w), array(w, w),
            np.ones(w, np.float32), np.zeros(w, np.float32), array(w, 4 * w), array(4 * w), array(4 * w, w), array(w))
    yield "two-layer train step, 512 rows", sgd, (array(512, 256, scale=1), array(512, 32, scale=1), array(256, 512), array(512, 32))


def seconds(fn, args):
    start = time.perf_counter()
    fn(*args)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    table = Table("case", "NumPy", "compiled", "ratio", "arena", title="median of interleaved calls")
    for name, fn, args in cases():
        compiled = ng.jit(fn)
        for a, b in zip(ng.tree.leaves(fn(*args)), ng.tree.leaves(compiled(*args))):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        plain, ours = zip(*((seconds(fn, args), seconds(compiled, args)) for _ in range(rounds)))
        a, b = statistics.median(plain), statistics.median(ours)
        arena = compiled.lower(*args).executable.memory.arena_bytes
        table.add_row(name, f"{a * 1e3:.2f} ms", f"{b * 1e3:.2f} ms", f"{a / b:.2f}", f"{arena / 2**20:.1f} MiB")
    Console().print(table)


if __name__ == "__main__":
    main()
