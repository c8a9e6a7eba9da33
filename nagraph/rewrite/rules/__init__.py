"""The rules, by subject. `ALL` is every rule, exact or not."""

from nagraph.rewrite.rules import arithmetic, logic, movement, reduction

ALL = (*arithmetic.RULES, *logic.RULES, *movement.RULES, *reduction.RULES)
