"""CLIP beside Hugging Face's in PyTorch: both readers, the end of the text, padding, the temperature, gradients, losses of training."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

import nagraph as ng
from nagraph.models.clip import CLIP, contrastive_loss
from tests.oracles.encoders import blocks, check_curve, check_gradients, close, modules, saved

PARTS = {"attention.output": "self_attn.out_proj", "attention_norm": "layer_norm1", "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2",
         "mlp_norm": "layer_norm2"}
QUERY = [f"self_attn.{x}_proj" for x in "qkv"]
VISION, TEXT = "vision_model.embeddings", "text_model.embeddings"
#: The path of each tensor here, and Hugging Face's name of the same.
NAMES = {
    "scale": ("logit_scale",), "vision_projection.weight": ("visual_projection.weight",),
    "text_projection.weight": ("text_projection.weight",), "vision.stem.projection.weight": (f"{VISION}.patch_embedding.weight",),
    "vision.class_token": (f"{VISION}.class_embedding",), "vision.position": (f"{VISION}.position_embedding.weight",),
    "text.token.table": (f"{TEXT}.token_embedding.weight",), "text.position": (f"{TEXT}.position_embedding.weight",),
    **modules(vision__first_norm="vision_model.pre_layrnorm", vision__norm="vision_model.post_layernorm",
              text__norm="text_model.final_layer_norm"),
    **blocks("vision.blocks", "vision_model.encoder.layers", 2, PARTS, QUERY),
    **blocks("text.blocks", "text_model.encoder.layers", 3, PARTS, QUERY),
}


def hugging_face(vision: Any = None, text: Any = None, **options: Any) -> CLIPConfig:
    seen = dict(image_size=12, patch_size=4, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40)
    read = dict(vocab_size=61, max_position_embeddings=16, hidden_size=20, num_hidden_layers=3, num_attention_heads=2,
                intermediate_size=36, bos_token_id=58, eos_token_id=60, pad_token_id=1)
    return CLIPConfig(**{"projection_dim": 10, **options}, vision_config={**seen, **(vision or {})}, text_config={**read, **(text or {})})


def batch(seed: int = 0, channels: int = 3, end: int = 60) -> tuple[np.ndarray[Any, Any], ...]:
    """Images, texts that end early with `end` and sometimes have it twice, and their masks."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(6)
    lengths = rng.integers(4, 13, (6, 1))
    ids = rng.integers(3, 58, (6, 13))
    ids[:, 0], ids[:, 1] = 58, 3 + kinds
    ids = np.where(np.arange(13) > lengths, rng.choice([1, end], ids.shape), np.where(np.arange(13) == lengths, end, ids))
    images = rng.normal(size=(6, channels, 12, 12)) + np.linspace(-1, 1, 6)[kinds].reshape(-1, 1, 1, 1)
    return images.astype(np.float32), ids, (np.arange(13) <= lengths).astype(np.int64)


@pytest.mark.parametrize(("config", "saving"), [
    (hugging_face(), {}), (hugging_face(), {"max_shard_size": "20KB"}),
    (hugging_face({"hidden_act": "gelu", "num_channels": 1}, {"hidden_act": "gelu", "layer_norm_eps": 1e-3}), {}),
    (hugging_face({"layer_norm_eps": 1e-3}, {"eos_token_id": 2, "hidden_act": "gelu"}, logit_scale_init_value=1.5), {}),
], ids=["quick_gelu", "shards", "gelu", "largest id"])
def test_outputs_and_gradients(config: CLIPConfig, saving: dict[str, Any], tmp_path: pathlib.Path) -> None:
    theirs = saved(CLIPModel(config), tmp_path, **saving)
    ours = CLIP.from_pretrained(tmp_path)
    assert ours.text.config.end_of_text == (None if config.text_config.eos_token_id == 2 else 60)
    images, ids, mask = batch(channels=config.vision_config.num_channels)
    given = {"pixel_values": torch.tensor(images), "input_ids": torch.tensor(ids)}
    plain = theirs(**given)
    close(ng.jit(lambda m, *xs: m(*xs))(ours, images, ids), plain.logits_per_image, "logits")
    expected = theirs(**given, attention_mask=torch.tensor(mask), return_loss=True)
    seen, read, logits = ng.jit(lambda m: (m.images(images), m.texts(ids, mask), m(images, ids, mask)))(ours)
    close(seen, expected.image_embeds, "images")
    close(read, expected.text_embeds, "texts")
    close(logits, expected.logits_per_image, "logits with a mask")
    expected.loss.backward()
    loss, grads = ng.jit(ng.value_and_grad(lambda m: contrastive_loss(m, images, ids, mask=mask)))(ours)
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)
    check_gradients(grads, theirs, NAMES)


def test_padding_in_front(tmp_path: pathlib.Path) -> None:
    """Tokens that see nothing but padding differ from theirs, and no token that counts sees them."""
    theirs = saved(CLIPModel(hugging_face()), tmp_path)
    ids = np.random.default_rng(0).integers(3, 58, (4, 13))
    ids[:, -1] = 60
    mask = (np.arange(13) >= np.array([[0], [3], [9], [12]])).astype(np.int64)
    expected = theirs(torch.tensor(ids), torch.tensor(batch()[0][:4]), attention_mask=torch.tensor(mask))
    close(ng.jit(lambda m: m.texts(ids, mask))(CLIP.from_pretrained(tmp_path)), expected.text_embeds)


def test_several_positives(tmp_path: pathlib.Path) -> None:
    """The loss beside PyTorch's cross entropy with probabilities as targets."""
    theirs = saved(CLIPModel(hugging_face()), tmp_path)
    images, ids, _ = batch()
    same = np.eye(6, dtype=bool)
    same[0, [1, 4]] = same[1, 0] = same[5, 2] = True
    logits = theirs(torch.tensor(ids), torch.tensor(images)).logits_per_image
    entropy = torch.nn.functional.cross_entropy
    target = torch.tensor(same, dtype=torch.float32)
    expected = 0.5 * (entropy(logits, target / target.sum(1, keepdim=True)) + entropy(logits.T, target.T / target.T.sum(1, keepdim=True)))
    expected.backward()
    loss, grads = ng.jit(ng.value_and_grad(contrastive_loss))(CLIP.from_pretrained(tmp_path), images, ids, same)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    check_gradients(grads, theirs, NAMES)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_loss_curve_of_50_steps(dtype: str, tmp_path: pathlib.Path) -> None:
    layers = {"num_hidden_layers": 1}
    theirs = saved(CLIPModel(hugging_face(layers, layers)), tmp_path)

    def loss(m: CLIP, images: Any, ids: Any, mask: Any) -> Any:
        return contrastive_loss(m, images, ids, mask=mask)

    def their_loss(m: Any, images: Any, ids: Any, mask: Any) -> Any:
        return m(pixel_values=images, input_ids=ids, attention_mask=mask, return_loss=True).loss

    check_curve(CLIP.from_pretrained(tmp_path, dtype), loss, theirs, their_loss, batch, dtype)
