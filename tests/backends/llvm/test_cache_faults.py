"""A cache folder in which anything may stand: programs are then made anew, at once and with the same results."""

import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends import cache
from nagraph.backends.llvm.program import functions
from tests.support import forget_kernels, within

X = np.linspace(-1, 1, 60, dtype=np.float32).reshape(5, 12)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the folder is set as Linux has it")


def made(count: int = 1):
    """Executables of programs that share some kernels; nothing of them is known to this process."""
    functions._KNOWN.clear()
    functions._CODES.clear()
    return [ng.jit(lambda x, c=c: np.tanh(x @ x.T) * c + np.exp(x).sum(), backend="llvm").lower(X).executable for c in range(1, count + 1)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An own folder, in which nobody waits for long, and an own memory of what is compiled."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "compiled")
    forget_kernels(monkeypatch)
    with within(100):
        yield tmp_path / "compiled"


def loop(file):
    file.symlink_to(file.name)


def full(file):
    (file / "inside").mkdir(parents=True)


OBJECTS = {
    "pipe": os.mkfifo, "folder": os.mkdir, "folder that is not empty": full, "loop of links": loop,
    "link to nothing": lambda f: f.symlink_to("nowhere"), "link to a device": lambda f: f.symlink_to("/dev/zero"),
    "link to a terminal": lambda f: f.symlink_to("/dev/tty"), "nothing": lambda f: None, "empty": lambda f: f.touch(),
    "larger than memory": lambda f: (f.touch(), os.truncate(f, 1 << 43)),
}


@pytest.mark.parametrize("put", OBJECTS.values(), ids=OBJECTS)
def test_anything_in_the_place_of_a_file(folder, put):
    wanted = made()[0](X)
    for file in cache.entries():
        file.unlink()
        put(file)
    for _ in range(2):
        np.testing.assert_array_equal(made()[0](X)[0], wanted[0])
    cache.clear()
    assert not cache.entries()


@pytest.mark.parametrize("kind", ["program", "kernel", None])
def test_a_whole_file_under_the_name_of_another_is_made_anew(folder, kind):
    """As a sync or a restored backup leaves it; then it is right again."""
    wanted = [e(X)[0] for e in made(3)]
    files = cache.entries(*([kind] if kind else ()))
    contents = [f.read_bytes() for f in files]
    for file, content in zip(files, contents[1:] + contents[:1]):
        file.write_bytes(content)
    for result, e in zip(wanted, made(3), strict=True):
        assert not e.loaded or kind == "kernel"
        np.testing.assert_array_equal(e(X)[0], result)
    assert [f.read_bytes() for f in files] == contents
    assert all(e.loaded for e in made(3))


def test_a_file_of_another_folder_with_its_name_for_another_kind(folder):
    made()
    (program,) = cache.entries("program")
    renamed = program.with_suffix(".kernel")
    renamed.write_bytes(program.read_bytes())
    assert cache.load("kernel", program.stem) is None and not renamed.exists()
    assert cache.load("program", program.stem) is not None


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A byte changed, a part cut out, doubled, or put in from elsewhere."""
    i, j = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice([content[:i], content[:i] + content[j:], content[:j] + content[i:], content[i:],
                       content[:i] + rng.randbytes(j - i or 1) + content[j:],
                       content[:i] + bytes([content[i - 1] ^ 1 << rng.randrange(8)]) + content[i + 1:]])


@pytest.mark.parametrize("seed", range(12))
def test_random_damage(folder, seed):
    rng, wanted = random.Random(seed), made()[0](X)[0]
    for file in cache.entries():
        file.write_bytes(damaged(file.read_bytes(), rng))
    np.testing.assert_array_equal(made()[0](X)[0], wanted)
    assert made()[0].loaded


@pytest.mark.parametrize("disk", [b"no space", b"no folder", b"a pipe in place of the folder"])
def test_a_folder_that_takes_nothing(folder, monkeypatch, disk):
    if disk == b"no space":
        def no_space(*_, **__):
            raise OSError(28, "No space left on device")
        monkeypatch.setattr(cache.os, "replace", no_space)
    elif disk == b"no folder":
        folder.write_text("a file")
    else:
        os.mkfifo(folder)
    assert float(made()[0](X)[0].sum()) == float(made()[0](X)[0].sum())
    assert not folder.is_dir() or not list(folder.iterdir())


HOMES = {
    "no home": {"HOME": None}, "relative": {"HOME": "here"}, "not there": {"HOME": "/nonexistent/home"},
    "not to be written": {"HOME": "/proc/1"}, "a file": {"HOME": "/etc/passwd"},
    "relative cache": {"HOME": None, "XDG_CACHE_HOME": "cache"},
}
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
USE = "import numpy as np, nagraph as ng; print(float(ng.jit(lambda x: (x @ x).sum(), backend='llvm')(np.eye(30))))"
COMMAND = "from nagraph.cli import main; main(['cache'])"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another user can't be tried")
@pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
def test_a_user_without_a_home(home, tmp_path):
    """A container's user: no entry in the list of users, and HOME is what it may be. It reads the sources with root's rights."""
    environment = {k: v for k, v in {**ENVIRONMENT, "XDG_CACHE_HOME": None, **home}.items() if v is not None}
    done = subprocess.run([sys.executable, "-c", f"import os; os.setresuid(54321, 0, 0); {USE}; {COMMAND}"], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and not done.stderr and done.stdout.startswith("30.0\n") and done.stdout.count("\n") > 1, done
    assert not list(pathlib.Path(tmp_path).iterdir())


def test_a_relative_folder_of_the_environment_counts_for_nothing(tmp_path):
    """As the standard for such folders says: else each folder in which one works would have a cache."""
    subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, check=True, timeout=100,
                   env={**ENVIRONMENT, "XDG_CACHE_HOME": "cache", "HOME": str(tmp_path / "home")})
    assert [p.name for p in tmp_path.iterdir()] == ["home"]
