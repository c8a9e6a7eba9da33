"""The ops: each one class with all its rules, and the functions that emit them. Importing this fills the registry."""

from nagraph.ops import arg_extremum as arg_extremum
from nagraph.ops import bits as bits
from nagraph.ops import comparison as comparison
from nagraph.ops import contraction as contraction
from nagraph.ops import convolution as convolution
from nagraph.ops import cumulative as cumulative
from nagraph.ops import dynamic_slice as dynamic_slice
from nagraph.ops import einsum as einsum
from nagraph.ops import elementwise as elementwise
from nagraph.ops import identities as identities
from nagraph.ops import indexing as indexing
from nagraph.ops import joining as joining
from nagraph.ops import labels as labels
from nagraph.ops import matrices as matrices
from nagraph.ops import movement as movement
from nagraph.ops import pooling as pooling
from nagraph.ops import random as random
from nagraph.ops import reduction as reduction
from nagraph.ops import rounding as rounding
from nagraph.ops import size_numbers as size_numbers
from nagraph.ops import sorting as sorting
from nagraph.ops import special as special
from nagraph.ops import subscript as subscript
from nagraph.ops import windows as windows
