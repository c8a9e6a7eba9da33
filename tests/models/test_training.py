"""Training: what a step does and leaves alone, batches, the average, evaluation, and runs that were stopped and resumed."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import CheckpointError, DataError
from nagraph.models import checkpoint, training
from nagraph.models.data.text import as_text
from nagraph.models.gpt2 import next_token_loss
from nagraph.models.training import Recipe, Run, TrainState, init_state, load_model, make_evaluation, make_step
from nagraph.storage import named_leaves

TINY = Recipe(layers=1, heads=2, width=8, context=6, batch=3, warm_up=4)
TEXT = as_text("the cat sat on the mat; " * 20, "a rhyme")
SYMBOLS = len(TEXT.symbols)


def leaves(state: Any) -> dict[str, np.ndarray]:
    return {n: x.copy() for n, x in named_leaves(state).items()}


def identical(a: Any, b: Any) -> bool:
    """The same bits, NaN's included."""
    x, y = (z if isinstance(z, dict) else leaves(z) for z in (a, b))
    return x.keys() == y.keys() and all(x[n].dtype == y[n].dtype and x[n].tobytes() == y[n].tobytes() for n in x)


def after(run: Run, steps: int) -> Run:
    while run.step < steps:
        run.advance()
    return run


def test_a_step_is_gradient_clipping_adamw_and_average() -> None:
    """The compiled step beside its parts called one by one."""
    recipe = dataclasses.replace(TINY, dropout=0.0, clip=0.1, dtype="float64")
    state, optimiser = init_state(recipe, SYMBOLS), recipe.optimiser()
    model, moments, average = state.model, state.optimiser, leaves(state.model)
    step = make_step(recipe)
    run = Run(recipe, TEXT)
    for i in range(4):
        ids = run.batch(i)
        loss, grads = ng.value_and_grad(lambda m, ids=ids: next_token_loss(m, ids))(model)
        clipped, norm = ng.optim.clip_by_global_norm(grads, 0.1)
        assert norm > 0.1
        model, moments = optimiser.update(model, clipped, moments)
        keep = min(recipe.average, (i + 2) / (i + 11))
        average = {n: keep * average[n] + (1 - keep) * x for n, x in leaves(model).items()}
        state, found_loss, found_norm = step(state, ids, np.int32(i))
        np.testing.assert_allclose([found_loss, found_norm], [loss, norm], rtol=1e-12)
    assert state.count == 4 and state.optimiser.step == 4
    for found, expected in ((leaves(state.model), leaves(model)), (leaves(state.average), average)):
        for n in expected:
            np.testing.assert_allclose(found[n], expected[n], rtol=1e-9, atol=1e-14, err_msg=n)


def test_the_average_follows_with_at_most_its_rate() -> None:
    """avg = keep avg + (1 - keep) w: keep is (t + 1) / (t + 10) at first, later the recipe's."""
    run = Run(dataclasses.replace(TINY, average=0.3), TEXT)
    average = leaves(run.state.model)
    for t in range(1, 5):
        run.advance()
        keep = min(0.3, (t + 1) / (t + 10))
        average = {n: keep * average[n] + (1 - keep) * x for n, x in leaves(run.state.model).items()}
    for n, x in leaves(run.state.average).items():
        np.testing.assert_allclose(x, average[n], rtol=1e-4, atol=1e-7)


def test_matrices_decay_and_vectors_do_not() -> None:
    recipe = dataclasses.replace(TINY, weight_decay=0.5)
    still = dataclasses.replace(TINY, weight_decay=0.0)
    a, b = (leaves(after(Run(r, TEXT), 1).state.model) for r in (recipe, still))
    for n, x in a.items():
        assert np.array_equal(x, b[n]) == (x.ndim < 2), n


def test_learning_lowers_the_loss() -> None:
    run = after(Run(dataclasses.replace(TINY, dropout=0.0, learning_rate=0.02), TEXT), 60)
    assert run.losses[0] > 2 > 1.5 > np.mean(run.losses[-5:])
    assert abs(run.losses[0] - math.log(SYMBOLS)) < 0.2, "at first all symbols are alike"


@pytest.mark.parametrize("poison", [np.inf, np.nan])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(poison: float) -> None:
    run = after(Run(TINY, TEXT), 2)
    good = run.state
    bad = good.replace(model=good.model.replace(position=np.full_like(good.model.position, poison)))
    before = leaves(bad)
    run.state = bad
    loss, norm = run.advance()
    assert not (math.isfinite(loss) and math.isfinite(norm)) and run.step == 3
    assert identical(run.state, before), "model, moments, average and counts"


def test_a_gradient_that_is_not_finite_counts_as_much_as_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is finite, its gradient infinite: √ at 0."""
    monkeypatch.setattr(training, "next_token_loss", lambda m, ids, key: ng.numpy.sum(ng.numpy.sqrt(m.norm.bias)))
    recipe = dataclasses.replace(TINY, dropout=0.0)
    state = init_state(recipe, SYMBOLS)
    before = leaves(state)
    state, loss, norm = make_step(recipe)(state, np.zeros((3, 7), np.int32), np.int32(0))
    assert loss == 0 and not np.isfinite(norm) and identical(state, before)


def test_a_run_goes_on_after_a_step_that_was_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's number moves on, so the next one has another batch and succeeds."""
    def loss(m: Any, ids: Any, key: Any) -> Any:
        return next_token_loss(m, ids) / ng.numpy.astype(ids[0, 0] != 3, np.float32)

    monkeypatch.setattr(training, "next_token_loss", loss)
    run = Run(dataclasses.replace(TINY, dropout=0.0), TEXT)
    finite = []
    for _ in range(30):
        before = leaves(run.state)
        finite.append(math.isfinite(run.advance()[0]))
        assert finite[-1] != identical(run.state, before)
    assert {True, False} == set(finite) and run.state.count == sum(finite) and run.step == 30


def test_state_with_leaves_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with a layer without bias trains too."""
    recipe = dataclasses.replace(TINY, dropout=0.0)
    state = init_state(recipe, SYMBOLS)
    model = state.model.replace(norm=state.model.norm.replace(bias=None))
    state = TrainState(model, recipe.optimiser().init(model), model.map(np.copy), state.count)
    state, loss, _ = make_step(recipe)(state, Run(recipe, TEXT).batch(0), np.int32(0))
    assert state.model.norm.bias is None and state.average.norm.bias is None and np.isfinite(loss) and state.count == 1


def test_batch_and_dropout_are_functions_of_seed_and_step() -> None:
    """The same state at another step, or with another seed, has another batch and another mask."""
    run = Run(TINY, TEXT)
    assert np.array_equal(run.batch(3), Run(TINY, TEXT).batch(3)) and not np.array_equal(run.batch(3), run.batch(4))
    other = dataclasses.replace(TINY, seed=1)
    assert not np.array_equal(Run(other, TEXT).batch(3), run.batch(3))
    ids, step, other_step = run.batch(0), make_step(TINY), make_step(other)

    def loss(step: Any, number: int) -> float:
        return float(step(init_state(TINY, SYMBOLS), ids, np.int32(number))[1])

    assert loss(step, 5) == loss(step, 5)
    assert len({loss(step, 5), loss(step, 6), loss(other_step, 5)}) == 3
    assert identical(init_state(TINY, SYMBOLS), init_state(TINY, SYMBOLS))
    assert not identical(init_state(TINY, SYMBOLS), init_state(other, SYMBOLS))


def test_a_resumed_run_is_the_run_that_was_never_interrupted(tmp_path: pathlib.Path) -> None:
    whole = after(Run(TINY, TEXT), 9)
    first = after(Run(TINY, TEXT), 4)
    first.save(tmp_path)
    second = Run.resume(tmp_path, TEXT)
    assert second.step == 4 and identical(second.state, first.state) and second.recipe == TINY
    after(second, 7).save(tmp_path)
    third = after(Run.resume(tmp_path, TEXT), 9)
    assert identical(third.state, whole.state)
    assert third.losses == whole.losses and third.norms == whole.norms and len(whole.losses) == 9
    assert third.perplexity() == whole.perplexity()


def test_losses_that_are_not_finite_are_kept(tmp_path: pathlib.Path) -> None:
    run = Run(TINY, TEXT)
    run.losses, run.norms, run.step = [1.5, math.inf, math.nan], [1.0, math.nan, 0.0], 3
    run.save(tmp_path)
    found = Run.resume(tmp_path, TEXT)
    np.testing.assert_array_equal(found.losses, run.losses)
    np.testing.assert_array_equal(found.norms, run.norms)


def test_the_horizon_is_stored(tmp_path: pathlib.Path) -> None:
    """Warm-up, then half a cosine down to a tenth; what comes from the checkpoint is the same."""
    recipe = dataclasses.replace(TINY, horizon=12, learning_rate=0.01)
    after(Run(recipe, TEXT), 6).save(tmp_path)
    assert json.loads((tmp_path / "checkpoint.json").read_text())["recipe"]["horizon"] == 12
    resumed = Run.resume(tmp_path, TEXT)
    assert resumed.recipe == recipe
    assert identical(after(resumed, 9).state, after(Run(recipe, TEXT), 9).state)
    assert not identical(resumed.state, after(Run(dataclasses.replace(recipe, horizon=None), TEXT), 9).state)
    rates = [float(recipe.schedule()(t)) for t in (0, 3, 4, 8, 12, 50)]
    np.testing.assert_allclose(rates, [0.0025, 0.01, 0.01, 0.0055, 0.001, 0.001], rtol=1e-5)
    constant = dataclasses.replace(recipe, horizon=None).schedule()
    np.testing.assert_allclose([float(constant(t)) for t in (0, 3, 4, 999)], [0.0025, 0.01, 0.01, 0.01], rtol=1e-6)


# -- evaluation ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("length", [7, 8, 13, 24, 48])
def test_perplexity_counts_each_symbol_once_with_half_a_context_before_it(length: int) -> None:
    model = init_state(TINY, SYMBOLS).model.map(lambda x: 5 * x)
    ids = np.random.default_rng(0).integers(0, SYMBOLS, length).astype(np.int32)
    forward = ng.jit(lambda m, x: m(x))
    total, counted = 0.0, []
    for start in range(0, length - 6, 3):
        logits = np.asarray(forward(model, ids[start:start + 6]), np.float64)
        for i in range(0 if start == 0 else 3, 6):
            total -= logits[i, ids[start + 1 + i]] - np.log(np.exp(logits[i]).sum())
            counted.append(start + 1 + i)
    assert len(set(counted)) == len(counted) and set(counted) == set(range(1, max(counted) + 1)) and max(counted) > length - 4
    np.testing.assert_allclose(make_evaluation(TINY)(model, ids), math.exp(total / len(counted)), rtol=1e-5)


def test_perplexity_is_that_of_the_averaged_weights() -> None:
    run = after(Run(TINY, TEXT), 3)
    evaluate = make_evaluation(TINY)
    assert run.perplexity() == evaluate(run.state.average, TEXT.held_out) != evaluate(run.state.model, TEXT.held_out)


# -- recipes and checkpoints that are wrong -------------------------------------------------------------------

@pytest.mark.parametrize(("change", "message"), [
    ({"layers": 0}, "layers must be a whole number, at least 1, got 0"), ({"width": 8.0}, "width must be a whole number"),
    ({"batch": True}, "batch must be a whole number"), ({"context": 1}, "context must be a whole number, at least 2, got 1"),
    ({"heads": 3}, "width 8 must be a multiple of heads 3"), ({"dropout": 1}, r"dropout must be a number in \[0, 1\), got 1"),
    ({"learning_rate": math.nan}, "learning_rate must be a number greater than 0, got nan"),
    ({"learning_rate": math.inf}, "learning_rate must be"), ({"clip": 0}, "clip must be a number greater than 0"),
    ({"weight_decay": -0.1}, "weight_decay must be a number of at least 0"), ({"average": "x"}, r"average must be .* got 'x'"),
    ({"seed": -1}, "seed must be a whole number, at least 0, got -1"), ({"seed": 2**64}, "seed must be"),
    ({"horizon": 4}, "the horizon, 4 steps, must lie beyond the warm-up of 4"), ({"horizon": 1.5}, "horizon must be None, or"),
    ({"dtype": "float16"}, "dtype must be float32 or float64, got 'float16'"), ({"dtype": None}, "dtype must be"),
])
def test_recipes_that_make_no_run(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    after(Run(TINY, TEXT), 2).save(tmp_path)
    return tmp_path


def spoil(folder: pathlib.Path, **changes: Any) -> None:
    path = folder / checkpoint.NAME
    facts = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in facts.items() if v is not ...}))


def recipe_with(**changes: Any) -> dict[str, Any]:
    return {"recipe": {k: v for k, v in {**dataclasses.asdict(TINY), **changes}.items() if v is not ...}}


@pytest.mark.parametrize(("changes", "message"), [
    ({"recipe": ...}, "its recipe is not one that this version knows .there is none"),
    ({"recipe": "secret"}, "its recipe is not one that this version knows"),
    (recipe_with(colour="red", width=...), "its recipe is not one that this version knows .colour, width"),
    (recipe_with(width="8"), "its recipe is not one that can be trained: width must be a whole number"),
    (recipe_with(heads=3), "its recipe is not one that can be trained: width 8 must be a multiple of heads 3"),
    (recipe_with(layers=10**9), "its tensors are not those of its recipe: .*1 blocks; the recipe asks for .* 1000000000"),
    (recipe_with(width=10**7), "its tensors are not those of its recipe"),
    (recipe_with(context=10**12), "its tensors are not those of its recipe"),
    (recipe_with(dtype="float64"), r"tensor state.\w+.token.table is float32\[.*\], expected float64"),
    ({"model": "resnet"}, "is a checkpoint of 'resnet', not of 'gpt2'"),
])
def test_checkpoints_with_another_recipe(changes: dict[str, Any], message: str, saved: pathlib.Path) -> None:
    spoil(saved, **changes)
    for read in (lambda: Run.resume(saved, TEXT), lambda: load_model(saved)):
        with pytest.raises(CheckpointError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [..., None, [], {}, {"sha256": "0"}])
def test_another_text_is_refused(data: Any, saved: pathlib.Path) -> None:
    spoil(saved, data=data)
    with pytest.raises(CheckpointError, match="was trained on another text .* than a rhyme; resume with the text"):
        Run.resume(saved, TEXT)


def test_another_text_is_named(saved: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=r"trained on another text \(a rhyme\) than a song; resume"):
        Run.resume(saved, as_text("la " * 80, "a song"))


def test_load_model_gives_the_average_its_symbols_and_the_recipe(saved: pathlib.Path) -> None:
    model, symbols, recipe = load_model(saved)
    run = Run.resume(saved, TEXT)
    assert identical(model, run.state.average) and symbols == TEXT.symbols and recipe == TINY
    assert model.config == TINY.model_config(SYMBOLS)


@pytest.mark.parametrize(("symbols", "message"), [
    (..., "names no symbols"), ("", "names no symbols"), (["a"], "names no symbols"), ("abc", "its tensors are not those of its recipe")])
def test_checkpoints_without_their_symbols(symbols: Any, message: str, saved: pathlib.Path) -> None:
    spoil(saved, symbols=symbols)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


def test_a_checkpoint_that_lacks_a_tensor(saved: pathlib.Path) -> None:
    facts, tensors = checkpoint.read(saved)
    del tensors["state.optimiser.slots.mean.norm.bias"]
    checkpoint.write(saved, 2, {k: facts[k] for k in ("model", "recipe", "symbols", "data")}, tensors)
    with pytest.raises(CheckpointError, match="holds no tensor state.optimiser.slots.mean.norm.bias"):
        Run.resume(saved, TEXT)
    assert load_model(saved)[1] == TEXT.symbols, "which generation does not need"
