"""The cache: what is whole is used, what is damaged is made anew, and writers don't disturb one another."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from nagraph.backends import cache
from nagraph.backends.llvm.native import files
from nagraph.backends.llvm.program import functions
from tests.support import forget_kernels

ABOUT, DATA = {"units": 3, "text": "define void @f() { ret void }"}, bytes(range(256)) * 5
NAME = "0123"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "compiled")
    return tmp_path / "compiled"


def test_what_was_stored_is_found(folder):
    assert cache.load("kernel", NAME) is None
    cache.store("kernel", NAME, ABOUT, [DATA[:100], DATA[100:]])
    assert cache.load("kernel", NAME) == (ABOUT, DATA)
    assert cache.load("kernel", "0124") is None and cache.load("program", NAME) is None
    assert len(cache.entries()) == len(cache.entries("kernel")) == 1 and not cache.entries("program")
    assert cache.clear() == 1 and cache.load("kernel", NAME) is None


def test_the_folder_is_the_users_own(folder):
    cache.store("kernel", NAME, ABOUT, [DATA])
    assert folder.stat().st_mode & 0o077 == 0 or os.name == "nt"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:], lambda b: b + b"x",
                                    lambda b: b"nagraph cache 1\n" + b[16:]])
def test_damaged_files_are_nothing(folder, damage):
    cache.store("kernel", NAME, ABOUT, [DATA])
    (file,) = cache.entries()
    file.write_bytes(damage(file.read_bytes()))
    assert cache.load("kernel", NAME) is None
    cache.store("kernel", NAME, ABOUT, [DATA])
    assert cache.load("kernel", NAME) == (ABOUT, DATA)


def test_another_cpu_another_version_another_source_have_files_of_their_own(monkeypatch):
    native, others = ("program", "kernel", "winner", "routine"), ("cuda", "cubin", "on_cpu")
    assert {*native, *others} == set(cache.KINDS)

    def names():
        cache.maker.cache_clear()
        files._machine.cache_clear()
        return {*(files.digest(kind, "key") for kind in native), *(cache.digest(kind, "key") for kind in others)}

    first = names()
    assert len(first) == len(cache.KINDS)
    monkeypatch.setattr(files, "cpu", lambda: ("another", ""))
    second = names()
    assert len(second & first) == len(others), "code for a GPU is the same whatever the CPU"
    monkeypatch.setattr(cache.np, "__version__", "0.0")
    third = names()
    assert not third & (first | second)
    read = pathlib.Path.read_bytes
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda f: read(f) + b"#" * (f.name == "fuse.py"))
    assert len(names() - third) == 2, "a pass decides over programs alone"
    monkeypatch.undo()
    assert names() == first


def test_a_folder_that_can_not_be_made_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "file" / "compiled")
    cache.store("kernel", NAME, ABOUT, [DATA])
    assert cache.load("kernel", NAME) is None and cache.entries() == []


def test_it_can_be_turned_off(folder, monkeypatch):
    cache.store("kernel", NAME, ABOUT, [DATA])
    monkeypatch.setenv("NAGRAPH_CACHE", "off")
    cache.store("kernel", "0124", ABOUT, [DATA])
    assert cache.load("kernel", NAME) is None and len(cache.entries()) == 1


USE = """
import numpy as np, nagraph as ng
print(ng.jit(lambda x, w: np.tanh(x @ w).sum(), backend="llvm", threads=1)(np.eye(40), np.eye(40)))
"""


def run(folder: pathlib.Path) -> subprocess.Popen:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
    return subprocess.Popen([sys.executable, "-c", USE], stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is set as Linux has it")
def test_many_processes_write_at_once_and_some_are_killed(tmp_path):
    killed = [run(tmp_path) for _ in range(3)]
    others = [run(tmp_path) for _ in range(4)]
    for k in killed:
        k.send_signal(signal.SIGKILL)
    wanted = others[0].communicate(timeout=100)[0]
    assert float(wanted) == pytest.approx(40 * np.tanh(1.0), rel=1e-14)
    assert [p.communicate(timeout=100)[0] for p in others[1:]] == [wanted] * 3
    for k in killed:
        k.communicate()
    assert run(tmp_path).communicate(timeout=100)[0] == wanted
    assert list((tmp_path / "nagraph" / "compiled").glob("*.kernel"))


def test_kernels_of_another_program_are_not_compiled_again(folder, monkeypatch):
    import nagraph as ng
    from nagraph.backends.llvm.executable import compile

    graph = ng.trace(lambda x: np.exp(x) * 3.25, ng.spec((5, 7), "f8"))
    x = np.linspace(0, 1, 35).reshape(5, 7)
    forget_kernels(monkeypatch)
    first = compile(graph)(x)
    forget_kernels(monkeypatch)
    monkeypatch.setattr(functions, "object_code", lambda text: pytest.fail("compiled again"))
    np.testing.assert_array_equal(compile(graph)(x)[0], first[0])
