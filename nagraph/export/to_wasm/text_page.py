"""The page of a language model: one file that has the module, the tokenizer and all that runs them, and writes text."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

from nagraph.errors import ExportError
from nagraph.export.machine_code import Exported
from nagraph.ir.types import DTYPES, TensorType
from nagraph.suggestions import suggestion

#: Kinds of tokens, and what one writes with them is called.
_TOKENS = {"characters": "characters", "bytes": "bytes", "byte-pairs": "tokens"}
_EXPORT = re.compile(r"^export (?=class |function|async |const )", re.MULTILINE)
#: Parts of a tokenizer.json that the page knows.
_NORMALIZERS = (None, "NFC", "NFD", "NFKC", "NFKD")


class TextStep(NamedTuple):
    """A step of generation: the names of its inputs ids [1, 1] and start, both int32, and the tokens that its logits are of."""

    ids: str
    start: str
    vocabulary: int

    @classmethod
    def of(cls, exported: Exported) -> TextStep:
        """What a function's inputs and outputs say. ExportError, in a sentence, if it is no such step."""
        subject, graph, donations = exported
        types = dict(zip(subject.inputs, (v.type for v in graph.inputs)))
        state = {subject.inputs[i] for i in donations.values()}
        given = {name: types[name] for name in subject.free if name not in state}
        ids = [name for name, t in given.items() if t == TensorType(DTYPES["i32"], (1, 1))]
        start = [name for name, t in given.items() if t == TensorType(DTYPES["i32"], ())]
        logits = dict(zip(subject.outputs, (v.type for v in graph.outputs))).get("logits")
        if len(ids) != 1 or len(start) != 1 or len(given) != 2 or not state or logits is None or len(logits.shape) != 1:
            shown = ", ".join(f"{name} {t}" for name, t in given.items())
            raise ExportError("a page writes by a step (ids i32[1,1], cache, start i32[]) that gives logits [vocabulary] and the cache, "
                              f"which it is given away; {subject.name} takes {shown} and gives {', '.join(subject.outputs)}")
        return cls(ids[0], start[0], logits.shape[0])


@dataclass(frozen=True)
class TextPage:
    """What a page knows of its model: the tokens of the step's logits, as a tokenizer's `to_json` describes them, how many of them the
    model sees at once, a title, and a text to begin with.
    """

    tokenizer: Mapping[str, Any]
    context: int
    title: str = "A language model"
    prompt: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TextPage:
        """The one with these fields. ExportError for others."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name in given:
            if name not in known:
                raise ExportError(f"a page has no {name!r}{suggestion(name, known)}; it has {', '.join(known)}")
        for name in ("tokenizer", "context"):
            if name not in given:
                raise ExportError(f"a page needs {name!r}: page={{'tokenizer': tokenizer.to_json(), 'context': 128}}")
        _check(given["tokenizer"])
        return cls(**given)


def text_page(exported: Exported, module: bytes, loader: str, page: TextPage) -> str:
    """The page's HTML. module: with its weights."""
    step, subject = TextStep.of(exported), exported.subject
    tokens = _TOKENS[page.tokenizer["kind"]]
    weights = sum(a.size for a in subject.weights.values())
    facts = {"tokenizer": page.tokenizer, "context": page.context, "ids": step.ids, "start": step.start, "tokens": tokens}
    # A page that is a file may have no module for a worker: there are no exports in what it runs.
    worker = _EXPORT.sub("", "\n".join((loader, *(_text(f"{name}.js") for name in ("sampling", "writer", "worker")))))
    about = (f"A language model with {weights:,} parameters, {step.vocabulary:,} {'symbols' if tokens == 'characters' else tokens} and a "
             f"context of {page.context:,}. Begin a text; it goes on.")
    parts = {
        "TITLE": html.escape(page.title), "ABOUT": about, "STYLE": _text("page.css"), "PROMPT": html.escape(page.prompt),
        "TOP": str(min(step.vocabulary, 100)), "TOKENS": tokens,
        "FACTS": _in_script(json.dumps(facts, ensure_ascii=True)), "WORKER": _in_script(worker),
        "PROGRAM": base64.b64encode(module).decode(), "APP": _in_script("\n".join(map(_text, ("tokenizer.js", "app.js")))),
    }
    found = _text("page.html")
    for name in parts:  # all marks stand in the page's own text, before any part is put in
        assert f"%{name}%" in found
    pieces = found.split("%")
    return "".join(parts.get(piece, piece) if at % 2 else piece for at, piece in enumerate(pieces))


def _text(name: str) -> str:
    return resources.files("nagraph.export.to_wasm").joinpath("page", name).read_text("utf-8")


def _in_script(text: str) -> str:
    """Text that can't end the element of a script that it stands in."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")


def _check(tokenizer: Mapping[str, Any]) -> None:
    """ExportError names what the page does not know of a tokenizer."""
    kind = tokenizer.get("kind")
    if kind not in _TOKENS:
        raise ExportError(f"a page reads and writes tokens of kind {', '.join(_TOKENS)}, not {kind!r}")
    if kind == "byte-pairs":
        described = tokenizer["tokenizer"]
        normalizer = (described.get("normalizer") or {}).get("type")
        before = described.get("pre_tokenizer") or {}
        steps = before.get("pretokenizers", [before])
        for step in steps:
            pattern = step.get("pattern", {}).get("Regex", "") if step.get("type") == "Split" else ""
            if step.get("type") not in ("ByteLevel", "Split") or "++" in pattern or "?+" in pattern or (
                    step["type"] == "Split" and (not pattern or step.get("behavior") != "Isolated" or step.get("invert"))):
                raise ExportError(f"a page does not cut text as this tokenizer does: {json.dumps(step)[:200]}")
        if normalizer not in _NORMALIZERS or described["model"].get("byte_fallback"):
            raise ExportError(f"a page does not know this tokenizer's normalizer {normalizer!r}, or its fallback to bytes")
