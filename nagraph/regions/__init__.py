"""Ops that hold graphs, one a file: calls, branches, scans, while loops. Their rules are the transforms of these graphs."""

from nagraph.regions import branches as branches
from nagraph.regions import calls as calls
from nagraph.regions import scans as scans
from nagraph.regions import while_loops as while_loops
