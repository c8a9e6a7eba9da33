"""Sizes that are known later: expressions of dimensions, such as `4*n+1`.

A size is a sum of products (`nagraph.ir.polynomial`) of dimensions, floor quotients, minima and maxima. An expression in which nothing is
unknown is an int. Equality is that of the normal form. Order and truth follow from bounds (`nagraph.ir.size_bounds`), or are an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from nagraph.errors import SizeError
from nagraph.ir import polynomial
from nagraph.ir.operators import functions
from nagraph.ir.polynomial import Monomial, Sum
from nagraph.ir.size_bounds import Bounds, at_least, bounds, bounds_of_sum

if TYPE_CHECKING:  # a rule that is written for integers is one for sizes, so for type checkers a size is an integer
    _Base = int
else:
    _Base = object

#: What can't name a dimension: the text form means something else by it.
RESERVED = frozenset(("floordiv", "min", "max", "type", "blob", "true", "false", "none", "inf", "nan", "bool", "bf16", "f16", "f32", "f64",
                      *(f"{kind}{n}" for kind in "iu" for n in (8, 16, 32, 64))))


class Size(_Base):
    """A size that is known later. It computes with integers and sizes; where a number is wanted, it is an error that says what to write.

    `==` compares normal forms and is never an error: `n == 1` is False, since n is not written 1.
    """

    __slots__ = ("terms", "divisor", "bounds", "_hash", "_text", "__weakref__")
    terms: tuple[tuple[Monomial, int], ...]
    divisor: int
    #: Numbers between which it lies.
    bounds: Bounds

    def __init__(self, terms: tuple[tuple[Monomial, int], ...], divisor: int = 1):
        self.terms, self.divisor, self._text = terms, divisor, ""
        self.bounds, self._hash = bounds_of_sum((terms, divisor)), hash((terms, divisor))

    @staticmethod
    def made(found: Sum) -> Any:
        """The size, or the int, that a sum in normal form is."""
        terms, divisor = found
        if not terms:
            return 0
        if divisor == 1 and len(terms) == 1:
            (monomial, c), = terms
            if not monomial:
                return c
            if c == 1 and len(monomial) == 1 and monomial[0][1] == 1:
                return monomial[0][0]
        return Size(terms, divisor)

    def _key(self) -> Any:
        return self.terms, self.divisor

    def __eq__(self, other: object) -> bool:
        return self is other or type(other) is type(self) and self._hash == other._hash and self._key() == other._key()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return self._hash

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __reduce__(self) -> Any:
        return type(self), self._key()

    # -- arithmetic -------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return Size.made(polynomial.plus(_sum(self), _sum(other))) if _is_size(other) else self._beyond("add", self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return Size.made(polynomial.plus(_sum(self), _sum(other), -1)) if _is_size(other) else self._beyond("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other if _is_size(other) else self._beyond("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return Size.made(polynomial.times(_sum(self), _sum(other))) if _is_size(other) else self._beyond("multiply", self, other)

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Any:
        return self

    __trunc__ = __floor__ = __ceil__ = __pos__

    def __round__(self, digits: Any = None) -> Any:
        return self

    def __abs__(self) -> Any:
        return larger(self, -self)

    def __floordiv__(self, other: Any) -> Any:
        return floor_quotient(self, other) if _is_size(other) else self._beyond("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return floor_quotient(other, self) if _is_size(other) else self._beyond("floor_divide", other, self)

    def __mod__(self, other: Any) -> Any:
        return self - other * floor_quotient(self, other) if _is_size(other) else self._beyond("remainder", self, other)

    def __rmod__(self, other: Any) -> Any:
        return other - self * floor_quotient(other, self) if _is_size(other) else self._beyond("remainder", other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pow__(self, other: Any, modulus: None = None) -> Any:  # type: ignore[override]
        if type(other) is int and 0 <= other <= 64:
            return math.prod([self] * other)
        return self._beyond("power", self, other)

    def __rpow__(self, other: Any, modulus: None = None) -> Any:  # type: ignore[override]
        return self._beyond("power", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._beyond("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._beyond("divide", other, self)

    def _beyond(self, name: str, x: Any, y: Any) -> Any:
        """What is no whole number of sizes, such as n / 2 or n * 0.5: a traced number, weak as Python's are."""
        other = y if x is self else x
        if type(other) in (int, float, bool) or isinstance(other, Size):
            return functions.weakened(getattr(functions, name)(x, y))
        return NotImplemented

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        """NumPy's functions of sizes: those of integers that have a size as result give one, others a traced number."""
        return functions.ufunc_of_sizes(ufunc, method, inputs, kwargs)

    # -- order and truth, as far as the bounds tell -----------------------------------------------

    def __lt__(self, other: Any) -> Any:
        return _decided(self, other, 1, "<") if _is_size(other) else self._beyond("less", self, other)

    def __le__(self, other: Any) -> Any:
        return _decided(self, other, 0, "<=") if _is_size(other) else self._beyond("less_equal", self, other)

    def __gt__(self, other: Any) -> Any:
        return _decided(other, self, 1, "<") if _is_size(other) else self._beyond("greater", self, other)

    def __ge__(self, other: Any) -> Any:
        return _decided(other, self, 0, "<=") if _is_size(other) else self._beyond("greater_equal", self, other)

    def __bool__(self) -> bool:
        return not same(self, 0)

    # -- what would be a number ---------------------------------------------------------------------

    def _no_number(self, what: str) -> NoReturn:
        raise SizeError(
            f"{what} needs a number, and the size {self} is known later ({described(self)}); shapes, slices of traced values, ng.numpy's "
            "functions and arithmetic take it as it is: ng.numpy.arange(n), x / n, ng.numpy.dynamic_slice(table, (0,), (n,)) for a "
            "captured array; graph.specialise({...}) makes a graph of given sizes")

    def __int__(self) -> NoReturn:
        self._no_number("int()")

    def __index__(self) -> NoReturn:
        self._no_number("an index, a range or a plain array")

    def __float__(self) -> NoReturn:
        self._no_number("float()")

    def __complex__(self) -> NoReturn:
        self._no_number("complex()")

    # -- text -----------------------------------------------------------------------------------------

    def __str__(self) -> str:
        if not self._text:
            self._text = polynomial.text((self.terms, self.divisor))
        return self._text

    __repr__ = __str__

    def __format__(self, how: str) -> str:
        return format(str(self), how)


class Atom(Size):
    """A size that is no sum: a factor of the terms of others."""

    __slots__ = ("order",)
    #: By what atoms are sorted: dimensions first, then by text.
    order: tuple[bool, str]

    def _begin(self, text: str, bounds: Bounds) -> None:
        self._hash, self._text, self.bounds, self.order = hash(self._key()), text, bounds, (not isinstance(self, Dim), text)
        self.terms, self.divisor = ((((self, 1),), 1),), 1

    def cases(self, least: bool) -> tuple[bool, Any, Iterable[Any]] | None:
        """What stands for the atom where a sum is to be shown not negative, and its coefficient is positive (`least`) or negative.

        (every, scale, ends): with its multiple by `scale` replaced by every one of these, or by one of them, the sum must be so.
        """
        return None


class Dim(Atom):
    """A dimension is a size with a name, from `min` to `max` (None: no bound): `batch = ng.Dim("batch", max=64)`.

    Dimensions are equal if name and bounds are; in one graph no two have one name. Errors: SizeError.
    """

    __slots__ = ("name", "min", "max")

    def __init__(self, name: str, min: int = 1, max: int | None = None):  # noqa: A002 - as one says it
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in RESERVED:
            raise SizeError(f"Dim: a name is letters, digits and _, and no word of the text form such as max or f32; got {name!r:.60}")
        if type(min) is not int or min < 0 or not (max is None or type(max) is int and min < max < 1 << 63):
            raise SizeError(f"Dim {name}: min is a whole number of at least 0, and max one that is larger, or None for no bound; "
                            f"got min={min!r:.40}, max={max!r:.40}" + f"; write the size {min}" * (type(min) is int and min == max))
        self.name, self.min, self.max = name, min, max
        self._begin(name, (min, max))

    def _key(self) -> Any:
        return self.name, self.min, self.max


class Floor(Atom):
    """The floor quotient of a sum of whole numbers and a positive size."""

    __slots__ = ("top", "bottom")

    def __init__(self, top: Any, bottom: Any):
        self.top, self.bottom = top, bottom
        (low, high), (least, most) = bounds(top), bounds(bottom)
        assert least is not None and least > 0
        found = (None if low is None else low // least if low < 0 else 0 if most is None else low // most,
                 None if high is None else high // least if high >= 0 else -1 if most is None else high // most)
        self._begin(f"floordiv({top},{bottom})", found)

    def _key(self) -> Any:
        return self.top, self.bottom

    def cases(self, least: bool) -> tuple[bool, Any, Iterable[Any]]:
        return True, self.bottom, (self.top - self.bottom + 1 if least else self.top,)


class Extreme(Atom):
    """The smallest or the largest of several sizes."""

    __slots__ = ("kind", "of")

    def __init__(self, kind: str, of: tuple[Any, ...]):
        self.kind, self.of = kind, of
        lows, highs = zip(*map(bounds, of))
        if kind == "min":
            found = None if None in lows else min(lows), min((h for h in highs if h is not None), default=None)
        else:
            found = max((n for n in lows if n is not None), default=None), None if None in highs else max(highs)
        self._begin(f"{kind}({','.join(map(str, of))})", found)

    def _key(self) -> Any:
        return self.kind, self.of

    def cases(self, least: bool) -> tuple[bool, Any, Iterable[Any]]:
        return (self.kind == "min") == least, 1, self.of


def _is_size(x: Any) -> bool:
    return type(x) is int or isinstance(x, Size)


def _sum(x: Any) -> Sum:
    return (((((), x),) if x else ()), 1) if type(x) is int else (x.terms, x.divisor)


# -- functions of sizes ------------------------------------------------------------------------------------


def whole_quotient(x: Any, y: Any, why: str = "") -> Any:
    """x / y where that is a whole number, which is checked once the sizes are known. SizeError where it never is one."""
    found = polynomial.divided(_sum(x), _sum(y)) if type(y) is not int or y else None
    if found is None:
        raise SizeError(f"{why}it is not known whether {x} divides by {y} ({described(x, y)}); "
                        f"write the size so that one sees it, as a product with {y}")
    terms, divisor = found
    if divisor > 1 and all(c % divisor == 0 for m, c in terms if m) and not any(p < 0 for m, _ in terms for _, p in m):
        raise SizeError(f"{why}{x} does not divide by {y}")
    return Size.made(found)


def floor_quotient(x: Any, y: Any) -> Any:
    """x // y for a positive y: whole multiples of y stand before, what is left of x is divided."""
    if type(x) is int and type(y) is int:
        return x // y
    if not at_least(y, 1):
        raise SizeError(f"{x} // {y}: a size is divided by what is at least 1 ({described(x, y)})")
    found = polynomial.divided(_sum(x), _sum(y))
    if found is not None and polynomial.whole(found):
        return Size.made(found)
    if isinstance(x, Size) and type(y) is int and x.divisor > 1:
        x, y = Size.made((x.terms, 1)), y * x.divisor
    if not polynomial.whole(_sum(x)) or not polynomial.whole(_sum(y)):
        return Floor(x, y)
    outside: Any = 0
    if len(_sum(y)[0]) == 1:
        outside, x = map(Size.made, polynomial.taken_out(_sum(x), _sum(y)))
    x, y = _reduced(x, y)
    low, high = bounds(x)
    if type(y) is int and low is not None and high is not None and low // y == high // y:
        return outside + low // y
    if low is not None and low >= 0 and at_least(y - x, 1):
        return outside
    return outside + (x // y if type(x) is int and type(y) is int else Floor(x, y))


def _reduced(x: Any, y: Any) -> tuple[Any, Any]:
    """The quotient of x and y without factors that both have, and without a quotient in x."""
    if type(x) is int or type(y) is not int:
        return x, y
    constant = dict(x.terms).get((), 0)
    inner = x - constant
    if isinstance(inner, Floor) and type(inner.bottom) is int:
        return _reduced(inner.top + constant * inner.bottom, inner.bottom * y)
    common = math.gcd(y, *(c for m, c in x.terms if m))
    return Size.made(polynomial.normal({m: c // common for m, c in x.terms})), y // common


def smaller(*xs: Any) -> Any:
    """The smallest of integers and sizes."""
    return min(xs) if all(type(x) is int for x in xs) else _extreme("min", xs, lambda a, b: at_least(b - a, 0))


def larger(*xs: Any) -> Any:
    """The largest of integers and sizes."""
    return max(xs) if all(type(x) is int for x in xs) else _extreme("max", xs, lambda a, b: at_least(a - b, 0))


def _extreme(kind: str, xs: Iterable[Any], beats: Callable[[Any, Any], bool]) -> Any:
    kept: list[Any] = []
    for x in (part for whole in xs for part in (whole.of if isinstance(whole, Extreme) and whole.kind == kind else (whole,))):
        if not any(beats(k, x) for k in kept):
            kept = [k for k in kept if not beats(x, k)] + [x]
    return kept[0] if len(kept) == 1 else Extreme(kind, tuple(sorted(kept, key=str)))


def _decided(x: Any, y: Any, more: int, sign: str) -> bool:
    """Whether y - x >= more."""
    if at_least(y - x, more):
        return True
    if at_least(x - y, 1 - more):
        return False
    raise SizeError(f"it is not known whether {x} {sign} {y} ({described(x, y)}); give the dimension bounds that tell, "
                    "ng.Dim(name, min=..., max=...); np.minimum and np.maximum take sizes, in place of min and max")


def same(x: Any, y: Any, who: str = "") -> bool:
    """Whether two sizes are equal, which type rules ask. Structure or bounds tell; SizeError, which names `who` asks, where they do not."""
    if x == y:
        return True
    if type(x) is int and type(y) is int or at_least(x - y, 1) or at_least(y - x, 1):
        return False
    if type(x) is int or type(y) is int:
        x, y = (x, y) if type(y) is int else (y, x)
        cure = (f"give the dimension bounds that tell, or the argument the size {y}" if y != 1 else
                "an axis that broadcasts has the literal size 1, and a dimension with min=2 is never 1")
    else:
        cure = "write sizes that are always equal with one and the same dimension"
    raise SizeError(f"{who}{who and ': '}it is not known whether the sizes {x} and {y} are equal ({described(x, y)}); {cure}")


def same_shape(x: tuple[Any, ...], y: tuple[Any, ...], who: str = "") -> bool:
    """Whether two shapes are equal."""
    return x == y or len(x) == len(y) and all(same(a, b, who) for a, b in zip(x, y))


# -- dimensions ---------------------------------------------------------------------------------------------


def dims(x: Any) -> tuple[Dim, ...]:
    """The dimensions in a size, a shape, or any nest of these, each once, in the order in which they come."""
    found: dict[Dim, None] = {}
    _gather(x, found)
    return tuple(found)


def _gather(x: Any, found: dict[Dim, None]) -> None:
    if isinstance(x, (tuple, list)):
        for y in x:
            if type(y) is not int:
                _gather(y, found)
    elif isinstance(x, Dim):
        found[x] = None
    elif isinstance(x, Size):
        _gather(x._key() if isinstance(x, Atom) else [atom for monomial, _ in x.terms for atom, _ in monomial], found)


def described(*xs: Any) -> str:
    """The bounds of the dimensions in sizes, in words: `n from 1, m from 1 to 64`."""
    return ", ".join(f"{d.name} from {d.min}" + ("" if d.max is None else f" to {d.max}") for d in dims(xs)) or "no dimension"


def typical(x: Any) -> int:
    """x where each dimension is 64, or as near to that as it may be: for choices between ways that are all right."""
    return int(substituted(x, {d: min(max(64, d.min), d.max or 64) for d in dims(x)}))


def substituted(x: Any, given: Mapping[Dim, Any]) -> Any:
    """x with sizes in the place of dimensions. SizeError where an exact quotient is no whole number."""
    if not isinstance(x, Size):
        return x
    if isinstance(x, Dim):
        return given.get(x, x)
    if isinstance(x, Floor):
        return floor_quotient(substituted(x.top, given), substituted(x.bottom, given))
    if isinstance(x, Extreme):
        return (smaller if x.kind == "min" else larger)(*(substituted(y, given) for y in x.of))
    top: Any = 0
    bottom: Any = 1
    for monomial, c in x.terms:
        over: Any = c
        under: Any = 1
        for atom, power in monomial:
            value = substituted(atom, given)
            for _ in range(abs(power)):
                over, under = (over * value, under) if power > 0 else (over, under * value)
        top, bottom = top * under + over * bottom, bottom * under
    if type(bottom) is int and type(top) is int and (not bottom or top % (bottom * x.divisor)):
        shown = ", ".join(f"{d.name} = {given[d]}" for d in dims(x) if d in given)
        raise SizeError(f"the size {x} is no whole number where {shown}")
    return whole_quotient(top, bottom * x.divisor)
