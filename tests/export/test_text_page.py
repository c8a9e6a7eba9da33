"""The page on which a language model writes: its tokenizers, its sampling, its reading with a cache, and the page in a browser."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ExportError
from nagraph.models.data.subwords import BytePairs
from nagraph.models.data.tokens import Bytes, Characters
from nagraph.models.generation import Sampling, exported_step, generate
from nagraph.models.gpt2 import GPT2, GPT2Config
from tests.export.browser import CONTROL, ENTER, ESCAPE, browser
from tests.export.node import node

PAGE = pathlib.Path(ng.__file__).parent / "export" / "to_wasm" / "page"
LOADER = PAGE.parent / "loader.js"
TEXTS = ["It's a test, isn't it?  Two  spaces\n\n\tand tabs: don't, WE'LL see x=1234 π≈3.14159",
         "naïve café ﬁ 你好，世界 🙂👩‍👩‍👧 e\u0301 \u00a0\u2003x\u0085y\ufeffz",
         " ", "\n", "a", "    def f(self, other):\r\n        return NotImplemented",
         "", "\u2028\u3000'S 'Re ''", "<|endoftext|>mid<|endoftext|>"]
SYMBOLS = "".join(sorted({*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,\n'\"é🙂"}))


def model(size, context=24):
    """A small GPT-2, whose scores differ as those of a trained one do."""
    made = GPT2.init(ng.random.key(0), GPT2Config(size, context, 2, 2, 16))
    return ng.tree.map(lambda x: np.asarray(x) * 3, made)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a model of characters with its page, and the model."""
    folder, made = tmp_path_factory.mktemp("page") / "gpt2", model(len(SYMBOLS))
    what, args = exported_step(made)
    ng.export.wasm(what, folder, args, page={
        "tokenizer": Characters(SYMBOLS).to_json(), "context": 24, "title": "A <small> model", "prompt": "Th"})
    return folder, made


def script(tmp_path, text, *files):
    """What a script prints that stands behind the page's files."""
    place = tmp_path / "script.mjs"
    place.write_text("\n".join([*(f.read_text() for f in files), text]))
    return json.loads(node(str(place)))


def byte_pairs(**changes):
    """Byte pairs trained on a page of the docs; changes: of their description."""
    docs = pathlib.Path(__file__).parents[2] / "docs"
    trained = BytePairs.train([(docs / "architecture.md").read_text(), TEXTS[1]], 600).to_json()
    return BytePairs.from_json({"tokenizer": trained["tokenizer"] | changes})


LLAMA = {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": {
        "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"}},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
SPECIAL = {"id": 600, "content": "<|endoftext|>", "special": True,
           **dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)}


TOKENIZERS = {
    "bytes": Bytes, "characters": lambda: Characters(SYMBOLS), "byte pairs": byte_pairs,
    "as Llama cuts": lambda: byte_pairs(pre_tokenizer=LLAMA), "normalised": lambda: byte_pairs(normalizer={"type": "NFC"}),
    "with a special token": lambda: byte_pairs(added_tokens=[SPECIAL])}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokens_are_those_of_the_tokenizer(name, tmp_path):
    made, rng = TOKENIZERS[name](), np.random.default_rng(0)
    texts = TEXTS + ["".join(map(chr, rng.choice([*range(32, 127), *range(160, 900), 0x4e2d, 0x1f642, 9, 10, 13], 60))) for _ in range(30)]
    if isinstance(made, Characters):
        texts = ["".join(rng.choice(list(SYMBOLS), 40)) for _ in range(5)]
    ids = [[int(i) for i in made.encode(text)] for text in texts]
    (tmp_path / "given.json").write_text(json.dumps([made.to_json(), texts, ids]))
    found = script(tmp_path, f"""
import {{ readFileSync }} from "node:fs";
const [described, texts, ids] = JSON.parse(readFileSync({json.dumps(str(tmp_path / "given.json"))}));
const tokenizer = tokenizerOf(described);
console.log(JSON.stringify([tokenizer.size, texts.map((t) => tokenizer.encode(t)), ids.map((i) => tokenizer.decode(i)), ids.map((some) => {{
  const show = tokenizer.reader();
  return some.map(show).join("");
}})]));
""", PAGE / "tokenizer.js")
    assert found[:3] == [made.size, ids, [made.decode(i) for i in ids]]
    assert found[3] == [made.decode(i) for i in ids] or isinstance(made, Bytes)


def test_what_a_tokenizer_does_not_know_is_told(tmp_path):
    found = script(tmp_path, """
try {
  tokenizerOf({ kind: "characters", symbols: "ab" }).encode("abcé");
} catch (error) {
  console.log(JSON.stringify([error instanceof TokenError, error.message]));
}
""", PAGE / "tokenizer.js")
    assert found == [True, 'The model does not know "c" "é": it was trained on a text without.']


@pytest.mark.parametrize("options", [{}, {"temperature": 0.3}, {"temperature": 0}, {"top_k": 5}, {"top_p": 0.4},
                                     {"repetition_penalty": 1.7},
                                     {"temperature": 2.0, "top_k": 9, "top_p": 0.8, "repetition_penalty": 0.6}], ids=str)
def test_probabilities_are_those_of_generation(options, tmp_path):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=50).astype(np.float32) * 2
    logits[[3, 9]] = logits[7]
    seen = rng.random(50) < 0.3
    wanted = Sampling(**options).probabilities(logits, seen)
    names = {"temperature": "temperature", "top_k": "topK", "top_p": "topP", "repetition_penalty": "penalty"}
    given = json.dumps([logits.tolist(), np.flatnonzero(seen).tolist(), {names[n]: v for n, v in options.items()}])
    p, drawn, random = script(tmp_path, f"""
const [logits, seen, options] = {given};
const p = probabilities(logits, new Set(seen), options), random = randomNumbers(5), some = Array.from({{ length: 1000 }}, random);
console.log(JSON.stringify([[...p], some.map((u) => drawn(p, u)), some]));
""", PAGE / "sampling.js")
    np.testing.assert_allclose(p, wanted, rtol=1e-12, atol=1e-15)
    assert drawn == np.minimum(np.searchsorted(np.cumsum(wanted), random, side="right"), np.flatnonzero(wanted)[-1]).tolist()
    assert 0.45 < np.mean(random) < 0.55 and len(set(random)) == 1000


def test_it_writes_what_generation_writes_past_its_context(written, tmp_path):
    """The likeliest ids, also where the window begins anew, and each id is read once while it does not."""
    folder, made = written
    ids = Characters(SYMBOLS).encode("The first")
    wanted = [int(i) for i in generate(made, ids, 40, temperature=0)]
    found, calls = script(tmp_path, f"""
const program = await load({json.dumps(str(folder / "program.wasm"))});
let calls = 0;
const counted = {{ run: (given) => (calls++, program.run(given)) }};
const found = [], ids = {[int(i) for i in ids]};
for (const {{ id }} of written(new Reader(counted, {{ ids: "ids", start: "start" }}), ids, 24, {{ temperature: 0 }}, () => 0)) {{
  found.push(id);
  if (found.length === 40) break;
}}
console.log(JSON.stringify([found, calls]));
""", LOADER, PAGE / "sampling.js", PAGE / "writer.js")
    assert found == wanted and len(set(wanted)) > 3
    assert calls < len(ids) + 40 + 3 * 13


def test_the_page_writes_in_a_browser_by_keyboard_alone(written):
    folder, made = written
    with browser() as page:
        page.open(folder / "index.html")
        page.until("document.documentElement.dataset.ready && !document.getElementById('write').disabled")
        assert page.run("return document.title") == "A <small> model"
        page.run("document.getElementById('temperature').value = 0; document.getElementById('pace').value = 8;"
                 "document.getElementById('count').value = 50; document.getElementById('prompt').focus()")
        page.keys("e")
        assert page.run("return document.getElementById('prompt').value") == "The"
        page.keys(ENTER, held=CONTROL)
        text = "document.getElementById('text').textContent"
        page.until(f"{text}.length === 53")
        ids = Characters(SYMBOLS).encode("The")
        assert page.run(f"return {text}") == "The" + Characters(SYMBOLS).decode(list(generate(made, ids, 50, temperature=0)))
        page.until("!document.getElementById('write').disabled")
        assert page.run("return document.querySelectorAll('#next li.taken').length") == 1
        # It goes on, slowly, and stops.
        page.run("document.getElementById('pace').value = 2")
        page.keys(ENTER, held=CONTROL)
        page.until(f"{text}.length > 54")
        page.keys(ESCAPE)
        shown = page.run(f"return {text}.length")
        page.until("!document.getElementById('write').disabled")
        assert page.run(f"return new Promise((go) => setTimeout(() => go({text}.length), 250))") == shown < 100
        # Both schemes have ink on another ground, and nothing was asked of a network or went wrong.
        colours = []
        for scheme in ("light", "dark"):
            page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            colours.append(page.run("const s = getComputedStyle(document.documentElement); return [s.color, s.backgroundColor]"))
        assert len({c for pair in colours for c in pair}) == 4
        page.run("document.getElementById('clear').click(); document.getElementById('prompt').value = 'no 7'")
        page.keys(ENTER, held=CONTROL)
        assert page.run("return document.querySelector('#status.wrong').textContent").startswith('The model does not know "7"')
        assert page.messages() == []


def test_what_no_page_can_be_made_of_is_refused(tmp_path):
    made = model(4)
    what, args = exported_step(made)
    fine = {"tokenizer": Characters("abcd").to_json(), "context": 24}
    digits = byte_pairs(pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]})
    for page, message in [({**fine, "tokenizer": {"kind": "word-pieces"}}, "tokens of kind characters, bytes, .*not 'word-pieces'"),
                          ({**fine, "titel": "x"}, r"no 'titel' \(did you mean title"), ({"context": 24}, "needs 'tokenizer'"),
                          ({**fine, "tokenizer": digits.to_json()}, "does not cut text as this tokenizer does.*Digits")]:
        with pytest.raises(ExportError, match=message):
            ng.export.wasm(what, tmp_path / "a", args, page=page)
    with pytest.raises(ExportError, match=r"a page writes by a step .* takes .*f32\[3\] and gives output"):
        ng.export.wasm(ng.numpy.exp, tmp_path / "a", ng.spec((3,)), page=fine)
    assert not list(tmp_path.iterdir())
