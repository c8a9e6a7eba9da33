"""Schedules that a user gives for kernels on a GPU, and tf32: text that is another, bits that are those of before, refusals."""

import dataclasses
import re

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.cuda import nvrtc
from nagraph.backends.gpu.products.library import library_product
from nagraph.backends.gpu.schedule_text import parse_all
from nagraph.errors import ParseError, ScheduleError, SignatureError
from nagraph.kernel.lower import lower
from nagraph.nn import functional as F
from tests.backends.cuda.conftest import usable_as
from tests.backends.cuda.lazy_device import LazyBackend
from tests.backends.cuda.on_cpu import OnCpuDriver

RNG = np.random.default_rng(0)
X, W = (RNG.normal(size=s).astype("f4") for s in ((24, 40), (40, 16)))


@pytest.fixture
def backend(monkeypatch):
    return usable_as(monkeypatch, LazyBackend(OnCpuDriver(check="watch")))


def compiled(function, *arrays, **how):
    return ng.compile(ng.trace(function, *arrays), backend="lazy", **how)


def called(executable, *arrays):
    return [ng.to_numpy(y) for y in executable(*ng.device_put(arrays, "lazy"))]


def test_given_schedules_are_obeyed_and_keep_the_bits(backend, tmp_path):
    def function(x, w):
        return np.tanh(x @ w), F.softmax(x)

    own = compiled(function, X, W)
    product, rows = sorted(own.schedules, key=lambda name: not name.startswith("dot"))
    given = {product: re.sub(r"(\d+) rows( and \d+ columns)?, (\d+) threads", r"8 rows\2, \3 threads", str(own.schedules[product])),
             rows: dataclasses.replace(own.schedules[rows], points=2 * own.schedules[rows].points)}
    other = compiled(function, X, W, schedules=given)
    assert {name: str(s) for name, s in other.schedules.items()} == {name: str(s) for name, s in given.items()}
    assert all(str(s) != str(own.schedules[name]) for name, s in given.items()) and other.source() != own.source()
    assert other.schedule(own.kernels[0]) == other.schedules[product]
    for a, b in zip(called(other, X, W), called(own, X, W), strict=True):
        assert a.tobytes() == b.tobytes()
    place = tmp_path / "f.schedules"
    place.write_text(f"// two of them\n{other.source('schedule')}\n")
    assert parse_all(other.source("schedule")) == other.schedules == compiled(function, X, W, schedules=place).schedules


def test_schedules_that_can_not_be_are_refused(backend):
    own = compiled(np.matmul, X, W)
    ((name, schedule),) = own.schedules.items()
    for given, error, said in (
            ({name: dataclasses.replace(schedule, threads=48)}, ScheduleError, f"legal for {name}: rule 'threads': a block is whole warps"),
            ({name: dataclasses.replace(schedule, rows="8")}, ScheduleError, "rule 'fields': rows is int, got str: '8'"),
            ({name + "x": schedule}, ScheduleError, f"no kernel of this program is called '{name}x'.*it has {name}"),
            ({name: 7}, SignatureError, "schedules are given by the names of kernels"),
            ({name: "schedule {\n  chunk: 4\n}"}, ParseError, "expected block, a tile or a stage, found 'chunk: 4'")):
        with pytest.raises(error, match=said):
            compiled(np.matmul, X, W, schedules=given)
    with pytest.raises(ParseError, match="has two schedules"):
        parse_all(f"a {schedule}\na {schedule}")
    with pytest.raises(ParseError, match="the name of a kernel stands before its schedule, found 'schedule"):
        parse_all(str(schedule))
    with pytest.raises(SignatureError, match=r"the CUDA backend has no tuner.*ng.compile\(graph, backend='cuda', schedules="):
        own.tune(*ng.device_put((X, W), "lazy"))


def test_tf32_is_what_one_asks_for(backend):
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=s).astype("f4") for s in ((64, 96), (96, 64)))

    def function(x, w):
        return np.maximum(x @ w, 0)

    graph = ng.trace(function, x, w)
    plain, rounded = ng.compile(graph, backend="lazy"), ng.compile(graph, backend="lazy", tf32=True)
    assert "tf32" in rounded.source("schedule") and "ng_mma_tf32" in rounded.source() and "tf32" not in plain.source("schedule")
    (exact,), (found,) = called(plain, x, w), called(rounded, x, w)
    error = np.abs(found - exact).max() / np.abs(exact).max()
    assert 2.0 ** -16 < error < 2.0 ** -9, "it is rounded, and to no less than 11 bits"
    (jitted,) = ng.jit(lambda x, w: (function(x, w),), backend="lazy", tf32=True)(*ng.device_put((x, w), "lazy"))
    assert ng.to_numpy(jitted).tobytes() == found.tobytes()


def test_a_library_product_in_tf32_rounds_its_factors():
    kernel = lower(ng.Pipeline.parse("canonicalize")(ng.trace(np.matmul, X, W)))
    exact, rounded = np.empty((24, 16), np.float32), np.empty((24, 16), np.float32)
    library_product(kernel).compute(X, W, exact)
    library_product(kernel, tf32=True).compute(X, W, rounded)
    cut = [((a.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32) for a in (X, W)]
    np.testing.assert_array_equal(rounded, cut[0] @ cut[1])
    assert (exact != rounded).any()


@pytest.mark.parametrize("name, said", [("numpy", "multiplies float32 as it is"), ("llvm", "multiplies float32 as it is"),
                                        ("mps", "MLX_ENABLE_TF32=1")])
def test_other_backends_refuse_tf32(name, said):
    if why := ng.backends.find(name).missing():
        pytest.skip(why)
    with pytest.raises(SignatureError, match=said):
        ng.jit(lambda x: x, backend=name, tf32=True)(X)


@pytest.mark.skipif(bool(nvrtc.missing()), reason="NVRTC is not installed")
def test_programs_on_disk_are_kept_by_schedules_and_tf32(tmp_path, monkeypatch):
    monkeypatch.setattr("nagraph.backends.cache.folder", lambda: tmp_path / "compiled")
    graph = ng.trace(lambda x: x * 2, X)
    own = ng.compile(graph, backend="cuda", target="sm_90")
    ((name, schedule),) = own.schedules.items()
    given = {name: dataclasses.replace(schedule, points=64)}
    other, again = (ng.compile(graph, backend="cuda", target="sm_90", schedules=given) for _ in range(2))
    assert not other.loaded and again.loaded and again.schedules == given, "what explains a loaded program has its schedules"
    assert not ng.compile(graph, backend="cuda", target="sm_90", tf32=True).loaded
