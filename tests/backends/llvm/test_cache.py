"""The kernel cache: what is whole is used, what is damaged is compiled anew, and writers don't disturb one another."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from nagraph.backends.llvm import cache, functions
from nagraph.backends.llvm.emit import Emitted

ENTRY = cache.Entry(Emitted(3, 64, 2.5), "define void @f() { ret void }", bytes(range(256)) * 5)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "kernels")
    return tmp_path / "kernels"


def test_what_was_stored_is_found(folder):
    assert cache.load("key") is None
    cache.store("key", ENTRY)
    assert cache.load("key") == ENTRY and cache.load("other") is None
    assert len(cache.entries()) == 1 and cache.clear() == 1 and cache.load("key") is None


def test_the_folder_is_the_users_own(folder):
    cache.store("key", ENTRY)
    assert folder.stat().st_mode & 0o077 == 0 or os.name == "nt"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:], lambda b: b + b"x",
                                    lambda b: b"nagraph kernel 0\n" + b[17:]])
def test_damaged_files_are_nothing(folder, damage):
    cache.store("key", ENTRY)
    (file,) = cache.entries()
    file.write_bytes(damage(file.read_bytes()))
    assert cache.load("key") is None
    cache.store("key", ENTRY)
    assert cache.load("key") == ENTRY


def test_another_cpu_or_version_has_files_of_its_own(folder, monkeypatch):
    cache.store("key", ENTRY)
    monkeypatch.setattr(cache, "generator", lambda: "another")
    assert cache.load("key") is None


def test_a_folder_that_can_not_be_made_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "file" / "kernels")
    cache.store("key", ENTRY)
    assert cache.load("key") is None and cache.entries() == []


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
    assert list((tmp_path / "nagraph" / "kernels").glob("*.kernel"))


def test_a_second_process_compiles_nothing(folder, monkeypatch):
    import nagraph as ng
    from nagraph.backends.llvm import compile

    graph = ng.trace(lambda x: np.exp(x) * 3.25, ng.spec((5, 7), "f8"))
    x = np.linspace(0, 1, 35).reshape(5, 7)
    monkeypatch.setattr(functions, "_KNOWN", {})
    first = compile(graph)(x)
    monkeypatch.setattr(functions, "_KNOWN", {})
    monkeypatch.setattr(functions, "object_code", lambda text: pytest.fail("compiled again"))
    np.testing.assert_array_equal(compile(graph)(x)[0], first[0])
