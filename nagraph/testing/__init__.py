"""Random programs that check a compiler: made, run in every way against plain NumPy, and shrunk to a few lines.

    from nagraph.testing import check, random_program, shrink

    program = random_program(seed=7)
    failure = check(program)
    if failure:
        print(failure)

For an op, a pass or a backend of your own: `random_program(seed, rules=[*RULES, mine])` makes programs with its statements,
`check(program, [jitted("with my pass", passes="simplify,mine,dce")])` runs them through it. `nagraph fuzz` checks
thousands, and goes on where it stopped.
"""

from nagraph.testing.check import Failure as Failure
from nagraph.testing.check import Way as Way
from nagraph.testing.check import chaotic as chaotic
from nagraph.testing.check import check as check
from nagraph.testing.check import jitted as jitted
from nagraph.testing.check import ways as ways
from nagraph.testing.draw import draw as draw
from nagraph.testing.draw import stored as stored
from nagraph.testing.generate import random_program as random_program
from nagraph.testing.oracle import Undetermined as Undetermined
from nagraph.testing.program import Input as Input
from nagraph.testing.program import Program as Program
from nagraph.testing.program import Statement as Statement
from nagraph.testing.rules import RULES as RULES
from nagraph.testing.rules import Rule as Rule
from nagraph.testing.shrink import shrink as shrink
