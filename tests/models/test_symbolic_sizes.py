"""All models trace with sizes that are known later, and the graph of known sizes is the one that a trace of them gives."""

import functools

import numpy as np
import pytest

import nagraph as ng
from nagraph import tree
from nagraph.ir.graph import Graph
from nagraph.models.bert import BERT, BERTConfig
from nagraph.models.clip import CLIP, CLIPConfig, TextConfig, VisionConfig, contrastive_loss
from nagraph.models.gpt2 import GPT2, GPT2Config
from nagraph.models.language_model import next_token_loss
from nagraph.models.llama import Llama, LlamaConfig
from nagraph.models.resnet import ResNet, ResNetConfig
from nagraph.models.vit import ViT, ViTConfig
from tests.support import in_order_of_use

BATCH, TIME = ng.Dim("batch", max=64), ng.Dim("time", min=2, max=8)
IDS, IMAGES = ng.spec((BATCH, TIME), "i32"), ng.spec((BATCH, 1, 8, 8))
PASSES = ng.Pipeline.parse("canonicalize,narrow,simplify,fold_constants,cse,dce")
SIZES = [{"batch": 3, "time": 5}, {"batch": 1, "time": 8}, {"batch": 4, "time": 3}]
VISION = VisionConfig(image=8, patch=4, channels=1, layers=1, heads=2, width=6, inner=10)
TEXT = TextConfig(vocabulary=11, context=8, layers=2, heads=2, width=8, inner=12, end_of_text=9)
MODELS = {
    "gpt2": (GPT2, GPT2Config(vocabulary=11, context=8, layers=2, heads=2, width=6)),
    "llama": (Llama, LlamaConfig(vocabulary=11, context=8, layers=2, heads=4, groups=2, width=8, inner=12)),
    "bert": (BERT, BERTConfig(vocabulary=11, context=8, layers=2, heads=2, width=6, inner=10, types=2, classes=3)),
    "vit": (ViT, ViTConfig(image=8, patch=4, channels=1, layers=2, heads=2, width=6, inner=10, classes=3)),
    "clip": (CLIP, CLIPConfig(vision=VISION, text=TEXT, projection=5)),
    "resnet": (ResNet, ResNetConfig(channels=1, classes=3, embedding=4, widths=(4, 8), depths=(1, 1), block="basic", stem="small")),
}


def trained(model, images):
    scores, moved = model(images, training=True)
    return scores.sum(), moved


#: A model, what is made of it, and the types of its arguments.
FUNCTIONS = {
    "gpt2": lambda m, ids: m(ids), "llama": lambda m, ids: m(ids), "vit": lambda m, x: m(x), "resnet": lambda m, x: m(x),
    "bert": lambda m, ids, mask: (m.class_scores(m(ids, None, mask)), m.token_scores(m(ids))),
    "clip": lambda m, x, ids: m(x, ids),
    "gpt2 step": ng.value_and_grad(next_token_loss), "llama step": ng.value_and_grad(next_token_loss),
    "vit step": ng.value_and_grad(lambda m, x: m(x).sum()),
    "clip step": ng.value_and_grad(lambda m, x, ids: contrastive_loss(m, x, ids)),
    "resnet step": ng.value_and_grad(trained, has_aux=True),
}
ARGUMENTS = {"gpt2": (IDS,), "llama": (IDS,), "vit": (IMAGES,), "resnet": (IMAGES,), "clip": (IMAGES, IDS),
             "bert": (IDS, ng.spec((BATCH, TIME), "bool"))}


@functools.cache
def model(name):
    made, config = MODELS[name]
    found = made.init(ng.random.key(0), config)
    return tree.map(lambda x: None if x is None else ng.spec(x.shape, x.dtype), found)


def twice(graph: Graph) -> Graph:
    """What the passes make of it; once more, since what is folded comes after what is simplified; its nodes in the order of their use."""
    return in_order_of_use(PASSES(PASSES(graph)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_model_of_known_sizes_is_what_a_trace_of_them_gives(name):
    function, arguments = FUNCTIONS[name], ARGUMENTS[name.split()[0]]
    weights = model(name.split()[0])
    graph = ng.trace(function, weights, *arguments)
    ng.verify(graph)
    assert {d.name for d in graph.dims} == {d for t in arguments for d in ("batch", "time")[:1 + (t.rank == 2)]}
    assert ng.parse(str(graph)) == graph
    simplified = PASSES(graph)
    ng.verify(simplified)
    assert simplified.dims == graph.dims and len(simplified.nodes) < len(graph.nodes)
    for sizes in SIZES:
        given = {d.name: sizes[d.name] for d in graph.dims}
        made = graph.specialise(given)
        ng.verify(made)
        known = [t.with_shape(tuple(sizes[n.name] if isinstance(n, ng.Dim) else n for n in t.shape)) for t in arguments]
        assert twice(made) == twice(ng.trace(function, weights, *known)), sizes


def test_a_time_beyond_the_context_is_an_error_that_says_what_to_declare():
    long = ng.Dim("time")
    with pytest.raises(ng.errors.SizeError, match=r"it is not known whether 8 < time \(time from 1\); give the dimension bounds that tell"):
        ng.trace(lambda m, ids: m(ids), model("gpt2"), ng.spec((BATCH, long), np.int32))
