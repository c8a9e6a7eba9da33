"""Random numbers from explicit keys, the same bits on every backend: counter-based Threefry-2x32.

    key = ng.random.key(0)
    k1, k2 = ng.random.split(key)
    x = ng.random.normal(k1, (3, 4))
"""

from nagraph.ops.random import bernoulli as bernoulli
from nagraph.ops.random import bits as bits
from nagraph.ops.random import categorical as categorical
from nagraph.ops.random import exponential as exponential
from nagraph.ops.random import fold_in as fold_in
from nagraph.ops.random import gumbel as gumbel
from nagraph.ops.random import key as key
from nagraph.ops.random import normal as normal
from nagraph.ops.random import permutation as permutation
from nagraph.ops.random import randint as randint
from nagraph.ops.random import split as split
from nagraph.ops.random import uniform as uniform
