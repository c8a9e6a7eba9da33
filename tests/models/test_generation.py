"""Generation: each symbol has the probability that the model gives it, with a cache as without, and text is shown as it comes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import DataError
from nagraph.models.generation import BLOCK, Sampling, compiled, generate, likeliest, stream
from nagraph.models.gpt2 import GPT2, GPT2Config
from nagraph.models.llama import Llama, LlamaConfig

SIZES = {"vocabulary": 9, "layers": 1, "heads": 2, "width": 8}
KINDS = ("gpt2", "llama")


def made(kind: str = "gpt2", dtype: type = np.float32, **options: Any) -> Any:
    """A model with weights large enough that its symbols differ."""
    sizes = {**SIZES, **options}
    model: Any = (GPT2.init(ng.random.key(0), GPT2Config(**sizes), dtype) if kind == "gpt2" else
                  Llama.init(ng.random.key(0), LlamaConfig(**sizes, groups=sizes["heads"] // 2, inner=12), dtype))
    return model.map(lambda x: 10 * x)


@pytest.fixture(scope="module")
def model() -> Any:
    return made(context=6)


def prompt(length: int, vocabulary: int = 9) -> np.ndarray:
    return np.random.default_rng(length).integers(0, vocabulary, length)


# -- the cache --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_read_in_parts_has_the_logits_of_the_whole(kind: str, dtype: type) -> None:
    model = made(kind, dtype, vocabulary=11, context=12, layers=2, heads=4, width=16)
    ids = np.random.default_rng(0).integers(0, 11, (2, 12))
    whole = ng.jit(lambda model, ids: model(ids))(model, ids)
    extend = ng.jit(lambda model, ids, cache, start: model.extend(ids, cache, start), donate_argnames="cache")
    for parts in ((12,), (5, 1, 1, 5), (1,) * 12):
        cache, start = model.empty_cache(2), 0
        arrays = ng.tree.leaves(cache)
        assert all(x.shape == (2, 4 if kind == "gpt2" else 2, 12, 4) and x.dtype == dtype for x in arrays) and len(arrays) == 4
        for n in parts:
            logits, cache = extend(model, ids[:, start:start + n], cache, np.array(start))
            expected = whole[:, start:start + n]
            np.testing.assert_allclose(logits, expected, rtol=0, atol=1000 * np.finfo(dtype).eps * np.abs(whole).max())
            start += n
        assert all(a is b for a, b in zip(arrays, ng.tree.leaves(cache))), "each array is updated in its own place"


@pytest.mark.parametrize("kind", KINDS)
def test_more_positions_than_the_context_holds(kind: str) -> None:
    model = made(kind, context=6)
    with pytest.raises(ng.errors.TypeRuleError, match=": 7 positions do not fit its context of 6"):
        ng.jit(lambda model, cache: model.extend(np.zeros((1, 7), np.int32), cache, 0))(model, model.empty_cache(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_is_a_number(kind: str) -> None:
    model, ids = made(kind, context=6), prompt(6)[None]
    whole = ng.jit(lambda model, ids: model(ids))(model, ids)

    def halves(model: Any, ids: Any) -> Any:
        first, cache = model.extend(ids[:, :3], model.empty_cache(1), 0)
        return ng.numpy.concatenate([first, model.extend(ids[:, 3:], cache, 3)[0]], axis=1)

    np.testing.assert_allclose(ng.jit(halves)(model, ids), whole, rtol=0, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("context", [1, 2, 6, 7, BLOCK + 5])
@pytest.mark.parametrize("options", [
    {"temperature": 0}, {"temperature": 0.7, "seed": 3}, {"top_k": 3, "top_p": 0.9, "repetition_penalty": 1.3},
], ids=["greedy", "drawn", "restricted"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_the_cache_and_without_the_same_ids(kind: str, context: int, options: dict[str, Any]) -> None:
    """From prompts of one symbol to more than the context, and beyond its border; compiled once, for all of them."""
    model = made(kind, context=context, layers=2)
    for f in compiled(model.config, None, None):
        f.cache_clear()
    lengths = {1, 2, 3, context - 1, context, context + 1, 2 * context + 1} - {0}
    for n in lengths:
        cached = list(generate(model, prompt(n), 2 * context + 5, **options))
        assert cached == list(generate(model, prompt(n), 2 * context + 5, cache=False, **options)), n
    step, fill, whole = (f.cache_info() for f in compiled(model.config, None, None))
    assert step.misses == whole.misses == 1 and step.hits > len(lengths) * 2 * context
    assert fill.misses == (context > 1), "with a context of 1 there is never a past"


def test_each_id_is_read_once(model: Any) -> None:
    """One step for each id that is drawn; blocks only for the prompt, and for the half that is read again."""
    step, fill, _ = compiled(model.config, None, None)

    def calls(f: Any) -> int:
        return int(f.cache_info().hits + f.cache_info().misses)

    before = calls(step), calls(fill)
    list(generate(model, [4, 1, 2], 4))
    assert (calls(step), calls(fill)) == (before[0] + 4, before[1] + 1), "the prompt, and the context is just full"
    list(generate(model, [4], 6))
    assert (calls(step), calls(fill)) == (before[0] + 10, before[1] + 1), "nothing to read but one id at a time"
    list(generate(model, [4], 7))
    assert (calls(step), calls(fill)) == (before[0] + 17, before[1] + 2), "one more, and the window begins anew"


@pytest.mark.parametrize("penalty", [1.0, 3.0])
def test_the_window(model: Any, penalty: float) -> None:
    """The likeliest continuation beyond the context: the model sees the window alone, the penalty the whole text."""
    forward = ng.jit(lambda m, ids: m(ids))
    known = [int(i) for i in prompt(8)]
    found = list(generate(model, known, 12, temperature=0, repetition_penalty=penalty))
    window = known[-6:]
    for symbol in found:
        if len(window) == 7:
            window = window[-3:]
        logits = np.array(forward(model, np.pad(np.array(window, np.int32), (0, 6 - len(window)))))[len(window) - 1]
        for i in set(known):
            logits[i] *= penalty if logits[i] < 0 else 1 / penalty
        assert symbol == logits.argmax()
        window.append(symbol)
        known.append(symbol)
    assert all(type(x) is int for x in found) and len(set(found)) > 1


def test_texts_side_by_side_do_not_disturb_each_other(model: Any) -> None:
    alone = [list(generate(model, [i], 15, seed=i)) for i in (1, 2)]
    together = list(zip(*(generate(model, [i], 15, seed=i) for i in (1, 2))))
    assert [list(x) for x in zip(*together)] == alone


def test_ids_come_as_they_are_drawn(model: Any) -> None:
    step = compiled(model.config, None, None)[0]
    text = generate(model, [4, 1], 10**9)
    start = step.cache_info().hits
    first = list(itertools.islice(text, 3))
    assert step.cache_info().hits == start + 3 and first == list(generate(model, [4, 1], 3))


@pytest.mark.parametrize("cache", [True, False])
def test_backends_and_threads(model: Any, cache: bool) -> None:
    expected = list(generate(model, [4, 1], 12, temperature=0))
    assert list(generate(model, [4, 1], 12, temperature=0, cache=cache, backend="numpy")) == expected
    assert list(generate(model, [4, 1], 12, temperature=0, cache=cache, threads=1)) == expected


# -- what is drawn ----------------------------------------------------------------------------------------


def test_the_seed_decides(model: Any) -> None:
    given = np.array([[4, 1]], np.int64)
    first = list(generate(model, given, 20, seed=1))
    assert list(generate(model, given, 20, seed=1)) == first and len(first) == 20
    assert list(generate(model, given, 12, seed=1)) == first[:12], "a longer text begins as the shorter one"
    assert list(generate(model, given, 20, seed=2)) != first
    assert list(generate(model, given, 0)) == []


def expected_probabilities(logits: np.ndarray, seen: np.ndarray, temperature: float, top_k: int | None, top_p: float | None,
                           penalty: float) -> np.ndarray:
    """Id by id, for distinct scores: Hugging Face's order, which is penalty, temperature, top_k, top_p."""
    scores = [x if not s else x * penalty if x < 0 else x / penalty for x, s in zip(logits, seen)]
    best_first = sorted(range(len(scores)), key=lambda i: -scores[i])[:top_k]
    weights = {i: np.exp((scores[i] - max(scores)) / temperature) for i in best_first}
    kept, sum_before = {}, 0.0
    for i in best_first:
        if top_p is None or sum_before < top_p * sum(weights.values()):
            kept[i] = weights[i]
        sum_before += weights[i]
    return np.array([kept.get(i, 0.0) for i in range(len(scores))]) / sum(kept.values())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [None, 1, 3, 50])
@pytest.mark.parametrize("top_p", [None, 1e-9, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("penalty", [0.7, 1.0, 1.5])
def test_probabilities(temperature: float, top_k: int | None, top_p: float | None, penalty: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        logits, seen = rng.normal(size=9), rng.random(9) < 0.4
        found = Sampling(temperature, top_k, top_p, penalty).probabilities(logits.astype(np.float32), seen)
        expected = expected_probabilities(logits.astype(np.float32).astype(float), seen, temperature, top_k, top_p, penalty)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_draws_follow_the_probabilities() -> None:
    logits, seen, n = np.array([0.3, 2.0, -1.0, 1.0, 0.0]), np.array([0, 1, 0, 0, 0], bool), 20_000
    sampling, rng = Sampling(0.5, top_k=4, top_p=0.95, repetition_penalty=1.2), np.random.default_rng(0)
    p = sampling.probabilities(logits, seen)
    counts = np.bincount([sampling.draw(logits, seen, rng) for _ in range(n)], minlength=5)
    assert np.count_nonzero(p) == 3
    assert np.all(np.abs(counts / n - p) <= 5 * np.sqrt(p * (1 - p) / n)), counts / n


def draws(logits: list[float], n: int = 100, **options: Any) -> set[int]:
    sampling, rng = Sampling(**options), np.random.default_rng(0)
    return {sampling.draw(np.array(logits), np.zeros(len(logits), bool), rng) for _ in range(n)}


def test_limits_of_the_temperature() -> None:
    for temperature in (0.0, 1e-300, 5e-324):
        assert draws([1.0, 3.0, 2.0], temperature=temperature) == {1}
    assert draws([1.0, 3.0, 2.0], temperature=np.inf) == {0, 1, 2}, "infinitely hot: all alike"
    assert draws([1.0, 3.0, 2.0], temperature=np.inf, top_k=2) == {1, 2}
    assert draws([1e308, -1e308]) == {0}


def test_limits_of_the_penalty() -> None:
    for penalty in (1e-300, 5e-324, 1e300):
        p = Sampling(repetition_penalty=penalty).probabilities(np.array([1e30, -1e30, 2.0], np.float32), np.array([1, 1, 0], bool))
        assert np.isfinite(p).all() and p.argmax() == (0 if penalty < 1 else 2)


def test_of_equal_scores_no_more_than_top_k_are_drawn() -> None:
    assert draws([0.0, 5.0, 5.0, 5.0], top_k=2) == {1, 2}
    assert draws([0.0, 5.0, 5.0], temperature=0.0) == {1} and draws([0.0, 0.0, 0.0], top_k=1) == {0}
    assert draws([0.0, 0.0, 0.0, 0.0], top_p=0.5) == {0, 1}
    assert likeliest(np.array([2.0, 7.0, 2.0, 9.0, 2.0]), 4).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(("ids", "options", "message"), [
    ([], {}, "at least one symbol to begin with"),
    ([9], {}, r"ids must lie in \[0, 9\), got 9 to 9"),
    ([-1, 3], {}, r"ids must lie in \[0, 9\), got -1 to 3"),
    ([1], {"temperature": -1.0}, "temperature is at least 0, got -1.0"),
    ([1], {"temperature": float("nan")}, "temperature is at least 0, got nan"),
    ([1], {"top_k": 0}, "`top_k` is at least 1, got 0"),
    ([1], {"top_p": 0.0}, "`top_p` is greater than 0 and at most 1, got 0.0"),
    ([1], {"top_p": float("nan")}, "`top_p` is greater than 0 and at most 1, got nan"),
    ([1], {"repetition_penalty": 0.0}, "the repetition penalty is a number greater than 0, got 0.0"),
    ([1], {"repetition_penalty": float("inf")}, "the repetition penalty is a number greater than 0, got inf"),
])
def test_wrong_input_is_an_error_at_once(ids: Any, options: dict[str, Any], message: str, model: Any) -> None:
    with pytest.raises(DataError, match=message):
        generate(model, ids, 3, **options)


@pytest.mark.parametrize("cache", [True, False])
def test_scores_that_are_not_finite_are_an_error(model: Any, cache: bool) -> None:
    with pytest.raises(DataError, match="the model's scores are not finite"):
        list(generate(model.map(lambda x: x * np.nan), [1], 3, cache=cache))


def test_a_model_without_a_head() -> None:
    config = LlamaConfig(**SIZES, context=6, groups=2, inner=12, head="none")
    with pytest.raises(DataError, match="the model has no head, so it gives symbols no scores"):
        generate(Llama.init(ng.random.key(0), config), [1], 3)


def test_unknown_backend(model: Any) -> None:
    with pytest.raises(ng.errors.SignatureError, match="unknown backend 'abacus'; there is llvm, "):
        list(generate(model, [1], 3, backend="abacus"))


# -- text as it comes -------------------------------------------------------------------------------------


def byte_by_byte(ids: list[int]) -> str:
    return bytes(ids).decode(errors="replace")


def run_by_run(ids: list[int]) -> str:
    """As decoders that fall back on bytes: a run of them that is no UTF-8 is a replacement character for each."""
    pieces = []
    for _, run in itertools.groupby(ids, lambda i: i >= 128):
        raw = bytes(run)
        try:
            pieces.append(raw.decode())
        except UnicodeDecodeError:
            pieces.append("\ufffd" * len(raw))
    return "".join(pieces)


TEXT = "día €€ 𝄞 naïve 日本語 é"


@pytest.mark.parametrize("decode", [byte_by_byte, run_by_run])
def test_characters_are_shown_when_they_are_complete(decode: Callable[[list[int]], str]) -> None:
    def ids() -> Iterator[int]:
        for n, i in enumerate(TEXT.encode()):
            complete = TEXT.encode()[:n].decode(errors="ignore")
            assert "".join(pieces) == complete, "all that was complete before this id"
            yield i

    pieces: list[str] = []
    for piece in stream(decode, ids()):
        pieces.append(piece)
    assert pieces == list(TEXT)


def test_bytes_that_are_no_character_do_not_hold_up_the_text() -> None:
    assert list(stream(byte_by_byte, [97, 0xE2, 98])) == ["a", "\ufffdb"]
    assert "".join(stream(byte_by_byte, [0xFF] * 6 + [97])) == "\ufffd" * 6 + "a"
    shown: list[str] = []
    given = iter([0xFF] * 50)
    for piece in stream(byte_by_byte, given):
        shown.append(piece)
        break
    assert len(list(given)) == 46 and shown == ["\ufffd" * 4], "four ids are as long as a character can be"
    assert list(stream(byte_by_byte, [97, 0xE2, 0x82])) == ["a", "\ufffd"], "what is left at the end is shown as it is"
    assert list(stream(byte_by_byte, [])) == []


def test_pieces_of_several_characters() -> None:
    pieces = [b"ab\xe2", b"\x82", b"\xacc", b"\xf0\x9d", b"\x84\x9e!"]
    found = list(stream(lambda ids: b"".join(pieces[i] for i in ids).decode(errors="replace"), range(5)))
    assert found == ["ab", "€c", "𝄞!"]


def test_a_decoder_that_takes_spaces_off_the_beginning() -> None:
    words = [" one", " two", " three"]
    assert list(stream(lambda ids: "".join(words[i] for i in ids).lstrip(), range(3))) == ["one", " two", " three"]
