"""The ops: each one class with all its rules, and the functions that emit them. Importing this fills the registry."""

from nagraph.ops import contraction as contraction
from nagraph.ops import control as control
from nagraph.ops import elementwise as elementwise
from nagraph.ops import region as region
