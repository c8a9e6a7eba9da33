"""What crosses between NumPy and the arrays of the opaque backend, counted in its arrays' own hooks."""

from __future__ import annotations

import collections

from nagraph import arrays, tree


class Crossings:
    """What has crossed since it was made, or asked last."""

    def __init__(self, log):
        self.log, self.seen = log, len(log)

    def __call__(self):
        found, self.seen = self.log[self.seen:], len(self.log)
        return collections.Counter(found)

    def ways(self):
        return dict(collections.Counter(way for way, _ in self.log[self.seen:])) if self.seen < len(self.log) else {}


def types(way, values):
    return collections.Counter((way, arrays.type_of_array(x)) for x in tree.leaves(values) if x is not None)
