"""Rules of choice, logic and bits: all exact."""

from __future__ import annotations

from nagraph.rewrite.pattern import holes, op
from nagraph.rewrite.rule import booleans, integers, on, rules, where

c, p, q, x, y, z = holes("c p q x y z")
_not, _and, _or, _xor = op.logical_not, op.logical_and, op.logical_or, op.logical_xor
S = (3, 4)

RULES = rules(
    ("where c x x => x", op.select(c, x, x), x),
    ("where true x y => x", op.select(True, x, y), x),
    ("where false x y => y", op.select(False, x, y), y),
    ("where (not c) x y => where c y x", op.select(_not(c), x, y), op.select(c, y, x)),
    ("where c (where c x y) z => where c x z", op.select(c, op.select(c, x, y), z), op.select(c, x, z)),
    ("where c x (where c y z) => where c x z", op.select(c, x, op.select(c, y, z)), op.select(c, x, z)),
    ("not (not p) => p", _not(_not(p)), p),
    ("p and p => p", _and(p, p), p),
    ("p or p => p", _or(p, p), p),
    ("p and true => p", _and(p, True), p),
    ("p and false => false", _and(p, False), False),
    ("p or false => p", _or(p, False), p),
    ("p or true => true", _or(p, True), True),
    ("p xor false => p", _xor(p, False), p),
    ("p xor true => not p", _xor(p, True), _not(p)),
    ("p xor p => false", _xor(p, p), False),
    ("not p and not q => not (p or q)", _and(_not(p), _not(q)), _not(_or(p, q))),
    ("not p or not q => not (p and q)", _or(_not(p), _not(q)), _not(_and(p, q))),
    ("not (x == y) => x != y", _not(op.equal(x, y)), op.not_equal(x, y)),
    ("not (x != y) => x == y", _not(op.not_equal(x, y)), op.equal(x, y)),
    ("not (x < y) => x >= y (integers)", _not(op.less(x, y)), op.greater_equal(x, y),
     where(lambda x: x.dtype in integers.dtypes), on(x=S, y=S)),
    ("not (x <= y) => x > y (integers)", _not(op.less_equal(x, y)), op.greater(x, y),
     where(lambda x: x.dtype in integers.dtypes), on(x=S, y=S)),
    ("x == x => true (integers)", op.equal(x, x), True, where(lambda x: x.dtype in integers.dtypes), on(x=S)),
    ("x < x => false", op.less(x, x), False),
    ("x & x => x", x & x, x),
    ("x | x => x", x | x, x),
    ("x ^ x => 0", x ^ x, 0, integers),
    ("x & 0 => 0", x & 0, 0, integers),
    ("x | 0 => x", x | 0, x, integers),
    ("x ^ 0 => x", x ^ 0, x, integers),
    ("~(~x) => x", ~(~x), x),
    ("x << 0 => x", op.left_shift(x, 0), x),
    ("x >> 0 => x", op.right_shift(x, 0), x),
    ("p & true => p", p & True, p, booleans),
    ("p | false => p", p | False, p, booleans),
)
