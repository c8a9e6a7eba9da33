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
from nagraph.errors import CheckpointError, DataError, NotFiniteError
from nagraph.models import checkpoint
from nagraph.models.data.text import as_text
from nagraph.models.language_model import next_token_loss
from nagraph.models.tasks.gpt2 import GPT2Recipe, GPT2Task
from nagraph.models.training import Run, TrainState, init_state, load_model, make_step
from nagraph.models.training.diagnosis import check_gradients, without_gradient
from nagraph.storage import named_leaves

TINY = GPT2Recipe(layers=1, heads=2, width=8, context=6, batch=3, warm_up=4, horizon=None)
RHYME = "the cat sat on the mat; " * 20
TEXT = as_text(RHYME, "a rhyme")
SYMBOLS = len(TEXT.symbols)


def task(recipe: GPT2Recipe = TINY, kind: type[GPT2Task] = GPT2Task) -> GPT2Task:
    return kind.of(recipe, TEXT)  # type: ignore[return-value]


def start(recipe: GPT2Recipe = TINY, kind: type[GPT2Task] = GPT2Task) -> Run:
    return Run(task(recipe, kind))


def save(run: Run, folder: pathlib.Path, keep: int = 1) -> None:
    """The checkpoint, and the text beside it."""
    run.save(folder, keep)
    (folder / "text.txt").write_text(RHYME)


def resume(folder: pathlib.Path) -> Run:
    return Run.resume(folder, folder / "text.txt")


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
    state, optimiser = init_state(task(recipe)), recipe.optimiser()
    model, moments, average = state.model, state.optimiser, leaves(state.model)
    step = make_step(task(recipe))
    for i in range(4):
        (ids,) = task(recipe).batch(i)
        loss, grads = ng.value_and_grad(lambda m, ids=ids: next_token_loss(m, ids))(model)
        clipped, norm = ng.optim.clip_by_global_norm(grads, 0.1)
        assert norm > 0.1
        model, moments = optimiser.update(model, clipped, moments)
        keep = min(recipe.average, (i + 2) / (i + 11))
        average = {n: keep * average[n] + (1 - keep) * x for n, x in leaves(model).items()}
        state, found_loss, found_norm = step(state, (ids,), np.int32(i))
        np.testing.assert_allclose([found_loss, found_norm], [loss, norm], rtol=1e-12)
    assert state.count == 4 and state.optimiser.step == 4
    for found, expected in ((leaves(state.model), leaves(model)), (leaves(state.average), average)):
        for n in expected:
            np.testing.assert_allclose(found[n], expected[n], rtol=1e-9, atol=1e-14, err_msg=n)


def test_the_average_follows_with_at_most_its_rate() -> None:
    """avg = keep avg + (1 - keep) w: keep is (t + 1) / (t + 10) at first, later the recipe's."""
    run = start(dataclasses.replace(TINY, average=0.3))
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
    a, b = (leaves(after(start(r), 1).state.model) for r in (recipe, still))
    for n, x in a.items():
        assert np.array_equal(x, b[n]) == (x.ndim < 2), n


def test_learning_lowers_the_loss() -> None:
    run = after(start(dataclasses.replace(TINY, dropout=0.0, learning_rate=0.02)), 60)
    assert run.losses[0] > 2 > 1.5 > np.mean(run.losses[-5:])
    assert abs(run.losses[0] - math.log(SYMBOLS)) < 0.2, "at first all symbols are alike"


# -- steps that are not finite --------------------------------------------------------------------------------

class RootOfZero(GPT2Task):
    """The loss is finite, its gradient infinite: √ at 0."""

    def loss(self, model: Any, *arrays: Any, key: Any) -> Any:
        return ng.numpy.sum(ng.numpy.sqrt(model.norm.bias)), model


class Divides(GPT2Task):
    """The loss is divided by zero in batches that begin with one symbol."""

    def loss(self, model: Any, *arrays: Any, key: Any) -> Any:
        (ids,) = arrays
        return next_token_loss(model, ids) / ng.numpy.astype(ids[0, 0] != 3, np.float32), model


@pytest.mark.parametrize("poison", [np.inf, np.nan])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(poison: float) -> None:
    run = after(start(), 2)
    good = run.state
    run.state = good.replace(model=good.model.replace(position=np.full_like(good.model.position, poison)))
    before, losses = leaves(run.state), list(run.losses)
    with pytest.raises(NotFiniteError, match="step 3: loss nan, gradient norm nan; parameter position was not finite before the step"):
        run.advance()
    assert identical(run.state, before) and run.step == 2 and run.losses == losses, "model, moments, average and counts"


def test_a_gradient_that_is_not_finite_counts_as_much_as_a_loss() -> None:
    run = start(dataclasses.replace(TINY, dropout=0.0), RootOfZero)
    before = leaves(run.state)
    with pytest.raises(NotFiniteError, match="loss 0, gradient norm .*; an infinity comes first from (divide|rsqrt) at test_training.py"):
        run.advance()
    assert identical(run.state, before)


def test_the_operation_that_was_the_first_is_named_with_its_line() -> None:
    run = start(dataclasses.replace(TINY, dropout=0.0), Divides)
    number = next(i for i in range(100) if run.task.batch(i)[0][0, 0] == 3)
    after(run, number)
    before = leaves(run.state)
    with pytest.raises(NotFiniteError, match=rf"step {number + 1}: loss inf.*comes first from divide at test_training.py:\d+, given f32"):
        run.advance()
    assert identical(run.state, before) and run.step == number


def test_state_with_leaves_that_are_none() -> None:
    """A model with a layer without bias trains too."""
    recipe = dataclasses.replace(TINY, dropout=0.0)
    state = init_state(task(recipe))
    model = state.model.replace(norm=state.model.norm.replace(bias=None))
    state = TrainState(model, recipe.optimiser().init(model), model.map(np.copy), state.count)
    state, loss, _ = make_step(task(recipe))(state, task().batch(0), np.int32(0))
    assert state.model.norm.bias is None and state.average.norm.bias is None and np.isfinite(loss) and state.count == 1


class OneSided(GPT2Task):
    """A loss that no position reaches."""

    def loss(self, model: Any, *arrays: Any, key: Any) -> Any:
        return next_token_loss(model.replace(position=ng.nn.functional.stop_gradient(model.position)), *arrays), model


def test_parameters_that_nothing_reaches_are_named() -> None:
    run = after(start(), 5)
    assert without_gradient(run.task, run.state) == []
    check_gradients(run.task, run.state)
    run = after(start(kind=OneSided), 5)
    with pytest.raises(DataError, match="after 5 steps the gradient of position was always zero"):
        check_gradients(run.task, run.state)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 1e-4)])
def test_accumulated_batches_are_one_large_batch(dtype: str, tolerance: float) -> None:
    """Three batches of two windows, and one of all six: the same losses and weights."""
    small = dataclasses.replace(TINY, dropout=0.0, batch=2, accumulate=3, dtype=dtype)
    run, state = start(small), init_state(task(small))
    step = make_step(task(dataclasses.replace(small, batch=6, accumulate=1)))
    for i in range(4):
        found = run.advance()
        (stacked,) = run.batch(i)
        assert stacked.shape == (3, 2, 7)
        state, loss, norm = step(state, (stacked.reshape(6, 7),), np.int32(i))
        np.testing.assert_allclose(found, [loss, norm], rtol=tolerance)
    for n, x in leaves(state).items():
        np.testing.assert_allclose(leaves(run.state)[n], x, rtol=1e-2 if dtype == "float32" else 1e-8, atol=tolerance, err_msg=n)


def test_batch_and_dropout_are_functions_of_seed_and_step() -> None:
    """The same state at another step, or with another seed, has another batch and another mask."""
    mine, again = task(), task()
    assert np.array_equal(mine.batch(3)[0], again.batch(3)[0]) and not np.array_equal(mine.batch(3)[0], mine.batch(4)[0])
    other = task(dataclasses.replace(TINY, seed=1))
    assert not np.array_equal(other.batch(3)[0], mine.batch(3)[0])
    batch, step, other_step = mine.batch(0), make_step(mine), make_step(other)

    def loss(step: Any, number: int) -> float:
        return float(step(init_state(mine), batch, np.int32(number))[1])

    assert loss(step, 5) == loss(step, 5)
    assert len({loss(step, 5), loss(step, 6), loss(other_step, 5)}) == 3
    assert identical(init_state(mine), init_state(again))
    assert not identical(init_state(mine), init_state(other))


def test_a_resumed_run_is_the_run_that_was_never_interrupted(tmp_path: pathlib.Path) -> None:
    whole = after(start(), 9)
    first = after(start(), 4)
    save(first, tmp_path)
    second = resume(tmp_path)
    assert second.step == 4 and identical(second.state, first.state) and second.recipe == TINY
    save(after(second, 7), tmp_path)
    third = after(resume(tmp_path), 9)
    assert identical(third.state, whole.state)
    assert third.losses == whole.losses and third.norms == whole.norms and len(whole.losses) == 9
    assert third.evaluate() == whole.evaluate()


def test_losses_that_are_not_finite_are_kept(tmp_path: pathlib.Path) -> None:
    run = start()
    run.losses, run.norms, run.step = [1.5, math.inf, math.nan], [1.0, math.nan, 0.0], 3
    save(run, tmp_path)
    found = resume(tmp_path)
    np.testing.assert_array_equal(found.losses, run.losses)
    np.testing.assert_array_equal(found.norms, run.norms)


def test_the_horizon_is_stored(tmp_path: pathlib.Path) -> None:
    """Warm-up, then half a cosine down to a tenth; what comes from the checkpoint is the same."""
    recipe = dataclasses.replace(TINY, horizon=12, learning_rate=0.01)
    save(after(start(recipe), 6), tmp_path)
    assert json.loads((tmp_path / "checkpoint.json").read_text())["recipe"]["horizon"] == 12
    resumed = resume(tmp_path)
    assert resumed.recipe == recipe
    assert identical(after(resumed, 9).state, after(start(recipe), 9).state)
    assert not identical(resumed.state, after(start(dataclasses.replace(recipe, horizon=None)), 9).state)
    rates = [float(recipe.schedule()(t)) for t in (0, 3, 4, 8, 12, 50)]
    np.testing.assert_allclose(rates, [0.0025, 0.01, 0.01, 0.0055, 0.001, 0.001], rtol=1e-5)
    constant = dataclasses.replace(recipe, horizon=None).schedule()
    np.testing.assert_allclose([float(constant(t)) for t in (0, 3, 4, 999)], [0.0025, 0.01, 0.01, 0.01], rtol=1e-6)


# -- evaluation ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("length", [3, 7, 8, 13, 24, 48])
def test_perplexity_counts_each_symbol_once_with_half_a_context_before_it(length: int) -> None:
    mine = task()
    model = init_state(mine).model.map(lambda x: 5 * x)
    ids = np.random.default_rng(0).integers(0, SYMBOLS, length).astype(np.int32)
    forward = ng.jit(lambda m, x: m(x))
    total = 0.0
    for i in range(1, length):
        starts = [s for s in (*range(0, max(length - 7, 0), 3), max(length - 7, 0)) if s < i <= s + 6]
        logits = np.asarray(forward(model, ids[starts[0]:i]), np.float64)[-1]
        total -= logits[ids[i]] - np.log(np.exp(logits).sum())
        assert i - starts[0] > 3 or starts[0] == 0 or i > length - 7, "half a context"
    found, count = mine.nats(model, ids)
    assert count == length - 1
    np.testing.assert_allclose(found, total, rtol=1e-5)


def test_evaluations_are_of_the_averaged_weights_and_the_best_is_known() -> None:
    run = after(start(), 3)
    (score,) = run.evaluate()
    assert score.name == "perplexity a character" and [score] == run.task.scores(run.state.average) != run.task.scores(run.state.model)
    run.scored = [(1, 9.0), (2, 5.0), (3, math.nan), (4, 6.0)]
    assert run.best == (2, 5.0), "less is better"


# -- recipes and checkpoints that are wrong -------------------------------------------------------------------

@pytest.mark.parametrize(("change", "message"), [
    ({"layers": 0}, "layers must be a whole number, at least 1, got 0"), ({"width": 8.0}, "width must be a whole number"),
    ({"batch": True}, "batch must be a whole number"), ({"context": 1}, "context must be a whole number, at least 2, got 1"),
    ({"heads": 3}, "width 8 must be a multiple of heads 3"), ({"dropout": 1}, r"dropout must be a number in \[0, 1\), got 1"),
    ({"learning_rate": math.nan}, "learning_rate must be a number greater than 0, got nan"),
    ({"learning_rate": math.inf}, "learning_rate must be"), ({"clip": 0}, "clip must be a number greater than 0"),
    ({"weight_decay": -0.1}, "weight_decay must be a number of at least 0"), ({"average": "x"}, r"average must be .* got 'x'"),
    ({"seed": -1}, "seed must be a whole number, at least 0, got -1"), ({"seed": 2**64}, "seed must be"),
    ({"accumulate": 0}, "accumulate must be a whole number, at least 1, got 0"),
    ({"horizon": 4}, "the horizon, 4 steps, must lie beyond the warm-up of 4"), ({"horizon": 1.5}, "horizon must be None, or"),
    ({"dtype": "float16"}, "dtype must be float32 or float64, got 'float16'"), ({"dtype": None}, "dtype must be"),
])
def test_recipes_that_make_no_run(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.fixture
def saved(tmp_path: pathlib.Path) -> pathlib.Path:
    save(after(start(), 2), tmp_path)
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
    ({"model": "abacus"}, "is a checkpoint of 'abacus'; there is gpt2"),
])
def test_checkpoints_with_another_recipe(changes: dict[str, Any], message: str, saved: pathlib.Path) -> None:
    spoil(saved, **changes)
    for read in (lambda: resume(saved), lambda: load_model(saved)):
        with pytest.raises(CheckpointError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [..., None, [], {}, {"sha256": "0"}])
def test_another_text_is_refused(data: Any, saved: pathlib.Path) -> None:
    spoil(saved, data=data)
    with pytest.raises(CheckpointError, match="was trained on other data .* than .*text.txt; resume with the data"):
        resume(saved)


def test_another_text_is_named(saved: pathlib.Path) -> None:
    (saved / "song.txt").write_text("la " * 80)
    with pytest.raises(CheckpointError, match=r"trained on other data \(a rhyme\) than .*song.txt; resume"):
        Run.resume(saved, saved / "song.txt")


def test_load_model_gives_the_average_and_its_task(saved: pathlib.Path) -> None:
    model, found = load_model(saved)
    run = resume(saved)
    assert identical(model, run.state.average) and found.tokenizer.symbols == TEXT.symbols and found.recipe == TINY
    assert model.config == run.state.model.config


@pytest.mark.parametrize(("facts", "message"), [
    (..., "does not say what its data were like"), ({}, "does not say what its data were like$"),
    ({"tokenizer": {"kind": "characters"}}, "does not say what its data were like: .* names its symbols"),
    ({"tokenizer": {"kind": "characters", "symbols": "abc"}}, "its tensors are not those of its recipe")])
def test_checkpoints_without_their_symbols(facts: Any, message: str, saved: pathlib.Path) -> None:
    spoil(saved, facts=facts)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


def test_a_checkpoint_that_lacks_a_tensor(saved: pathlib.Path) -> None:
    facts, tensors = checkpoint.read(saved)
    del tensors["state.optimiser.slots.mean.norm.bias"]
    checkpoint.write(saved, 2, {k: facts[k] for k in ("model", "recipe", "facts", "data")}, tensors)
    with pytest.raises(CheckpointError, match="holds no tensor state.optimiser.slots.mean.norm.bias"):
        resume(saved)
    assert load_model(saved)[1].tokenizer.symbols == TEXT.symbols, "which generation does not need"
