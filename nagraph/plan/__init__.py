"""The plan: a graph as a straight list of steps over buffers with offsets in one arena."""

from nagraph.plan.check import check as check
from nagraph.plan.plan import Buffer as Buffer
from nagraph.plan.plan import Plan as Plan
from nagraph.plan.plan import Planned as Planned
from nagraph.plan.plan import RowLoop as RowLoop
from nagraph.plan.plan import Slot as Slot
from nagraph.plan.plan import Step as Step
from nagraph.plan.planner import make_plan as make_plan
