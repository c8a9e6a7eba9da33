"""Reading sizes: expressions of dimensions such as `4*n+1`, and the declarations of dimensions with their bounds."""

from __future__ import annotations

from typing import Any

from nagraph.errors import NagraphError
from nagraph.ir.sizes import Dim, floor_quotient, larger, smaller, whole_quotient
from nagraph.ir.tokens import Token, Tokens
from nagraph.ir.types import MAX_RANK

_FUNCTIONS: dict[str, Any] = {"floordiv": floor_quotient, "min": smaller, "max": larger}
#: No number of a graph is longer than this; Python would take long over millions of digits.
_DIGITS = 400


class SizeTokens(Tokens):
    """Tokens, with what reads sizes of them."""

    def __init__(self, text: str):
        super().__init__(text)
        self.dims: dict[str, Dim] = {}

    def _dim(self) -> None:
        """A dimension of sizes that are known later: dim n{min=1, max=64}."""
        name = self._take("word", what="the name of a dimension")
        if name.text in self.dims:
            self._fail(f"the dimension {name.text} is declared above already", name.at)
        given: dict[str, int] = {}
        self._take("mark", "{")
        while not self._is("}"):
            if given:
                self._take("mark", ",")
            key = self._take("word", what="min or max")
            if key.text not in ("min", "max") or key.text in given:
                self._fail(f"a dimension has min and max, each once, not {key.text}", key.at)
            self._take("mark", "=")
            given[key.text] = self._whole(self._take("number", what="a whole number"))
        try:
            self.dims[name.text] = Dim(name.text, **given)
        except NagraphError as error:
            self._fail(str(error), name.at)

    def _whole(self, token: Token) -> int:
        if not token.text.isdigit():
            self._fail(f"a size is a whole number that is not negative, not {token.text}", token.at)
        return self._int(token)

    def _begins_size(self, token: Token) -> bool:
        """Whether a token that was just taken begins an expression that is more than a number."""
        after = self.next
        return token.text in self.dims or token.text in _FUNCTIONS or token.text in ("(", "-") or token.kind == "number" and (
            after.text in ("+", "-", "*", "/") or after.kind == "number" and after.text.startswith("-"))

    def _size(self, depth: int = 0) -> Any:
        """A number, or an expression of dimensions such as 4*n+1."""
        first = self.next
        self._check_depth(depth, first)
        found = -self._product(depth) if self._is("-") else self._product(depth, signed=True)
        while self.next.text in ("+", "-") or self.next.kind == "number" and self.next.text.startswith("-"):
            if self._is("-"):
                found = found - self._product(depth)
            else:
                self._is("+")
                found = found + self._product(depth, signed=True)
        if not depth and type(found) is int and found < 0:
            self._fail(f"a size is a whole number that is not negative, not {found}", first.at)
        return found

    def _product(self, depth: int, signed: bool = False) -> Any:
        found = self._factor(depth, signed)
        while self.next.text in ("*", "/"):
            at = self.next.at
            times = self._is("*") or not self._is("/")
            other = self._factor(depth, False)
            try:
                found = found * other if times else whole_quotient(found, other)
            except (NagraphError, ArithmeticError) as error:
                self._fail(str(error), at)
        return found

    def _factor(self, depth: int, signed: bool) -> Any:
        token = self.next
        if self._is("("):
            found = self._size(depth + 1)
            self._take("mark", ")")
            return found
        self.position += 1
        if token.kind == "number":
            return self._int(token) if signed and token.text[1:].isdigit() and token.text[0] == "-" else self._whole(token)
        if token.text in _FUNCTIONS:
            self._take("mark", "(")
            given = [self._size(depth + 1)]
            while self._is(","):
                given.append(self._size(depth + 1))
            self._take("mark", ")")
            if token.text == "floordiv" and len(given) != 2:
                self._fail(f"floordiv takes two sizes, got {len(given)}", token.at)
            try:
                return _FUNCTIONS[token.text](*given)
            except (NagraphError, ArithmeticError) as error:
                self._fail(str(error), token.at)
        if token.text in self.dims:
            return self.dims[token.text]
        self._fail("expected a size" if token.kind != "word" else f"no dimension {token.text} is declared; write "
                   f"dim {token.text}{{min=1}} before the first graph", token.at)

    def _check_depth(self, depth: int, token: Token) -> None:
        if depth >= MAX_RANK:
            self._fail(f"lists are nested more than {MAX_RANK} deep", token.at)

    def _int(self, token: Token) -> int:
        if len(token.text) > _DIGITS:
            self._fail(f"a number of {len(token.text)} digits is too long", token.at)
        return int(token.text)
