"""Expressions for the bodies of loops, branches, batched and differentiated functions."""

from __future__ import annotations

from collections.abc import Sequence

from nagraph.testing.choice import Choice

#: Functions of single elements that have a derivative everywhere, and stay small.
ANALYTIC = ("np.tanh({0})", "np.sin({0})", "np.cos({0})", "np.exp(-{0} * {0})", "{0} * 0.5", "1 / (1 + {0} * {0})",
            "np.log(1 + {0} * {0})", "np.sqrt(1 + {0} * {0})", "-{0}", "{0} * {1}", "{0} + {1}", "{0} - {1}")
#: Others, whose results depend on one element each as well.
KINKED = ("np.abs({0})", "np.maximum({0}, {1})", "np.minimum({0}, {1})", "np.where({0} > 0, {0}, {1})", "ng.nn.functional.gelu({0})",
          "ng.nn.functional.relu({0})", "np.clip({0}, -0.5, 0.75)", "ng.stop_gradient({0}) + {1}", "ng.numpy.sigmoid({0})")
#: Functions of a whole array that give an array of its shape.
WHOLE = ("{0} - {0}.mean()", "{0} / (1 + np.abs({0}).max())", "{0} + {1}.sum() * 0.1", "np.flip({0})",
         "ng.nn.functional.softmax({0}.reshape(-1)).reshape({0}.shape)")

#: Updates of the array {0} at {1}, a number or an array of them, by rows of its own and of {2}, an array of its shape.
UPDATES = ("ng.numpy.set_at({0}, {1}, ng.numpy.take({2}, {1}, axis=0))", "ng.numpy.set_at({0}, {1}, {0}[0])",
           "ng.numpy.add_at({0}, {1}, ng.numpy.take({2}, {1}, axis=0))", "ng.numpy.add_at({0}, {1}, {0}[-1])",
           "ng.numpy.max_at({0}, {1}, {2}[0])", "ng.numpy.min_at({0}, {1}, {2}[-1])",
           "ng.numpy.set_at({0}, (..., 0), {2}[..., -1])", "np.where({0} > {2}, {0}, {2})")
#: Updates at a number alone.
AT_NUMBERS = ("ng.numpy.dynamic_update_slice({0}, {2}[-1:], ({1}, *(0,) * ({0}.ndim - 1)))",
              "ng.cond({2}.sum() > 0.25, lambda z: ng.numpy.set_at(z, {1}, {2}[0]), lambda z: z, {0})")


def updates(choice: Choice, array: str, place: str, other: str, size: int, number: bool) -> str:
    """`size` updates of an array at a place, one of another; `number`: whether the place is one. `other` has the array's shape."""
    text = array
    for _ in range(size):
        form = str(choice.one((*UPDATES, *AT_NUMBERS) if number else UPDATES))
        text = f"(lambda y: {form.replace('{0}', 'y').replace('{1}', place).replace('{2}', other)})({text})"
    return text


def expression(choice: Choice, names: Sequence[str], size: int, kinds: Sequence[str] = ANALYTIC) -> str:
    """An expression of about `size` functions over the names, of the shape of the first."""
    text = names[0]
    for _ in range(size):
        other = str(choice.one(names))
        form = str(choice.one(kinds))
        text = form.replace("{0}", f"({text})" if not text.isidentifier() else text).replace("{1}", other)
        if len(text) > 160:
            break
    return text
