"""Choices: each decision forced, forbidden and taken at random, and the results are the reference's."""

import numpy as np
import pytest

import nagraph as ng
from nagraph import choices
from nagraph.choices import DECISIONS, PROFIT, Choices
from nagraph.errors import SignatureError
from nagraph.pipeline import pass_names
from nagraph.suggestions import RENAMED, suggestion
from tests.plan.test_every_graph_compiles import PROGRAMS, agree
from tests.support import CPU_BACKENDS

SEEDS = [f"chaos={seed}" for seed in range(4)]
MODES = [*(f"{how}={name}" for name in DECISIONS for how in ("force", "forbid")), *SEEDS]
EXPECTED: dict[str, object] = {}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("mode", SEEDS)
def test_programs_compute_the_same_whatever_is_chosen(name, mode):
    fn, *arguments = PROGRAMS[name]
    if name not in EXPECTED:
        EXPECTED[name] = ng.jit(fn, backend="numpy")(*arguments)
    for backend in CPU_BACKENDS:
        with choices.using(mode):
            jitted = ng.jit(fn, backend=backend)
        agree(jitted(*arguments), EXPECTED[name])


@pytest.mark.parametrize("text", ["", "chaos=7", "chaos=-1,force=fuse+row_sums,forbid=in_place", "force=fuse", "forbid=cse"])
def test_choices_are_what_their_text_says(text):
    assert str(Choices.parse(text)) == text
    assert Choices.parse(str(Choices.parse(text))) == Choices.parse(text)


@pytest.mark.parametrize("text,words", [
    ("chaos=x", "read like"), ("seed=3", "read like"), ("force=row_sum", "did you mean row_sums"),
    ("force=sweep", "it is called row_sums now"), ("force=fuse,forbid=fuse", "not both"),
])
def test_what_is_no_choice(text, words):
    with pytest.raises(SignatureError, match=words):
        Choices.parse(text)


def test_equal_questions_have_equal_answers_and_profit_is_what_was_said():
    for chosen in (Choices(3), Choices(3)):
        assert [chosen.takes("fuse", True, n) for n in range(50)] == [Choices(3).takes("fuse", True, n) for n in range(50)]
    assert {Choices(3).takes("fuse", True, n) for n in range(50)} == {True, False}
    assert PROFIT.takes("fuse", False) is False and PROFIT.least("row_sums", 64) == 64 and PROFIT.most("pretranspose", 8) == 8
    assert Choices(force=frozenset({"row_sums"})).least("row_sums", 64) == 1
    assert PROFIT.pick("schedule", "abc") == "a" and PROFIT.shuffled("rows", "abc") == list("abc")


def test_a_function_keeps_the_choices_it_was_jitted_under():
    with choices.using("forbid=fuse"):
        apart = ng.jit(lambda x: np.tanh(x * 2) + 1)
    fused = ng.jit(lambda x: np.tanh(x * 2) + 1)
    x = np.ones((512, 512), "f")
    assert choices.current() == PROFIT
    assert len(apart.lower(x).executable.kernels) == 3 and len(fused.lower(x).executable.kernels) == 1


def test_the_environment_says_what_is_chosen(monkeypatch):
    monkeypatch.setenv("NAGRAPH_CHOICES", "chaos=5")
    assert choices.current() == Choices(5)
    with choices.using("force=cse"):
        assert str(choices.current()) == "force=cse"


def test_an_old_name_of_a_pass_or_decision_is_answered_with_the_new_one():
    names = {*DECISIONS, *pass_names()}
    new = {old: name for old, name in RENAMED.items() if name in names}
    assert len(new) == 9 and not RENAMED.keys() & names
    assert all(suggestion(old, names) == f" (it is called {name} now)" for old, name in new.items())
