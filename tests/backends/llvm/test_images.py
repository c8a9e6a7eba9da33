"""Programs from the cache: the same results without a pass, and never the program of something else."""

import os
import subprocess
import sys

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends import cache
from nagraph.backends.llvm.program import functions
from nagraph.ir.op import op
from nagraph.ir.types import FLOATS
from nagraph.ops.base import Elementwise
from tests.support import forget_kernels

X = np.linspace(-1, 1, 60, dtype=np.float32).reshape(5, 12)
TABLE = np.arange(144, dtype=np.float32).reshape(12, 12) / 100


def model(x):
    """A product, a loop, a branch, and a constant array."""
    y = ng.numpy.tanh(x @ TABLE)
    total, _ = ng.scan(lambda carry, row: (carry * 0.5 + row, None), np.zeros(12, np.float32), y)
    return ng.cond(total.sum() > 0, lambda t: t * 2, lambda t: -t, total)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "compiled")
    return tmp_path / "compiled"


@pytest.fixture
def forget(monkeypatch):
    """Forget what this process knows of compiled kernels, as another process would not know it."""

    def forgotten():
        forget_kernels(monkeypatch)

    forgotten()
    return forgotten


def made(fn=model, *args, **options):
    return ng.jit(fn, backend="llvm", **options).lower(*(args or (X,))).executable


def test_a_program_is_loaded_and_gives_the_same_bits(folder, forget, monkeypatch):
    first = made()
    assert not first.loaded and len(cache.entries("program")) == 1
    forget()
    monkeypatch.setattr(functions, "object_code", lambda text: pytest.fail("compiled again"))
    second = made()
    assert second.loaded and second.arena_nbytes == first.arena_nbytes
    for x in (X, -X):
        np.testing.assert_array_equal(second(x)[0], first(x)[0])


def test_what_a_loaded_program_was_made_from_is_found_when_asked_for(folder, forget):
    first, second = made(), made()
    assert second.loaded and "explanation" not in vars(second)
    assert str(second.graph) == str(first.graph) and str(second.memory) == str(first.memory)
    assert second.source("llvm") == first.source("llvm") and len(second.launches) == len(first.launches)
    assert sum(r.calls for r in second.profile(X).rows) > 1


PROCESS = """
import sys, numpy as np, nagraph as ng
fn = ng.jit(lambda x, w: np.tanh(x @ w).sum(axis=0), backend="llvm")
print(fn(np.eye(30), np.full((30, 30), 0.25)).tobytes().hex())
print(ng.__name__, "nagraph.passes.fuse" in sys.modules, "loaded from the cache" in fn.explain())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is set as Linux has it")
def test_a_second_process_runs_no_pass(tmp_path):
    outs = [subprocess.run([sys.executable, "-c", PROCESS], check=True, capture_output=True, text=True, timeout=100,
                           env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}).stdout.split() for _ in range(2)]
    assert outs[0][0] == outs[1][0]
    assert outs[0][1:] == ["nagraph", "True", "False"] and outs[1][1:] == ["nagraph", "False", "True"]


@pytest.mark.parametrize("kind", ["program", "kernel"])
@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b[:200] + bytes([b[200] ^ 4]) + b[201:], None])
def test_a_damaged_program_or_kernel_is_made_anew(folder, forget, kind, damage):
    first = made()
    for file in cache.entries(kind):
        file.write_bytes(damage(file.read_bytes())) if damage else file.unlink()
    forget()
    second = made()
    assert not second.loaded
    np.testing.assert_array_equal(second(X)[0], first(X)[0])
    assert made().loaded, "and kept"


def test_everything_that_a_program_follows_from_is_in_its_key(folder):
    """Each of these differs from all before in one thing; nothing may be taken from the cache."""
    other = TABLE.copy()
    other[7, 3] = np.nextafter(other[7, 3], 1)
    update = ng.jit(lambda p, g: p - g * 0.5, backend="llvm", donate_argnames="p")
    executables = [
        made(), made(lambda x: model(x) + 1), made(lambda x: model(x) + 2), made(model, X[:3]),
        made(passes="simplify,fold_constants,cse,dce,expand,fuse,schedule"), made(lambda x: x @ TABLE), made(lambda x: x @ other),
        made(lambda x: x @ TABLE, X.astype(np.float64)),
        made(lambda p, g: p - g * 0.5, X, X), update.lower(X.copy(), X).executable]
    assert not any(e.loaded for e in executables) and len(cache.entries("program")) == len(executables)
    p = X.copy()
    again = ng.jit(lambda p, g: p - g * 0.5, backend="llvm", donate_argnames="p")
    result = again(p, X)
    assert "loaded" in again.explain() and result is p
    np.testing.assert_array_equal(p, X * np.float32(0.5))


def test_pipelines_that_are_no_text_are_run(folder):
    from nagraph.backends import find
    from nagraph.pipeline import Pipeline

    seen = []
    pipeline = Pipeline.parse(find("llvm").pipeline, observers=[seen.append])
    for _ in range(2):
        assert not made(passes=pipeline).loaded
    assert len(seen) == 2 * len(pipeline.passes) and not cache.entries("program")


def test_a_program_that_prints_is_not_kept(folder, capsys):
    for _ in range(2):
        exe = made(lambda x: ng.debug.print("here", x) * 2)
        assert not exe.loaded
        exe(X)
    assert capsys.readouterr().out.count("here") == 2


def test_users_own_ops_are_not_kept(folder, forget):
    """Their rules may be others in the next process, under the same name."""

    @op
    class Thrice(Elementwise):
        """y = 3 x."""

        factor = 3
        dtypes = FLOATS

        def reference(self, x):
            return self.factor * x

        def scalar(self, s, x):
            return x * self.factor

    thrice = Thrice()
    np.testing.assert_array_equal(made(lambda x: thrice(x) + 0.5)(X)[0], 3 * X + np.float32(0.5))
    assert not cache.entries("program", "kernel")
    forget()
    Thrice.factor = 5
    np.testing.assert_array_equal(made(lambda x: thrice(x) + 0.5)(X)[0], 5 * X + np.float32(0.5))


def test_without_a_cache_programs_are_made_anew(folder, monkeypatch):
    made()
    monkeypatch.setenv("NAGRAPH_CACHE", "off")
    assert not made().loaded
