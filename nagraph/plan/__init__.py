"""The plan: a graph as a straight list of steps over buffers with offsets in one arena."""

from nagraph.plan.check import check as check
from nagraph.plan.lower import lower as lower
from nagraph.plan.plan import Blocks as Blocks
from nagraph.plan.plan import Buffer as Buffer
from nagraph.plan.plan import Plan as Plan
from nagraph.plan.plan import Planned as Planned
from nagraph.plan.plan import Slot as Slot
from nagraph.plan.plan import Step as Step
