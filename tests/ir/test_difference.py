"""The difference of two graphs: what corresponds keeps its name, what does not shows."""

import numpy as np

import nagraph as ng
from nagraph.ir.difference import difference


def graph(middle):
    def f(x):
        y = np.exp(x)
        z = middle(y)
        return np.tanh(z) * y

    return ng.trace(f, ng.spec((3,), "float32"))


def test_equal_graphs_do_not_differ():
    assert difference(graph(np.sin), graph(np.sin)) == ""


def test_a_node_taken_away_renames_nothing():
    before, after = graph(np.sin), graph(lambda y: y)
    assert difference(before, after, "after dropping", context=0).splitlines() == [
        "--- before", "+++ after dropping",
        "@@ -3,2 +3 @@", "-  %1: f32[3] = sin(%0)", "-  %2: f32[3] = tanh(%1)", "+  %2: f32[3] = tanh(%0)"]


def test_a_new_node_has_a_new_number():
    lines = difference(graph(lambda y: y), graph(np.sin), context=0).splitlines()
    assert "+  %3: f32[3] = sin(%0)" in lines and "+  %1: f32[3] = tanh(%3)" in lines


def test_regions_show_too():
    def looped(f):
        return ng.trace(lambda x: ng.scan(lambda c, _: (f(c), c), x, None, length=3)[0], ng.spec((3,), "float32"))

    lines = difference(looped(np.sin), looped(np.cos), context=0).splitlines()
    assert any(line.startswith("-") and "sin(" in line for line in lines)
    assert any(line.startswith("+") and "cos(" in line for line in lines)
