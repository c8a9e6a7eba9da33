"""Tasks: each trains on small data of its kind, its batches depend on the step alone, its checkpoint goes on and is evaluated."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import CheckpointError, DataError
from nagraph.models import CLASSES
from nagraph.models.tasks import task_class
from nagraph.models.training import Run, load_model
from nagraph.models.training.diagnosis import check_gradients
from nagraph.models.training.task import Grid, Matrix, Text
from nagraph.storage import named_leaves

BLOCKS = {"layers": 1, "heads": 2, "width": 16, "batch": 8, "warm_up": 4, "horizon": 60}
#: Small options of each model, and steps after which it is better than it was.
SMALL: dict[str, tuple[dict[str, Any], int]] = {
    "gpt2": ({**BLOCKS, "context": 16, "learning_rate": 1e-2, "dropout": 0.1}, 40),
    "llama": ({**BLOCKS, "context": 16, "groups": 1, "inner": 24, "learning_rate": 1e-2, "vocabulary": 300}, 40),
    "vit": ({**BLOCKS, "patch": 4, "learning_rate": 5e-3}, 50),
    "resnet": ({"width": 8, "depths": "1,1", "batch": 16, "warm_up": 4, "horizon": 60, "learning_rate": 1e-2, "average": 0.9}, 40),
    "bert": ({**BLOCKS, "heads": 4, "width": 64, "context": 32, "reading": 6, "learning_rate": 1e-3, "class_rate": 1e-3,
              "horizon": 120, "vocabulary": 300, "dropout": 0.0, "average": 0.9}, 80),
    "clip": ({**BLOCKS, "text_layers": 1, "patch": 8, "batch": 24, "learning_rate": 5e-3, "vocabulary": 64}, 60),
}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two classes of texts that a few words tell apart."""
    root = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 3)):
        for name, words in (("fruit", "apple pear plum fig"), ("tools", "saw drill file plane")):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                lines = [" ".join(rng.choice(["the", "a", *words.split()], 8)) for _ in range(6)]
                (folder / f"{i}.txt").write_text("\n".join(lines))
    return root


def start(name: str, data: pathlib.Path, **changes: Any) -> Run:
    kind = task_class(name)
    texts = {"gpt2": data, "llama": data, "bert": data}
    return Run(kind.begin(kind.Recipe(**{**SMALL[name][0], **changes}), texts.get(name)))


def after(run: Run, steps: int) -> Run:
    while run.step < steps:
        run.advance()
    run.close()
    return run


def state(run: Run) -> dict[str, bytes]:
    return {n: x.tobytes() for n, x in named_leaves(run.state).items()}


def test_every_task_is_tried_here() -> None:
    assert set(SMALL) == set(CLASSES)
    with pytest.raises(DataError, match="unknown model 'abacus'; there is gpt2, llama"):
        task_class("abacus")


@pytest.mark.parametrize("name", SMALL)
def test_training_makes_the_metric_better_and_reaches_every_parameter(name: str, data: pathlib.Path) -> None:
    run = start(name, data)
    before = run.evaluate()[0].value
    after(run, 5)
    check_gradients(run.task, run.state)
    after(run, SMALL[name][1])
    found = run.evaluate()
    better = found[0].value - before if run.task.higher else before - found[0].value
    assert better > 0, (before, found)
    assert all(np.isfinite(s.value) for s in found) and found[0].name == run.task.metric
    assert np.mean(run.losses[-5:]) < np.mean(run.losses[:5]) or name == "bert"


@pytest.mark.parametrize("name", SMALL)
def test_a_run_goes_on_bit_for_bit_and_its_model_is_evaluated(name: str, data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = data if name in ("gpt2", "llama", "bert") else None
    whole, first = after(start(name, data), 9), after(start(name, data), 4)
    first.save(tmp_path)
    second = after(Run.resume(tmp_path, folder), 9)
    assert state(second) == state(whole) and second.losses == whole.losses
    second.save(tmp_path)
    model, task = load_model(tmp_path, name)
    task.read(folder)
    assert task.scores(model) == whole.evaluate() and task.facts == whole.task.facts


@pytest.mark.parametrize("name", SMALL)
def test_batches_depend_on_seed_and_step_alone(name: str, data: pathlib.Path) -> None:
    one, two, other = start(name, data).task, start(name, data).task, start(name, data, seed=1).task
    for number in (0, 3, 50):
        a, b, c = (t.batch(number) for t in (one, two, other))
        assert [x.tobytes() for x in a] == [x.tobytes() for x in b] and a[0].tobytes() != c[0].tobytes()
    assert one.batch(0)[0].tobytes() != one.batch(1)[0].tobytes()
    random = one.random_batch(np.random.default_rng(0))
    assert [(x.dtype, x.ndim) for x in random] == [(x.dtype, x.ndim) for x in one.batch(0)], "it stands in for data"


@pytest.mark.parametrize("name", SMALL)
def test_things_to_look_at_and_baselines(name: str, data: pathlib.Path) -> None:
    run = start(name, data)
    shown = list(run.task.showcase(run.state.average))
    assert shown
    for x in shown:
        if isinstance(x, Text):
            assert x.given and "".join(x.written)
        elif isinstance(x, Grid):
            assert len(x.images) == len(x.said) == len(x.right) and 0 <= x.images.min() <= x.images.max() <= 1
        else:
            assert isinstance(x, Matrix) and x.values.shape == (len(x.rows), len(x.columns))
    first, *others = run.task.baselines()
    assert "chance" in first.name and (others or name == "clip")
    assert all(s.value > first.value for s in others if s.name.startswith(("logistic", "3 nearest", "TF-IDF", "an oracle")))
    assert run.task.source in run.task.describe()


@pytest.mark.parametrize("name", SMALL)
def test_tensors_of_other_sizes_are_refused(name: str, data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = start(name, data)
    run.save(tmp_path)
    text = (tmp_path / "checkpoint.json").read_text()
    old = run.task.facts["names"][0] if "names" in run.task.facts else None
    changed = text.replace(f'"{old}",', f'"{old}", "x",', 1) if old else text.replace('"width": 16', '"width": 32')
    assert changed != text
    (tmp_path / "checkpoint.json").write_text(changed)
    with pytest.raises(CheckpointError, match="its tensors are not those of its recipe"):
        load_model(tmp_path)


def test_images_of_another_kind_do_not_fit(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = start("vit", data)
    run.save(tmp_path)
    _, task = load_model(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError):
        task.read(tmp_path / "a")
    with pytest.raises(CheckpointError, match="is a checkpoint of 'vit', not of 'resnet'"):
        load_model(tmp_path, "resnet")


def test_evaluation_in_parts_is_evaluation_of_all(data: pathlib.Path) -> None:
    """Batches that are filled up to one shape give what single images give."""
    run = start("resnet", data)
    task, model = run.task, after(run, 3).state.average
    pixels = task.split.held_out.pixels[:5]
    alone = ng.jit(task.logits)
    from nagraph.models.data.augment import normalise

    for i, row in enumerate(task.predict(model, pixels)):
        np.testing.assert_allclose(alone(model, normalise(pixels[i:i + 1], task.mean, task.std))[0], row, rtol=1e-4, atol=1e-5)
