"""Native libraries: built by the system's compiler, called from C, C++ and Python, with the bits that executables have."""

from __future__ import annotations

import pathlib
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import nagraph as ng
import nagraph.numpy as gnp
from nagraph.export.to_native import linking
from tests.cli.running import run as command
from tests.tools import tool

RNG = np.random.default_rng(0)
DRIVER = pathlib.Path(__file__).with_name("native_driver.c")
WARNINGS = ("-Wall", "-Wextra", "-pedantic", "-Werror")

WEIGHTS = {"a": RNG.normal(size=(33, 50)).astype(np.float32), "for": RNG.normal(size=50).astype(np.float32)}
X, LABELS = RNG.normal(size=(24, 33)).astype(np.float32), RNG.integers(0, 50, 24).astype(np.int32)


def train(w, x, labels):
    """A step of a train loop: a product, its gradient, a sort, checked labels."""
    def loss(w):
        return ng.nn.losses.cross_entropy(gnp.tanh(x @ w["a"] + w["for"]), labels)

    found, slope = ng.value_and_grad(loss)(w)
    return {"loss": found, "w": ng.tree.map(lambda a, b: a - 0.1 * b, w, slope), "order": gnp.argsort(x, axis=1)}


def flow(w, x):
    """A scan with branches, and a loop whose length follows from data."""
    def step(carry, row):
        carry = ng.cond(row[0] > 0, lambda c: c * 0.5 + 1, lambda c: c - row[1], carry)
        return carry, gnp.tanh(carry).sum()

    last, sums = ng.scan(step, w["for"][:33], x)
    n, total = ng.while_loop(lambda s: s[0] < 5, lambda s: (s[0] + 1, gnp.sin(s[1]) + x.max()), (np.int32(0), last))
    return {"sums": sums.astype("f16"), "total": total, "n": n, "positive": x > 0}


def specs(tree: Any) -> Any:
    return ng.eval_shape(lambda x: x, tree)


FUNCTIONS = {"train": (ng.jit(train, donate_argnames="w"), specs((WEIGHTS, X, LABELS))), "flow": (flow, (WEIGHTS, specs(X)))}
#: What each of them is called with, and what that gives here.
ARRAYS = {"train": (WEIGHTS["a"], WEIGHTS["for"], X, LABELS), "flow": (X,)}
RESULTS: dict[str, Callable[[], Any]] = {"train": lambda: ng.jit(train)(WEIGHTS, X, LABELS), "flow": lambda: ng.jit(flow)(WEIGHTS, X)}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pathlib.Path]:
    """The folder of the library for a target, made when it is first asked for."""
    made: dict[Any, pathlib.Path] = {}

    def of(target: str, **options: Any) -> pathlib.Path:
        key = target, *options.items()
        if key not in made:
            made[key] = tmp_path_factory.mktemp("native") / "digits"
            ng.export.native(FUNCTIONS, made[key], target=target, **options)
        return made[key]

    return of


def run(*command: Any, **options: Any) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def driver(folder: pathlib.Path, place: pathlib.Path, name: str, cc: Sequence[str], *flags: str) -> pathlib.Path:
    """The driver for a function of a library, linked with its archive."""
    def sizes(arrays: Sequence[np.ndarray]) -> str:
        return "{" + ", ".join(str(a.nbytes) for a in arrays) + "}"

    out = place / name
    defined = {"FUNCTION": f"digits_{name}", "LIBRARY": "digits", "HEADER": '"digits.h"', "INPUTS": sizes(ARRAYS[name]),
               "OUTPUTS": sizes([np.asarray(x) for x in ng.tree.leaves(RESULTS[name]())])}
    run(*cc, "-std=c99", "-g", *(f"-D{k}={v}" for k, v in defined.items()), f"-I{folder}", DRIVER, folder / "libdigits.a", *flags,
        "-lm", "-lpthread", "-o", out)
    return out


def assert_bits(program: Sequence[Any], name: str, place: pathlib.Path, threads: int, calls: int = 1) -> None:
    """The program gives the bits that the function has here."""
    (place / "inputs").write_bytes(b"".join(np.ascontiguousarray(a).tobytes() for a in ARRAYS[name]))
    run(*program, threads, calls, place / "inputs", place / "outputs")
    wanted = b"".join(np.asarray(x).tobytes() for x in ng.tree.leaves(RESULTS[name]()))
    assert any(wanted) and (place / "outputs").read_bytes() == wanted


# -- bits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_library_has_the_bits_of_the_executable(name, library, tmp_path):
    program = driver(library("native"), tmp_path, name, [tool("gcc"), *WARNINGS])
    for threads, calls in ((1, 1), (2, 1), (5, 1), (3, 4)):
        assert_bits([program], name, tmp_path, threads, calls)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_valgrind_finds_nothing(name, library, tmp_path):
    program = driver(library("x86-64-v3"), tmp_path, name, [tool("gcc")])
    checked = [tool("valgrind"), "-q", "--error-exitcode=9", "--leak-check=full", "--fair-sched=yes", program]
    assert_bits(checked, name, tmp_path, 3, 2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arm64_has_the_same_bits(name, library, tmp_path):
    program = driver(library("aarch64-linux"), tmp_path, name, [tool("aarch64-linux-gnu-gcc")], "-static")
    assert_bits([tool("qemu-aarch64-static"), program], name, tmp_path, 2)


def test_a_cut_of_what_the_sweep_holds_against_executables():
    from tests.export import native_sweep

    cases = [*list(native_sweep.ops())[::30], *native_sweep.programs(5, 1)]
    assert len(cases) > 8 and not list(native_sweep.differing(cases, "native", 3))


def test_a_shared_library_for_arm64(tmp_path):
    tool("aarch64-linux-gnu-gcc")
    ng.export.native(lambda x: x * 2, tmp_path / "arm", ng.spec((5,), "f32"), target="aarch64-linux", shared=True)
    assert (tmp_path / "arm" / "libarm.so").read_bytes()[:20].endswith(b"\xb7\x00")  # the machine of an ELF file: AArch64


def test_executables_are_exported_as_they_are(tmp_path):
    exe = ng.jit(flow).lower(WEIGHTS, X).executable
    ng.export.native(exe, tmp_path / "digits", shared=False)
    text = (tmp_path / "digits" / "digits.h").read_text()
    assert "const float *x; /* f32[24][33] */" in text and "digits_run(" in text and not (tmp_path / "digits" / "libdigits.so").exists()


# -- examples ---------------------------------------------------------------------------------------------


def shown() -> str:
    """What examples print: the functions on ramps."""
    def ramp(a: np.ndarray) -> np.ndarray:
        numbers = (np.arange(a.size) % 17 / 16).astype(a.dtype) if a.dtype.kind == "f" else np.zeros(a.size, a.dtype)
        return numbers.reshape(a.shape)

    weights = {k: ramp(v) for k, v in WEIGHTS.items()}
    results = {"train": ng.jit(train)(weights, ramp(X), ramp(LABELS)), "flow": ng.jit(flow)(WEIGHTS, ramp(X))}
    rows = []
    for name, result in results.items():
        for path, x in zip(ng.tree.paths(ng.tree.flatten(result)[1], "output" if name == "train" else ""), ng.tree.leaves(result)):
            bits = np.asarray(x).view(np.uint16) if x.dtype == np.float16 else np.asarray(x)
            rows.append(" ".join([f"digits_{name}.{path.replace('.', '_')}", *(f"{float(v):.6g}" for v in bits.ravel()[:4])]))
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("embed", [True, False])
def test_examples_in_three_languages(embed, library, tmp_path):
    folder = library("native", embed=embed)
    assert (folder / "digits.safetensors").exists() is not embed
    flags = run(tool("pkg-config"), "--cflags", "--libs", folder / "digits.pc").split()
    (tmp_path / "digits.safetensors").write_bytes(b"" if embed else (folder / "digits.safetensors").read_bytes())
    wanted = shown()
    for cc, source, *more in ((tool("gcc"), "example.c", "-std=c99"), (tool("clang"), "example.c", "-std=c99"),
                              (tool("g++"), "example.cpp", "-std=c++11")):
        run(cc, *more, *WARNINGS, folder / source, *flags, "-o", tmp_path / "example")
        assert run("./example", cwd=tmp_path) == wanted
    assert run(sys.executable, "-I", folder / "example.py") == wanted


def test_a_file_of_other_weights_is_refused(library, tmp_path):
    folder = library("native", embed=False)
    flags = run(tool("pkg-config"), "--cflags", "--libs", folder / "digits.pc").split()
    run(tool("gcc"), folder / "example.c", *flags, "-o", tmp_path / "example")
    content = bytearray((folder / "digits.safetensors").read_bytes())
    content[20] ^= 1
    (tmp_path / "digits.safetensors").write_bytes(content)
    done = subprocess.run([tmp_path / "example"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "does not belong to this library" in done.stderr


# -- what is written --------------------------------------------------------------------------------------


def test_the_header_says_what_arrays_are(library):
    text = (library("native") / "digits.h").read_text()
    for line in ("    const float *w_for; /* f32[50]: w.for */", "    const int32_t *labels; /* i32[24] */",
                 "    float *output_w_a; /* f32[33][50]: output.w.a; may be the memory of the input w_a */",
                 "    bool *positive; /* bool[24][33] */", "    uint16_t *sums; /* f16[24] */", "#define DIGITS_FLOW_X_COUNT 792"):
        assert line in text, line
    assert "w_a; /* f32[33][50]: w.a */" in text and text.count("const float *w_a") == 1  # of the flow they are weights


def test_equal_weights_are_kept_once(tmp_path):
    big = {"w": RNG.normal(size=(300, 300)).astype(np.float32)}
    other = {"w": big["w"] + 1}
    sizes = []
    for second in (big, other):
        ng.export.native({"one": (lambda m, x: m["w"].sum(0) * x, (big, ng.spec((300,), "f32"))),
                          "two": (lambda m, x: m["w"].max(0) + x, (second, ng.spec((300,), "f32")))}, tmp_path / "pair", shared=False)
        sizes.append((tmp_path / "pair" / "pair.o").stat().st_size)
    assert sizes[1] - sizes[0] >= big["w"].nbytes > sizes[0] - big["w"].nbytes


def test_libraries_follow_from_what_is_exported_alone(tmp_path):
    """Names of functions may be those of ours inside."""
    for n in ("one", "two"):
        ng.export.native({"pointer": (flow, (WEIGHTS, specs(X)))}, tmp_path / n, name="set", target="x86-64-v3")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two and len(one) >= 7


def test_objects_for_macos(tmp_path):
    """They are of 64 bits for arm64, and beside what a C library has refer to nothing; entry points have macOS's names."""
    ng.export.native(flow, tmp_path / "mac", (WEIGHTS, specs(X)), target="arm64-macos")
    assert not {p.suffix for p in (tmp_path / "mac").iterdir()} & {".so", ".dylib", ".py"}
    defined, wanted = mach_symbols((tmp_path / "mac" / "mac.o").read_bytes())
    assert {"_mac_run", "_mac_run_workspace_nbytes", "_mac_pool_start"} <= defined
    assert wanted and all(re.fullmatch(r"_(pthread_\w+|clock_gettime|sched_yield|mem(cpy|set)|bzero)", s) for s in wanted), wanted


def mach_symbols(content: bytes) -> tuple[set[str], set[str]]:
    """External symbols that an object of 64 bits for arm64 defines, and those that it wants.

    Source: Apple, "OS X ABI Mach-O File Format Reference": mach_header_64, symtab_command, nlist_64.
    """
    magic, cpu, _, kind, commands, _, _, _ = struct.unpack_from("<8I", content)
    assert (magic, cpu, kind) == (0xFEEDFACF, 0x0100000C, 1)
    at, defined, wanted = 32, set(), set()
    for _ in range(commands):
        command, nbytes = struct.unpack_from("<2I", content, at)
        if command == 2:
            symbols, count, strings, _ = struct.unpack_from("<4I", content, at + 8)
            for n in range(count):
                name, type, _, _, _ = struct.unpack_from("<IBBHQ", content, symbols + 16 * n)
                begin = strings + name
                if type & 1:  # external
                    (defined if type & 0x0E else wanted).add(content[begin:content.index(b"\0", begin)].decode())
        at += nbytes
    return defined, wanted


def test_the_archive_has_an_index_of_what_the_header_declares(library):
    folder = library("native")
    declared = re.findall(r"^\w[\w ]* \*?(digits_\w+)\(", (folder / "digits.h").read_text(), re.M)
    listed = re.findall(r"^(\w+) in digits.o$", run(tool("nm"), "-s", folder / "libdigits.a"), re.M)
    assert sorted(listed) == sorted(set(declared) - {"digits_message"}) and len(listed) == 8


# -- refusals ---------------------------------------------------------------------------------------------


def refused(what: Any, args: Any = None, folder: Any = None, **options: Any) -> str:
    with pytest.raises(ng.errors.NagraphError) as caught:
        ng.export.native(what, folder or "never", args, **options)
    assert not pathlib.Path(folder or "never").exists()
    return str(caught.value)


def test_what_only_python_computes_is_refused_with_its_line(tmp_path):
    def f(x):
        ng.debug.print("x {}", x)
        return ng.scan(lambda c, r: (c + r, ng.debug.print("c {}", c)), x[0], x)[0]

    said = refused(f, ng.spec((3, 3)), tmp_path / "f")
    assert "debug.print" in said or "print" in said
    assert said.count("test_native.py:") == 2 and "only Python computes it" in said


def test_mistakes(tmp_path, monkeypatch):
    def f(x):
        return x + 1

    spec = ng.spec((3,))
    assert "sizes that are not known (n)" in refused(f, ng.spec((ng.Dim("n"),)))
    assert "did you mean x86-64-v3" in refused(f, spec, target="x86-64-v33")
    assert "ng.export.wasm" in refused(f, spec, target="wasm32")
    assert "begins the names of C functions" in refused(f, spec, name="2 pictures")
    assert "begins the names of C functions" in refused({"for": (f, spec)})
    assert "two things called never_pool_start" in refused({"pool_start": (f, spec)})
    assert "two things called never_f_inputs" in refused({"f": (f, spec), "f_inputs": (f, spec)})
    assert "pthread_create is a function of the C library" in refused({"create": (f, spec)}, name="pthread")
    assert "{name: (what, args_or_specs), ...}" in refused({"one": f})
    monkeypatch.setattr(linking.shutil, "which", lambda name: None)
    assert "shared=False" in refused(f, spec)
    monkeypatch.undo()
    monkeypatch.setenv("CC", shutil.which("false") or "false")
    assert "can't link libnever.so" in refused(f, spec)


def test_the_command(tmp_path):
    (tmp_path / "twice.ng").write_text("graph @twice(%x: f32[3]) -> (f32[3]) {\n  %0: f32[3] = add(%x, %x)\n  return %0\n}\n")
    done = command("export", tmp_path / "twice.ng", "--to", "native", "-o", tmp_path / "Twice 2", "--target", "x86-64-v2")
    assert not done.code and "libtwice_2.a" in done.out.replace("\n", ""), done
    assert "int twice_2_run(" in (tmp_path / "Twice 2" / "twice_2.h").read_text()
    done = command("export", tmp_path / "twice.ng", "--to", "native", "-o", tmp_path / "other", "--target", "x86-64-v9")
    assert "there is no target 'x86-64-v9'" in done.one_sentence()
