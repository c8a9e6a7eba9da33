"""Every public function gives one result: NumPy's where NumPy has it, and the same eagerly, compiled on each backend, mapped, looped
over and beside a gradient; however its arguments are stored, whatever they hold, with sizes 0 and 1, with NumPy's numbers for Python's."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import NagraphError
from nagraph.ir.op import Op
from tests.consistency.rows import namespaces, public
from tests.consistency.ways import REFUSALS, Static, body_of, every_way, isfloat, outcome, written
from tests.support import WHOLE

ROWS = namespaces()
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.5, 1e-40, 3e4, 2.5]
#: Which of 0.0 and -0.0 is the larger is nobody's promise.
ZERO_IS_CHOSEN = {"max", "min", "amax", "amin", "maximum", "minimum", "clip", "sort", "cummax", "cummin", "max_at", "min_at", "top_k",
                  "relu", "max_pool", "dot"}
#: Functions some of whose numbers are operands: NumPy's promote there, Python's do not.
INTEGER_OPERANDS = {
    *(f"numpy.{n}" for n in "clip where dot set_at add_at max_at min_at full full_like arange linspace array asarray".split())} | {
    name for name, (function, *_) in ROWS.items() if isinstance(function, Op)}
#: Where these are out of range, NumPy raises, and a graph takes the nearest that is there.
CLIPS = {"numpy.take", "numpy.take_along_axis"}
#: These refuse what does not fit, where another definition may give something.
REFUSE = {"numpy.dynamic_slice", "numpy.dynamic_update_slice", "numpy.top_k", "numpy.einsum"}
#: Of infinities and nan these are stated in their own tests; here sums of them differ in order, or an algorithm of LAPACK is asked.
TAME = {"linalg.norm", "numpy.linspace", "numpy.top_k", "functional.conv_transpose", "functional.gelu", "numpy.dot"}


def cut(first, last):
    return lambda x: x[first][..., last] if x.ndim else x


ALL = slice(None)
#: Ways to change sizes.
SHAPES = {"as it is": lambda x: x, "none": cut(slice(0), ALL), "one": cut(slice(1), ALL), "none on the last axis": cut(ALL, slice(0)),
          "one on the last axis": cut(ALL, slice(1))}
SHAPES_AS_THEY_ARE = {"as it is": SHAPES["as it is"]}


def special(x):
    return np.resize(np.array(SPECIAL, np.float64), x.size).reshape(x.shape).astype(x.dtype) if isfloat(x) else x


#: Ways to store, and other contents.
CONTENTS = {"negative strides": lambda x: np.flip(np.flip(x).copy()), "columns first": lambda x: np.asfortranarray(x) if x.ndim else x,
            "broadcast": lambda x: np.broadcast_to(x[..., :1], x.shape) if x.size and x.ndim and isfloat(x) else x, "special": special}


def same(got, expected, what, exact_zero=True, tolerance=1):
    """Equal types, nan and infinities at the same places, finite numbers close."""
    if isinstance(expected, Exception):
        assert isinstance(got, Exception), f"{what}: {type(expected).__name__} ({expected}), but here {got}"
        assert isinstance(got, REFUSALS), f"{what}: {type(got).__name__}: {got}"
        return
    if isinstance(got, Exception):
        raise AssertionError(f"{what}: {type(got).__name__}: {got}") from got
    assert len(got) == len(expected), what
    for a, b in zip(got, expected):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{what}: {a.dtype}{a.shape}, expected {b.dtype}{b.shape}"
        rtol = {2: 4e-3, 4: 4e-6, 8: 1e-11}[b.dtype.itemsize] * tolerance if isfloat(b) else 0
        a, b = (x.astype(np.float64) if isfloat(x) else x for x in (a, b))
        scale = np.abs(b[np.isfinite(b)]).max(initial=1) if rtol else 0
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=what)
        if exact_zero and rtol and tolerance < 100:
            zero = (b == 0) & (a == 0)
            np.testing.assert_array_equal(np.signbit(a[zero]), np.signbit(b[zero]), err_msg=f"{what}: signs of zeros")


def test_every_public_function_has_a_row():
    assert public() == set(ROWS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(ROWS))
def test_it_is_numpys(name):
    """Eagerly, for every size and content; and what is written with NumPy's integers is the same graph."""
    function, oracle, cases = ROWS[name]
    for i, (args, kwargs) in enumerate(cases):
        for variant, f in {**sizes_of(name), **contents_of(name)}.items():
            a, k = written(args, kwargs, f)
            got, what = outcome(function, *a, **k), f"{name} {i} {variant}"
            assert variant != "as it is" or not isinstance(got, Exception), f"{what}: {got!r}"
            expected = None if oracle is None else outcome(oracle, *a, **k)
            if name in CLIPS and isinstance(expected, IndexError) or name in REFUSE and isinstance(got, NagraphError):
                continue
            if expected is not None:
                same(got, expected, what, name.partition(".")[2] not in ZERO_IS_CHOSEN)
            elif isinstance(got, Exception):
                assert isinstance(got, REFUSALS), f"{what}: {type(got).__name__}: {got}"
        for kind in (np.int64, np.array) if name not in INTEGER_OPERANDS else ():
            texts = []
            for made in (lambda x: x, kind):
                arrays, body = body_of(function, *written(args, kwargs, lambda x, made=made: Static(made(x)), int))
                texts.append(str(ng.trace(body, *arrays)))
            assert texts[0] == texts[1], f"{name} {i} with {kind.__name__}"


def sizes_of(name):
    return SHAPES_AS_THEY_ARE if name.startswith("random.") else SHAPES


def contents_of(name):
    return {k: f for k, f in CONTENTS.items() if k != "special" or name not in TAME}


def values_alone(body):
    """The function, which gives traced values of traced ones, but for sizes."""

    def checked(*values):
        found = body(*values)
        assert not values or all(isinstance(x, ng.Value) or type(x) is int for x in found), "a traced value gave an array"
        return found

    return checked


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_way_gives_the_same(name):
    function, _, cases = ROWS[name]
    arguments, bodies, wanted = [], {}, {}
    for i, (args, kwargs) in enumerate(cases if WHOLE else cases[:3]):
        for variant, f in (sizes_of(name) if i == 0 or WHOLE else SHAPES_AS_THEY_ARE).items():
            arrays, body = body_of(function, *written(args, kwargs, f))
            eager, what = outcome(body, *arrays), f"{name} {i} {variant}"
            assert variant != "as it is" or not isinstance(eager, Exception), f"{what}: {eager!r}"
            traced = outcome(lambda body=body, arrays=arrays: [ng.trace(values_alone(body), *arrays)] and [])
            if isinstance(eager, IndexError) and not isinstance(traced, Exception):  # indices are not known while tracing
                continue
            if isinstance(eager, Exception) or isinstance(traced, Exception):
                same(traced, eager, f"{what}, traced")
                continue
            for way, f in every_way(body).items():
                if way == "direct" or arrays:
                    bodies[what, way] = (len(arguments), len(arguments) + len(arrays), f)
            wanted[what] = body
            arguments += arrays

    def everything(*arrays):
        return {what: f(*arrays[a:b]) for what, (a, b, f) in bodies.items()}

    compiled = {b: ng.jit(everything, backend=b) for b in ("numpy", "llvm")}
    exact_zero = name.partition(".")[2] not in ZERO_IS_CHOSEN
    for content, f in {"as it is": SHAPES["as it is"], **contents_of(name)}.items():
        arrays = [f(x) for x in arguments]
        found = {b: run(*arrays) for b, run in compiled.items()}
        for (what, way), (a, b, _) in bodies.items():
            expected = outcome(wanted[what], *arrays[a:b])
            count = len(expected)
            for backend, all_results in found.items():
                results = [np.asarray(x) for x in all_results[what, way]]
                examples = (lambda x: x[0], lambda x: x[1]) if way in ("vmap", "scan") else (lambda x: x,)
                for example in examples:
                    same([np.asarray(example(x)) for x in results[:count]], expected, f"{what}, {content}, {way}, {backend}", exact_zero,
                         1 if backend == "numpy" else 4)
            if way == "grad" and content == "as it is":
                gradients = [[np.asarray(x) for x in found[b][what, way][count:]] for b in ("llvm", "numpy")]
                same(*gradients, f"{what}, gradient", tolerance=100)
