"""Every public function that takes arrays: how it is called, and what says what is right."""

import functools

import numpy as np

import nagraph as ng
from tests.test_numpy_namespace import BEYOND, CASES, CONSTANTS, NUMPYS_NAMES, call

F = ng.nn.functional
RNG = np.random.default_rng(1)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
WIDE = RNG.normal(size=(2, 3, 4))
ROW, OTHER = RNG.normal(size=4).astype(np.float32), RNG.normal(size=4).astype(np.float32)
PLANES = RNG.normal(size=(2, 3)).astype(np.float32)
IMAGES = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)
CHANNELS = RNG.normal(size=4).astype(np.float32)
HEADS, KEYS = RNG.normal(size=(2, 4, 3, 6)).astype(np.float32), RNG.normal(size=(2, 2, 5, 6)).astype(np.float32)
LABELS = np.array([[0, 1, 3], [2, 2, 0]])
POSITIVE, PROBABILITIES = np.abs(X) + 1, 1 / (1 + np.exp(-X))
SIGNS = np.where(X[..., 0] > 0, 1, -1)
KEY = ng.random.key(3)

FUNCTIONAL = {
    **dict.fromkeys("relu gelu gelu_tanh silu softplus sigmoid tanh stop_gradient".split(), [call(X), call(WIDE)]),
    "leaky_relu": [call(X), call(WIDE, 0.2)], "elu": [call(X), call(WIDE, alpha=0.5)],
    **dict.fromkeys("softmax log_softmax".split(), [call(X), call(WIDE, axis=0)]),
    "logsumexp": [call(X), call(WIDE, axis=(0, 2)), call(X, 1, True)],
    "attention": [call(HEADS, KEYS, KEYS), call(HEADS, KEYS[:1], KEYS, causal=True),
                  call(HEADS, KEYS, KEYS, np.isfinite(KEYS[0, :1, :3, :5])), call(HEADS[:, :2], KEYS, KEYS, scale=0.5)],
    "rope": [call(HEADS, *F.rope_tables(3, 6))], "rope_tables": [call(4, 6)],
    "cross_entropy": [call(X, LABELS), call(WIDE, LABELS, smoothing=0.1), call(X, np.where(LABELS > 2, -100, LABELS))],
    "layer_norm": [call(X), call(X, ROW, OTHER), call(WIDE, None, ROW)], "rms_norm": [call(X), call(X, ROW)],
    "group_norm": [call(IMAGES, groups=2), call(IMAGES, CHANNELS, CHANNELS, groups=4)],
    "batch_norm": [call(IMAGES, CHANNELS, np.abs(CHANNELS), CHANNELS)], "batch_norm_training": [call(IMAGES), call(IMAGES, CHANNELS)],
    "conv": [call(IMAGES, RNG.normal(size=(3, 4, 2, 3)).astype(np.float32)),
             call(IMAGES, RNG.normal(size=(4, 2, 3, 2)).astype(np.float32), 2, ((1, 0), (0, 2)), 1, 2)],
    "conv_transpose": [call(IMAGES, RNG.normal(size=(4, 3, 2, 2)).astype(np.float32), 2, 1)],
    "max_pool": [call(IMAGES, 2), call(IMAGES, (3, 2), 1, 1)],
    "avg_pool": [call(IMAGES, 2), call(IMAGES, (3, 2), (1, 2), ((1, 0), (0, 1)), False)],
}
LOSSES = {
    "cross_entropy": [call(X, LABELS), call(X, LABELS, label_smoothing=0.1, reduction="none")],
    **dict.fromkeys("mse huber".split(), [call(X, X[::-1]), call(WIDE, WIDE[::-1], reduction="none")]),
    "kl_divergence": [call(X, POSITIVE)], "binary_cross_entropy": [call(PROBABILITIES, PROBABILITIES[::-1])],
    **dict.fromkeys("binary_cross_entropy_with_logits focal".split(), [call(X, PROBABILITIES)]),
    "cosine_similarity": [call(X, X[::-1])], "cosine_embedding": [call(X, X[::-1], SIGNS)],
    "triplet": [call(X, X[::-1], POSITIVE)], "contrastive": [call(X[0], X[1])],
}
RANDOM = {
    "key": [call(7)], "fold_in": [call(KEY, 3)], "split": [call(KEY), call(KEY, 3)], "bits": [call(KEY, (2, 3)), call(KEY, 5, 64)],
    **dict.fromkeys("uniform normal exponential gumbel".split(),
                    [call(KEY, (2, 3)), call(KEY, (5,), np.float64), call(KEY, 4, np.float16)]),
    "bernoulli": [call(KEY, 0.3, (4,)), call(KEY, PROBABILITIES)], "categorical": [call(KEY, X), call(KEY, WIDE, 0, (5, 3, 4))],
    "randint": [call(KEY, (4,), -3, 9), call(KEY, 4, 0, 200, np.uint8)], "permutation": [call(KEY, 5), call(KEY, X, 1)],
}
LINALG = {
    "norm": [call(X), call(WIDE, axis=1), call(X, axis=(0, 2), keepdims=True), call(ROW, 2), call(ROW, 1), call(ROW, np.inf),
             call(X[0], "fro"), call(WIDE, 1, (1, 2)), call(WIDE, -np.inf, 2), call(WIDE, 3, 0), call(WIDE, 0, 0)],
    "matmul": [call(X[0], X[1].T), call(WIDE, np.swapaxes(WIDE, 1, 2))],
}
#: Of the namespaces, what is no function of arrays.
NO_ROWS = {"numpy": {*CONSTANTS, "Any", "annotations", "nagraph", "builtins_any"},
           "losses": {*"Any annotations INTEGERS Array np ng operator composites softplus widened TypeRuleError".split()},
           "functional": set(), "random": set(), "linalg": set()}


def namespaces():
    """Each namespace with its rows: a list of (function, oracle or None, cases) by name."""
    theirs = {name: [c for c in cases if not NUMPYS_NAMES & set(c[1])] for name, cases in CASES.items()}
    rows = {f"numpy.{name}": (getattr(ng.numpy, name), getattr(np, name), cases) for name, cases in theirs.items()}
    rows |= {f"numpy.{name}": (getattr(ng.numpy, name), oracle, cases) for name, (oracle, cases) in BEYOND.items()}
    rows["numpy.argsort"] = (ng.numpy.argsort, functools.partial(np.argsort, kind="stable"), theirs["argsort"])
    rows |= {f"linalg.{name}": (getattr(ng.numpy.linalg, name), getattr(np.linalg, name), cases) for name, cases in LINALG.items()}
    for label, module, cases_of in (("functional", F, FUNCTIONAL), ("losses", ng.nn.losses, LOSSES), ("random", ng.random, RANDOM)):
        rows |= {f"{label}.{name}": (getattr(module, name), None, cases) for name, cases in cases_of.items()}
    return rows


def public():
    """The names that must have a row."""
    modules = {"numpy": ng.numpy, "linalg": ng.numpy.linalg, "functional": F, "losses": ng.nn.losses, "random": ng.random}
    return {f"{label}.{name}" for label, module in modules.items() for name in vars(module)
            if not name.startswith("_") and name not in NO_ROWS[label]}
