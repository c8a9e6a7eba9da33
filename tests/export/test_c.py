"""Files of C99: what they say, that they are built strictly and run in guarded memory, that they have the bits of the LLVM backend."""

import re
import subprocess

import ml_dtypes
import numpy as np
import pytest

import nagraph as ng
from nagraph.c_text.scalars import OPEN
from nagraph.elementary.narrow import NARROW
from nagraph.errors import ExportError
from nagraph.export.subject import Subject
from nagraph.export.to_c.expressions import assignment, inside, plain
from nagraph.export.to_c.file import CFile
from nagraph.export.to_c.support import names, needed, parts
from nagraph.export.to_c.words import C99, MATH
from nagraph.ir.scalar import F32, F64
from nagraph.ir.types import DTYPES, FLOATS, SHORT_NAMES, SIGNED
from nagraph.models.workloads import workload
from nagraph.testing import random_program
from nagraph.testing.names import our_names
from nagraph.testing.oracle import run as plain_run
from tests.export.c_programs import COMPILERS, COMPILES, STRICT, Case, case, differences, run
from tests.gpu.cases import TINY, op_cases
from tests.support import WHOLE

rng = np.random.default_rng(0)
F = ng.nn.functional


def f4(*shape):
    return rng.normal(size=shape).astype("f4")


def loops(x, w):
    """A scan with outputs, backwards as well; a while loop; branches in it."""
    def step(carry, row):
        new = np.tanh(carry @ w + row)
        return new, new.sum()

    last, sums = ng.scan(step, x[0], x)
    _, back = ng.scan(step, last, x, reverse=True)
    grown = ng.while_loop(lambda s: (s * s).sum() < 1e3, lambda s: ng.cond(s[0] > 0, lambda s: s * 2, lambda s: 1 - s * 3, s), last)
    counted = ng.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] * 2), (np.int32(0), last))[1]
    return last, sums, back, grown, counted


def places(x, i):
    """Sorts, and reads and writes at places that are data."""
    xp = ng.numpy
    added, largest = xp.add_at(x, i, x[:3] * 0.3), xp.max_at(xp.set_at(x, i[0], 2.5), i, x[3:])
    return xp.sort(x, axis=0), xp.argsort(x, axis=1), x[i], added, largest, xp.cumsum(x, axis=1), xp.argmax(x, -1)


def sums(x, y):
    """Sums in chains of many lengths, and products longer than a chain."""
    return x.sum(), x.sum(1), x.sum(0), x.max(1), x @ y, np.prod(x[:, :7], axis=1), F.softmax(x), (x[:, :77] ** 2).mean(-1)


def halves(x, y, k):
    """16-bit floats, integers that wrap around, bools, casts."""
    finite = np.where(np.isfinite(x), x, 5)
    return (x * 2 + 1, x @ x, y * y, y.astype(np.float16), (finite * 0.01).astype(np.int8), k * k * k, k // 3, k % 7, np.abs(k), k > 2,
            (k > 2).any(), k.astype(ml_dtypes.bfloat16), np.exp(x.astype(np.float64)), finite.astype(np.uint64))


def dropout(x, seed):
    key = ng.random.key(seed)
    return np.where(ng.random.bernoulli(key, 0.7, x.shape), x / 0.7, 0), ng.random.normal(key, (5, 3)), ng.random.uniform(key, (7,))


def strange():
    """Functions with arguments, between them all that a file can say."""
    odd = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-7, 60000, 3.7], "f4")
    yield loops, [f4(5, 4), f4(4, 4)]
    yield places, [np.where(rng.random((6, 5)) < 0.2, np.nan, rng.integers(0, 4, (6, 5))).astype("f4"), np.array([3, 0, 3])]
    yield sums, [f4(3, 1300), f4(1300, 2)]
    yield halves, [odd[:, None].astype("f2") * np.ones((1, 8), "f2"), odd.astype(ml_dtypes.bfloat16), rng.integers(-2**40, 2**40, (3, 4))]
    yield dropout, [f4(4, 6), np.uint32(7)]


@COMPILES
@pytest.mark.parametrize("compiler", COMPILERS)
def test_strange_functions_have_the_bits_of_the_llvm_backend(tmp_path, compiler):
    made = [case(function, [np.asarray(a) for a in arguments], n) for n, (function, arguments) in enumerate(strange())]
    for x, (function, _), found in zip(made, strange(), run(tmp_path, made, compiler)):
        assert differences(ng.compile(x.file.subject.graph)(*x.arguments), found) == [], function.__name__
    assert "for (;;)" in (tmp_path / "case0.c").read_text() and "break;" in (tmp_path / "case0.c").read_text()


@COMPILES
def test_ops_models_and_train_steps_have_the_bits_of_the_llvm_backend(tmp_path):
    """A part of `python -m tests.export.c_sweep`."""
    chosen = list(op_cases())
    chosen = chosen if WHOLE else [chosen[n] for n in rng.choice(len(chosen), 12, replace=False)]
    work = workload("vit", "train" if WHOLE else "infer", **{k: TINY[k] for k in ("layers", "heads", "width", "batch", "patch")})
    made = [*(case(x.graph, x.operands, n) for n, x in enumerate(chosen)), case(work.graph(), work.arrays(), len(chosen))]
    for name, x, found in zip([*(x.name for x in chosen), "vit"], made, run(tmp_path, made, COMPILERS[-1], ("-O1",)), strict=True):
        assert differences(ng.compile(x.file.subject.graph)(*x.arguments), found) == [], name


@COMPILES
def test_a_donated_state_is_changed_where_it_is_and_labels_are_checked(tmp_path):
    def step(state, x, labels):
        def loss(w):
            return ng.nn.losses.cross_entropy(np.tanh(x @ w), labels)

        value, slope = ng.value_and_grad(loss)(state["w"])
        return {"w": state["w"] - 0.1 * slope}, value

    state, x, labels = {"w": f4(4, 3)}, f4(5, 4), np.array([0, 1, 2, 1, 0])
    specs = ng.eval_shape(lambda *given: given, state, x, labels)
    subject = Subject.of(ng.jit(step, donate_argnames="state"), specs, optimised=False)
    file = CFile(subject, "step")
    assert "int step(float *state_w, const float *x, const int64_t *labels, float *output1)" in file.header()
    (w, value), = run(tmp_path, [Case(file, [state["w"], x, labels])])
    assert differences(ng.jit(step)(state, x, labels)[0].values(), [w]) == [] and value.shape == ()
    with pytest.raises(AssertionError) as caught:  # the function gives 1, and the program of the tests ends
        run(tmp_path, [Case(file, [state["w"], x, np.array([0, 1, 3, 1, 0])])])
    assert "returned 5" in str(caught.value)


@COMPILES
def test_multiply_adds_without_an_instruction_round_once(tmp_path):
    driver = """
    static uint64_t seed = 88172645463325252ull;
    static uint64_t next(void) { seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; return seed; }
    static uint64_t draw(int digits, int bias) { /* the bits of a float: ordinary, subnormal, of few digits, or zero */
      const uint64_t sign = next() & 1, most = 2 * (uint64_t)bias, kind = next() % 8;
      uint64_t exponent = kind == 0 ? 0 : kind < 6 ? (uint64_t)bias - 30 + next() % 60 : next() % (most + 1);
      uint64_t rest = next() & ((1ull << digits) - 1);
      if (next() % 4 == 0) rest &= ~0ull << digits / 2;
      if (next() % 64 == 0) exponent = rest = 0;
      return sign << (digits == 23 ? 31 : 63) | exponent << digits | rest;
    }
    int main(void) {
      for (int n = 0; n < 300000; ++n) {
        union { uint64_t bits; double value; } x, y, z, a, b;
        union { uint32_t bits; float value; } u, v, w, c, d;
        x.bits = draw(52, 1023); y.bits = draw(52, 1023); z.bits = draw(52, 1023);
        u.bits = (uint32_t)draw(23, 127); v.bits = (uint32_t)draw(23, 127); w.bits = (uint32_t)draw(23, 127);
        if (n % 3 == 0) { /* most of the product goes */
          z.value = -x.value * y.value; z.bits += next() % 3;
          w.value = -u.value * v.value; w.bits += (uint32_t)(next() % 3);
        }
        a.value = fma_f64(x.value, y.value, z.value); b.value = fma(x.value, y.value, z.value);
        c.value = fma_f32(u.value, v.value, w.value); d.value = fmaf(u.value, v.value, w.value);
        if (a.bits != b.bits && !(isnan(a.value) && isnan(b.value))) return 1;
        if (c.bits != d.bits && !(isnan(c.value) && isnan(d.value))) return 2;
      }
      return 0;
    }
    """
    text = "\n".join(["#include <math.h>", "#include <stdbool.h>", "#include <stdint.h>", "#undef FP_FAST_FMA", "#undef FP_FAST_FMAF",
                      *needed("fma_f32 fma_f64"), driver])
    (tmp_path / "fma.c").write_text(text)
    subprocess.run([COMPILERS[0], *STRICT, "-O2", str(tmp_path / "fma.c"), "-o", str(tmp_path / "fma"), "-lm"], check=True)
    assert subprocess.run([str(tmp_path / "fma")]).returncode == 0


@COMPILES
def test_the_stack_has_a_known_size_and_nothing_is_recursive_or_allocated(tmp_path):
    path = ng.export.c(loops, tmp_path / "loops.c", (ng.spec((5, 4), "float32"), f4(4, 4)), weights="header")
    text, weights = path.read_text(), (tmp_path / "loops_weights.h").read_text()
    assert "static const float w[16] = {" in weights and "static const float w[16]" not in text
    included = {'"loops.h"', '"loops_weights.h"', "<float.h>", "<limits.h>", "<math.h>", "<stdbool.h>"}
    assert set(re.findall(r"#include (.*)", text)) == included
    bodies = dict(re.findall(r"^(?:static )?\w+ (\w+)\([^;{]*\) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
    order = list(bodies)
    assert order[-1] == "loops"
    for n, name in enumerate(order):  # each calls those before it alone
        assert not {*re.findall(r"\b(\w+)\(", bodies[name])} & {*order[n:]}, name
    for compiler in COMPILERS:
        subprocess.run([compiler, *STRICT, "-O1", "-Wvla", "-c", str(path), "-o", str(tmp_path / "loops.o")], check=True)
    if "gcc" in COMPILERS:
        subprocess.run(["gcc", *STRICT, "-O0", "-fstack-usage", "-c", str(path), "-o", str(tmp_path / "loops.o")], check=True)
        usage = [line.split("\t") for line in (tmp_path / "loops.su").read_text().splitlines()]
        assert {kind for _, _, kind in usage} == {"static"} and sum(int(size) for _, size, _ in usage) < 1 << 14


def test_a_file_says_where_it_comes_from_and_what_lives_where(tmp_path):
    def dense(x, w):
        hidden = np.maximum(x @ w, 0)  # a line with */ and /* in it
        return hidden @ w, hidden.sum()

    text = ng.export.c(dense, tmp_path / "d.c", (ng.spec((4, 4), "float32"),) * 2, metadata={"author": "*/ nobody"}).read_text()
    assert re.search(r"test_c\.py:\d+  hidden = np\.maximum\(x @ w, 0\)  # a line with \* / and / \* in it", text)
    assert re.search(r"Arena of \d+ bytes; .*\n.*bytes +steps  value\n +0 to 63 +\d+-\d+  %\d+: f32\[4,4\]", text)
    assert "author: * / nobody" in text and text.count("for (int k = 0; k < 4; ++k)") == 2


@pytest.mark.parametrize("wrong, said", [
    (lambda path: ng.export.c(lambda x: x + 1, path, ng.spec((ng.Dim("batch"), 2))), 'sizes={"batch": 8}'),
    (lambda path: ng.export.c(lambda x: ng.debug.print("x", x), path, ng.spec((2,))), "debug_print"),
    (lambda path: ng.export.c(lambda x: x, path.with_suffix(".cpp"), ng.spec((2,))), "ends in .c"),
    (lambda path: ng.export.c(lambda x: x, path, ng.spec((2,)), weights="file"), "'source', 'header'"),
    (lambda path: ng.export.c(lambda x: x, path, ng.spec((2,)), function="while"), "'while'"),
])
def test_refusals_say_what_to_do_and_leave_nothing(tmp_path, wrong, said):
    with pytest.raises(ExportError) as caught:
        wrong(tmp_path / "x.c")
    assert said in str(caught.value) and not list(tmp_path.iterdir())


def test_a_function_that_nobody_calls_in_the_end_is_not_written():
    for seed in (11, 12):  # their kernels have places by division, of which some are dropped
        program = random_program(seed)
        arrays = plain_run(program)
        arrays = [arrays.native[i.name] for i in program.inputs]
        graph = ng.trace(program.function({**our_names(), **program.sizes}), *arrays)
        text = case(graph, arrays).file.source(False)
        for name in re.findall(r"^static \w+ (\w+)\(", text, re.MULTILINE):
            assert len(re.findall(rf"\b{name}\(", text)) > 1, name


def test_sizes_may_be_given(tmp_path):
    text = ng.export.c(lambda x: x + 1, tmp_path / "x.c", ng.spec((ng.Dim("batch"), 2)), sizes={"batch": 3}, function="more").read_text()
    assert "i < 6;" in text and "void more(const float *x, float *output)" in text


def test_expressions_have_as_few_parentheses_as_they_need():
    assert plain("y = f((a + b), (int)(c), (-1.0f)) * (a + b);") == "y = f(a + b, (int)(c), -1.0f) * (a + b);"
    assert plain("if ((a)) f((b));") == "if ((a)) f(b);"
    assert assignment("sum", "sum + (a * b)") == "sum += a * b;" and assignment("sum", "sum + a * b") == "sum = sum + a * b;"
    assert [inside(x) for x in ("a", "x[i * 2]", "f(a, b)")] == ["a", "x[i * 2]", "f(a, b)"]
    assert [inside(x) for x in ("f(a) + g(b)", "(a) + (b)")] == ["(f(a) + g(b))", "((a) + (b))"]


def test_the_support_file_has_what_scalar_rules_call():
    """What a scalar builder asks the words of C for, in every dtype that it has it in."""
    there, math = {*names()}, {*MATH.values(), *(f"{name}f" for name in MATH.values())}
    computed = [d for d in DTYPES.values() if d not in NARROW]
    wanted = {C99.helper(name, d) for name in ("max", "min") for d in computed}
    wanted |= {C99.helper("abs", d) for d in computed if d in FLOATS | SIGNED}
    wanted |= {C99.helper(name, d) for name in (*MATH, "fma") for d in computed if d in FLOATS}
    wanted |= {C99.helper(name, d) for name in ("add", "sub", "mul", "shl") for d in OPEN}
    wanted |= {C99.helper("float", d) for d in NARROW} | {C99.helper(SHORT_NAMES[d], F32) for d in NARROW}
    wanted |= {C99.truncated("", a, b).partition("(")[0] for a in (F32, F64) for b in OPEN}
    wanted |= {C99.wrapped("", a).partition("(")[0] for a in (F32, F64)}
    assert wanted <= there | math


def test_every_part_of_the_support_file_is_a_function_that_only_earlier_ones_call():
    defined = [part.defines for part in parts()]
    assert all(defined) and len({*names()}) == sum(map(len, defined))
    for n, part in enumerate(parts()):
        assert not part.mentions & {name for group in defined[n + 1:] for name in group}
