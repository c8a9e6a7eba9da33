"""Compiling for devices that are not there: text, PTX, registers, occupancy on any machine with NVRTC; programs from the cache."""

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends import cache
from nagraph.backends.cuda import nvrtc
from nagraph.backends.cuda.driver import Built, Function
from nagraph.backends.cuda.moves import Helper
from nagraph.backends.cuda.resources import Resources
from nagraph.errors import DeviceError, InternalError, SignatureError
from tests.cli.running import run

needs_nvrtc = pytest.mark.skipif(bool(nvrtc.missing()), reason="NVRTC is not installed")
GRAPH = ng.trace(lambda x, w: (np.tanh(x @ w), np.sort(x, axis=1), np.exp(x).sum()), ng.spec((8, 6)), ng.spec((6, 4)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "compiled")
    return tmp_path / "compiled"


@needs_nvrtc
def test_a_graph_is_compiled_without_a_device_once(folder, monkeypatch):
    exe = ng.compile(GRAPH, backend="cuda", target="sm_90")
    assert exe.architecture == "sm_90" and not exe.loaded
    assert "__global__" in exe.source("cuda") and "tanh" in exe.source("kernel")
    assert exe.source("schedule").count("schedule {") == len(exe.schedules) and len(exe.kernels) == 3
    assert exe.source("ptx").count(".visible .entry") == len(exe.resources) == exe.source("cuda").count("__global__") >= 3
    assert all(r.registers > 4 and r.spilled_nbytes == 0 and 0 < r.occupancy <= 1 for r in exe.resources)
    monkeypatch.setattr(nvrtc, "_compiled", lambda *a: pytest.fail("compiled again"))
    again = ng.compile(GRAPH, backend="cuda", target="sm_90")
    assert again.loaded and again.resources == exe.resources and again.arena_nbytes == exe.arena_nbytes
    one, other = exe.calls.image, again.calls.image
    assert one._replace(constants=()) == other._replace(constants=()) and all(
        (a == b).all() and a.dtype == b.dtype for a, b in zip(one.constants, other.constants, strict=True))
    with pytest.raises(DeviceError, match="."):
        exe(np.ones((8, 6), np.float32), np.ones((6, 4), np.float32))


@needs_nvrtc
def test_architectures_have_code_of_their_own(folder):
    first, second = (ng.compile(GRAPH, backend="cuda", target=target) for target in ("sm_90", "sm_80"))
    assert ".target sm_80" in second.source("ptx") and not second.loaded
    assert {f.built.code for f in first.calls.image.functions}.isdisjoint(f.built.code for f in second.calls.image.functions)
    for target in ("sm_1", "gfx90", "", 90):
        with pytest.raises(SignatureError, match=r"backend 'cuda' has no target .*; NVRTC [\d.]+ compiles for sm_\d+, "):
            ng.compile(GRAPH, backend="cuda", target=target)


@needs_nvrtc
def test_text_that_is_refused_names_the_kernel_and_the_line():
    with pytest.raises(InternalError, match=r"refuses the text of kernel wrong:\nwrong.cu\(3\): error"):
        nvrtc.built([Helper("wrong", 'extern "C" __global__ void wrong() {\n  nothing; }')], "sm_90")


@needs_nvrtc
def test_inspect_tells_what_kernels_take_of_a_device(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    place = tmp_path / "graph.ng"
    place.write_text(str(GRAPH))
    done = run("inspect", place, "--backend", "cuda", "--target", "sm_90")
    assert "registers" in done.out and "occupancy" in done.out, done
    assert done.out.splitlines()[-1].startswith("sm_90: ") and "MB of memory" in done.out
    assert "__global__" in run("inspect", place, "--backend", "cuda", "--target", "sm_90", "--source", "cuda").out
    assert ".entry" in run("inspect", place, "--backend", "cuda", "--target", "sm_90", "--source", "ptx").out
    assert "has no target 'sm_9'" in run("inspect", place, "--backend", "cuda", "--target", "sm_9").one_sentence()


def test_without_nvrtc(monkeypatch):
    monkeypatch.setattr(nvrtc, "_library", lambda: None)
    assert nvrtc.version() == nvrtc.path() == "" and "pip install nvidia-cuda-nvrtc" in nvrtc.missing()
    with pytest.raises(DeviceError, match="backend 'cuda' can't compile here: it needs NVRTC, NVIDIA's compiler; pip install"):
        ng.compile(GRAPH, backend="cuda", target="sm_90")


@pytest.mark.parametrize("threads, registers, shared, architecture, share", [
    (256, 32, 0, "sm_90", 1.0), (256, 64, 0, "sm_90", 0.5), (1024, 33, 0, "sm_90", 0.5), (128, 32, 100 << 10, "sm_90", 0.125),
    (32, 16, 0, "sm_90", 0.5), (256, 32, 0, "sm_89", 1.0), (256, 255, 0, "sm_80", 0.125), (128, 32, 48 << 10, "sm_86", 1 / 6)])
def test_occupancy(threads, registers, shared, architecture, share):
    """By NVIDIA's occupancy calculator."""
    function = Function("f", (1, 1, 1), (threads, 1, 1), shared, 0, Built(b"", registers))
    assert Resources.of(function, 1, architecture).occupancy == pytest.approx(share)
