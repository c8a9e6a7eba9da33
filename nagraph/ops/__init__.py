"""The ops: each one class with all its rules, and the functions that emit them. Importing this fills the registry."""

from nagraph.ops import bits as bits
from nagraph.ops import comparison as comparison
from nagraph.ops import contraction as contraction
from nagraph.ops import control as control
from nagraph.ops import elementwise as elementwise
from nagraph.ops import region as region
from nagraph.ops import rounding as rounding
from nagraph.ops import special as special
