"""The statements that random programs are made of."""

from nagraph.testing.rules import composites as composites
from nagraph.testing.rules import control as control
from nagraph.testing.rules import elementwise as elementwise
from nagraph.testing.rules import indexing as indexing
from nagraph.testing.rules import movement as movement
from nagraph.testing.rules import products as products
from nagraph.testing.rules import reductions as reductions
from nagraph.testing.rules.rule import RULES as RULES
from nagraph.testing.rules.rule import Proposal as Proposal
from nagraph.testing.rules.rule import Rule as Rule
from nagraph.testing.rules.rule import rule as rule
