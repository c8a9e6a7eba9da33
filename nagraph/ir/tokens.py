"""The tokens of the text form, and errors that show their place."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from nagraph.errors import ParseError

_TOKEN = re.compile(r"""
    (?P<skip>(?:\s+|//[^\n]*)+)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<digest>sha256:[0-9a-f]{64})
  | (?P<label>@(?:[\w.<>\-]+|"(?:[^"\\\n]|\\.)*")(?:\#[0-9]+)*)
  | (?P<value>%[\w.]+)
  | (?P<number>-?(?:inf\b|nan(?::[0-9a-f]+)?\b|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?))
  | (?P<word>[A-Za-z_][\w.]*)
  | (?P<arrow>->)
  | (?P<mark>[()\[\]{},:=+*/-])
""", re.VERBOSE)

#: Characters of a message.
_MOST_MESSAGE = 400


class Token(NamedTuple):
    kind: str
    text: str
    at: int


class Tokens:
    """A text as tokens, read one after another."""

    def __init__(self, text: str):
        self.text = text
        self.tokens = self._tokens()
        self.position = 0

    def _tokens(self) -> list[Token]:
        found: list[Token] = []
        at = 0
        match = _TOKEN.match
        while at < len(self.text):
            m = match(self.text, at)
            if m is None:
                self._fail(f"unexpected character {self.text[at]!r}", at)
            if m.lastgroup != "skip":
                found.append(Token(str(m.lastgroup), m.group(), at))
            at = m.end()
        found.append(Token("end", "the end of the text", len(self.text)))
        return found

    def _fail(self, message: str, at: int) -> NoReturn:
        line = self.text.count("\n", 0, at) + 1
        start = self.text.rfind("\n", 0, at) + 1
        stop = self.text.find("\n", at)
        shown = self.text[start:stop if stop >= 0 else len(self.text)]
        column = at - start + 1
        if len(shown) > 160:  # keep the place in sight on long lines
            cut = max(0, column - 80)
            shown, caret = shown[cut:cut + 160], column - cut
        else:
            caret = column
        if len(message) > _MOST_MESSAGE:  # of a token that nobody wrote by hand
            message = f"{message[:_MOST_MESSAGE]}..."
        raise ParseError(f"line {line}, column {column}: {message}\n  {shown}\n  {' ' * (caret - 1)}^")

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def _take(self, kind: str, text: str | None = None, what: str = "") -> Token:
        token = self.tokens[self.position]
        if token.kind != kind or (text is not None and token.text != text):
            self._fail(f"expected {what or repr(text) if text else what or kind}, found {token.text!r}", token.at)
        self.position += 1
        return token

    def _is(self, text: str) -> bool:
        """Take the next token if it is this one."""
        if self.tokens[self.position].text == text and self.tokens[self.position].kind != "string":
            self.position += 1
            return True
        return False
