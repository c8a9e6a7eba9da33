"""CLIP by itself: both readers, the end of a text, what padding hides, its loss, dropout, its limits, and folders that are no CLIP's."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import CheckpointError, TypeRuleError
from nagraph.models.clip import CLIP, CLIPConfig, TextConfig, VisionConfig, contrastive_loss
from nagraph.models.encoder import quick_gelu
from nagraph.storage import write_safetensors

VISION = VisionConfig(image=8, patch=4, channels=1, layers=1, heads=2, width=6, inner=10)
TEXT = TextConfig(vocabulary=11, context=9, layers=2, heads=2, width=8, inner=12, end_of_text=9)
CONFIG = CLIPConfig(vision=VISION, text=TEXT, projection=5)
CONV = dataclasses.replace(CONFIG, vision=dataclasses.replace(VISION, stem="conv", activation="gelu"))
FACTS: dict[str, Any] = {
    "model_type": "clip", "projection_dim": 5,
    "vision_config": {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "hidden_size": 6, "intermediate_size": 10},
    "text_config": {"vocab_size": 11, "max_position_embeddings": 9, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8,
                    "intermediate_size": 12, "eos_token_id": 9},
}


def moved(config: CLIPConfig) -> CLIP:
    """Norms and biases away from 1 and 0."""
    return CLIP.init(ng.random.key(3), config).map(lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape).astype(x.dtype))


@pytest.fixture(scope="module")
def model() -> CLIP:
    return moved(CONFIG)


IMAGES = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
#: The end is 9; 10 is larger; what follows an end is padding.
IDS = np.array([[3, 4, 10, 5, 9, 9, 9], [1, 9, 10, 9, 0, 0, 0], [2, 2, 6, 7, 8, 8, 9], [4, 10, 3, 9, 1, 9, 1]])
ENDS = np.array([4, 1, 6, 3])

texts = ng.jit(lambda model, ids, mask=None: model.texts(ids, mask))
logits = ng.jit(lambda model, images, ids, key=None: model(images, ids, key=key))
loss = ng.jit(contrastive_loss)


def test_quick_gelu() -> None:
    x = np.linspace(-5, 5, 11)
    np.testing.assert_allclose(ng.jit(quick_gelu)(x), x / (1 + np.exp(-1.702 * x)), rtol=1e-12)


def test_start() -> None:
    """Widths decide the deviations; biases 0, norms 1; the scale is -log 0.07."""
    config = CLIPConfig(vision=VisionConfig(image=32, patch=4, layers=2, heads=4, width=64), text=TextConfig(
        vocabulary=300, context=100, layers=8, heads=4, width=96), projection=80)
    start = CLIP.init(ng.random.key(0), config).named_arrays()
    wanted = {"text.token.table": 0.02, "text.position": 0.01, "vision.position": 64 ** -0.5, "vision_projection.weight": 64 ** -0.5,
              "text_projection.weight": 96 ** -0.5, "vision.stem.projection.weight": 48 ** -0.5}
    for tower, w, layers in (("vision", 64, 2), ("text", 96, 8)):
        for i in range(layers):
            at = f"{tower}.blocks.{i}"
            wanted |= {f"{at}.attention.projection.weight": w ** -0.5, f"{at}.attention.output.weight": (2 * layers * w) ** -0.5,
                       f"{at}.mlp.up.weight": (2 * w) ** -0.5, f"{at}.mlp.down.weight": (2 * layers * w) ** -0.5}
    assert wanted.keys() == {n for n, x in start.items() if x.ndim == 2}
    for name, deviation in wanted.items():
        np.testing.assert_allclose(start[name].std(), deviation, rtol=0.05, err_msg=name)
    for name, x in start.items():
        if x.ndim == 1 and name != "vision.class_token":
            assert np.all(x == (1 if name.endswith("norm.weight") else 0)), name
    np.testing.assert_allclose(start["scale"], np.log(1 / 0.07), rtol=1e-6)
    assert CLIP.init(ng.random.key(0), CONFIG, np.float64).scale.dtype == np.float64


def test_logits_are_scaled_cosines(model: CLIP) -> None:
    seen, read = ng.jit(lambda m: (m.images(IMAGES), m.texts(IDS[:3])))(model)
    assert seen.shape == (4, 5) and read.shape == (3, 5)
    for x in (seen, read):
        np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(logits(model, IMAGES, IDS[:3]), np.exp(model.scale) * seen @ read.T, rtol=1e-4, atol=1e-5)


def test_a_text_is_read_off_at_its_first_end(model: CLIP) -> None:
    before = texts(model, IDS)
    for t in range(7):
        changed = IDS.copy()
        changed[:, t] = np.where(t > ENDS, 3, np.where(t == ENDS, 9, (IDS[:, t] + 1) % 8))
        after = texts(model, changed)
        moved = np.abs(after - before).max(axis=-1)
        assert np.all(moved[t >= ENDS] == 0), "the end sees the past alone, and later ends count for nothing"
        assert np.all(moved[t < ENDS] > 1e-6)
    largest = model.replace(text=model.text.replace(config=dataclasses.replace(TEXT, end_of_text=None)))
    at_end_10 = model.replace(text=model.text.replace(config=dataclasses.replace(TEXT, end_of_text=10)))
    assert np.array_equal(texts(largest, IDS)[[0, 1, 3]], texts(at_end_10, IDS)[[0, 1, 3]]), "the first of the largest ids"
    assert np.array_equal(texts(largest, IDS)[2], before[2])


def test_padding_changes_nothing(model: CLIP) -> None:
    mask = (np.arange(7) >= np.array([[0], [1], [3], [2]])).astype(np.int32)
    other = np.where(mask == 1, IDS, (IDS + 1) % 8)
    assert np.array_equal(texts(model, other, mask), texts(model, IDS, mask))
    assert np.array_equal(texts(model, IDS, mask == 1), texts(model, IDS, mask))
    assert np.all(np.abs(texts(model, IDS, mask) - texts(model, IDS))[2:].max(axis=-1) > 1e-4)
    behind = (np.arange(7) <= ENDS[:, None]).astype(np.int32)
    np.testing.assert_allclose(texts(model, IDS, behind), texts(model, IDS), rtol=0, atol=1e-6, err_msg="the end never sees what follows")


def entropy(scores: np.ndarray, target: np.ndarray) -> float:
    logp = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return float(-(target * logp).sum(axis=-1).mean())


def test_the_loss(model: CLIP) -> None:
    scores = logits(model, IMAGES, IDS).astype(np.float64)
    eye = np.eye(4, dtype=bool)
    expected = 0.5 * (entropy(scores, eye) + entropy(scores.T, eye))
    np.testing.assert_allclose(loss(model, IMAGES, IDS), expected, rtol=1e-5)
    np.testing.assert_allclose(loss(model, IMAGES, IDS, eye), expected, rtol=1e-5, err_msg="each fits its own alone")
    np.testing.assert_allclose(loss(model, IMAGES, IDS, ~eye & eye), expected, rtol=1e-5, err_msg="and its own always")
    same = eye.copy()
    same[0, [1, 3]] = same[2, 3] = True
    rows, columns = same / same.sum(axis=1, keepdims=True), same.T / same.T.sum(axis=1, keepdims=True)
    expected = 0.5 * (entropy(scores, rows) + entropy(scores.T, columns))
    np.testing.assert_allclose(loss(model, IMAGES, IDS, same), expected, rtol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, CONV], ids=["patch", "conv"])
def test_every_array_has_a_slope(config: CLIPConfig) -> None:
    grads = ng.jit(ng.grad(contrastive_loss))(moved(config), IMAGES, IDS)
    for name, g in grads.named_arrays().items():
        assert np.isfinite(g).all() and np.abs(g).max() > 1e-6, name


def test_a_stem_of_convolutions_sees_every_pixel() -> None:
    model = moved(CONV)
    seen = ng.jit(lambda m, x: m.images(x))
    before = seen(model, IMAGES)
    for i, j in ((0, 0), (3, 4), (7, 7)):
        changed = IMAGES.copy()
        changed[:, :, i, j] += 1
        assert np.abs(seen(model, changed) - before).max() > 1e-5


def test_dropout_needs_a_rate_and_a_key(model: CLIP) -> None:
    logits = ng.jit(lambda model, images, ids, key=None: model(images, ids, key=key))
    rates = {x: dataclasses.replace(getattr(CONFIG, x), dropout=0.5) for x in ("vision", "text")}
    key, other = ng.random.key(1), ng.random.key(2)
    plain = logits(model, IMAGES, IDS)
    np.testing.assert_allclose(logits(model, IMAGES, IDS, key), plain, rtol=0, atol=1e-5, err_msg="at rate 0 the key changes nothing")
    for which, config in rates.items():
        dropping = moved(dataclasses.replace(CONFIG, **{which: config}))
        assert np.array_equal(logits(dropping, IMAGES, IDS), plain), "without a key nothing is dropped"
        dropped = logits(dropping, IMAGES, IDS, key)
        assert not np.allclose(dropped, plain) and not np.array_equal(logits(dropping, IMAGES, IDS, other), dropped)
        tower = getattr(model, which)
        for places in ({"config": config}, {"blocks": (*tower.blocks[:-1], tower.blocks[-1].replace(dropout=0.5))}):
            one = model.replace(**{which: tower.replace(**places)})
            found = ng.jit(lambda m: m(IMAGES, IDS, key=key))(one)
            assert not np.allclose(found, plain, atol=1e-3), (which, places)


def test_inputs_that_do_not_fit(model: CLIP) -> None:
    with pytest.raises(TypeRuleError, match=r"images are \[batch, 1, 8, 8\] here, got \[4, 3, 8, 8\]"):
        logits(model, np.zeros((4, 3, 8, 8), np.float32), IDS)
    for ids in (np.zeros((2, 10), np.int32), np.zeros(5, np.int32)):
        with pytest.raises(TypeRuleError, match="with time at most the context of 9"):
            texts(model, ids)
    with pytest.raises(TypeRuleError, match=r"as many images as texts.*got logits \[4, 3\]"):
        loss(model, IMAGES, IDS[:3])
    with pytest.raises(TypeRuleError, match=r"got logits \[4, 4\] and same \[3, 3\]"):
        loss(model, IMAGES, IDS, np.eye(3, dtype=bool))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: VisionConfig(image=30), "image 30 must be a multiple of patch 32"),
    (lambda: VisionConfig(stem="tree"), "stem must be 'patch' or 'conv', got 'tree'"),
    (lambda: VisionConfig(activation="relu"), "activation must be 'gelu' or 'quick_gelu', got 'relu'"),
    (lambda: TextConfig(context=0), "context must be at least 1"), (lambda: TextConfig(end_of_text=-1), "end_of_text must be at least 0"),
    (lambda: CLIPConfig(projection=0), "projection must be at least 1"),
    (lambda: CLIPConfig(temperature=0.0), "temperature must be greater than 0"),
    (lambda: CLIP.init(ng.random.key(0), dataclasses.replace(CONFIG, vision=VisionConfig(image=9, patch=3, stem="conv"))),
     "patch must be 2, 4, 8, ..."),
])
def test_sizes_that_make_no_model(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# -- folders ------------------------------------------------------------------------------------------------

PARTS = {"self_attn.out_proj": "attention.output", "layer_norm1": "attention_norm", "mlp.fc1": "mlp.up", "mlp.fc2": "mlp.down",
         "layer_norm2": "mlp_norm"}


def write(folder: pathlib.Path, model: CLIP, facts: Any = None, drop: str = "", **changes: np.ndarray) -> pathlib.Path:
    """The model's arrays under Hugging Face's names."""
    a = model.named_arrays()
    tensors = {"logit_scale": a["scale"], "visual_projection.weight": a["vision_projection.weight"].T,
               "text_projection.weight": a["text_projection.weight"].T, "vision_model.embeddings.class_embedding": a["vision.class_token"],
               "vision_model.embeddings.patch_embedding.weight": a["vision.stem.projection.weight"].T.reshape(6, 1, 4, 4),
               "vision_model.embeddings.position_embedding.weight": a["vision.position"],
               "text_model.embeddings.token_embedding.weight": a["text.token.table"],
               "text_model.embeddings.position_embedding.weight": a["text.position"]}
    modules = {"vision_model.pre_layrnorm": "vision.first_norm", "vision_model.post_layernorm": "vision.norm",
               "text_model.final_layer_norm": "text.norm"}
    layers = [(f"{x}_model.encoder.layers.{i}", f"{x}.blocks.{i}") for x, n in (("vision", 1), ("text", 2)) for i in range(n)]
    modules |= {f"{there}.{p}": f"{here}.{q}" for there, here in layers for p, q in PARTS.items()}
    for theirs, ours in modules.items():
        tensors |= {f"{theirs}.weight": a[f"{ours}.weight"].T, f"{theirs}.bias": a[f"{ours}.bias"]}
    for there, here in layers:
        for x in ("weight", "bias"):
            parts = np.split(a[f"{here}.attention.projection.{x}"], 3, axis=-1)
            tensors |= {f"{there}.self_attn.{n}_proj.{x}": p.T for n, p in zip("qkv", parts)}
    named = {n: np.array(x, order="C") for n, x in tensors.items()}
    write_safetensors(folder / "model.safetensors", {n: x for n, x in {**named, **changes}.items() if n != drop})
    (folder / "config.json").write_text(json.dumps(FACTS if facts is None else facts))
    return folder


def test_from_pretrained(model: CLIP, tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path, model, **{"text_model.embeddings.position_ids": np.arange(9)[None]})
    found = CLIP.from_pretrained(folder)
    x, y = found.named_arrays(), model.named_arrays()
    assert x.keys() == y.keys() and all(np.array_equal(x[n], y[n]) and x[n].shape == y[n].shape for n in x)
    assert found.config == CONFIG
    assert all(a.dtype == np.float64 for a in CLIP.from_pretrained(folder, np.float64).named_arrays().values())


def changed(**towers: dict[str, Any]) -> dict[str, Any]:
    return FACTS | {f"{t}_config": FACTS[f"{t}_config"] | change for t, change in towers.items()}


def test_what_configurations_leave_out_is_as_published(model: CLIP, tmp_path: pathlib.Path) -> None:
    """An end of 2 stands for the largest id; a second dictionary of older files counts; what is silent has the published size."""
    facts = changed(text={"eos_token_id": 2, "hidden_act": "gelu", "layer_norm_eps": 0.01})
    text = CLIP.from_pretrained(write(tmp_path, model, facts)).config.text
    assert text == dataclasses.replace(TEXT, end_of_text=None, activation="gelu", eps=0.01)
    older = {**FACTS, "text_config_dict": FACTS["text_config"], "text_config": {"hidden_size": 512}}
    assert CLIP.from_pretrained(write(tmp_path, model, older)).config == CONFIG
    with pytest.raises(CheckpointError, match=r"tensor text_model.*the configuration asks for \[49408, 512\]"):
        CLIP.from_pretrained(write(tmp_path, model, {**FACTS, "text_config": {}}))
    del older["projection_dim"]
    with pytest.raises(CheckpointError, match=r"visual_projection.weight has shape \[5, 6\], the configuration asks for \[512, 6\]"):
        CLIP.from_pretrained(write(tmp_path, model, older))


@pytest.mark.parametrize(("facts", "message"), [
    ({**FACTS, "model_type": "siglip"}, "is for a model of type 'siglip', not 'clip'"),
    ({**FACTS, "vision_config": [3]}, r"vision_config must be a dictionary, it is \[3\]"),
    (changed(text={"hidden_act": "relu"}), "hidden_act 'relu' is not what CLIP has, 'quick_gelu'"),
    (changed(vision={"hidden_act": "gelu_new"}), "hidden_act 'gelu_new' is not what CLIP has, 'quick_gelu'"),
    (changed(text={"eos_token_id": [9, 10]}), r"must name eos_token_id, a whole number of at least 1; it says \[9, 10\]"),
    (changed(vision={"patch_size": 3}), "describes no CLIP: image 8 must be a multiple of patch 3"),
    (changed(text={"layer_norm_eps": None}), "describes no CLIP"),
    (changed(text={"max_position_embeddings": 8}), r"position_embedding.weight has shape \[9, 8\], the configuration asks for \[8, 8\]"),
    (changed(vision={"hidden_size": 2 * 10**6, "intermediate_size": 3 * 10**6}), "the configuration asks for"),
    (changed(vision={"num_hidden_layers": 2}), "holds no tensor vision_model.encoder.layers.1.self_attn.q_proj.weight"),
])
def test_configurations_of_something_else(facts: Any, message: str, model: CLIP, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        CLIP.from_pretrained(write(tmp_path, model, facts))
    assert "\n" not in str(caught.value)


def test_tensors_that_are_missing_or_unknown(model: CLIP, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tensor logit_scale"):
        CLIP.from_pretrained(write(tmp_path, model, drop="logit_scale"))
    with pytest.raises(CheckpointError, match="no place for visual_projection.bias"):
        CLIP.from_pretrained(write(tmp_path, model, **{"visual_projection.bias": np.ones(5)}))
