"""The rules of the house: what is installed, who imports whom, what loads when, and how long a file may be."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import nagraph

ROOT = pathlib.Path(__file__).resolve().parents[1]
#: Folders of the package, and the import name of each.
FOLDERS = {"nagraph": "nagraph", "passes": "nagraph.passes", "backends": "nagraph.backends", "models": "nagraph.models"}
LINKS = ("passes", "backends", "models")
TOP = {"pyproject.toml", "README.md", "LICENSE", "nagraph", "passes", "backends", "models", "tests", "docs"}
MOST_LINES = 450
MOST_LATE_IMPORTS = 12

#: Who imports modules by names that only the run knows, and from which package.
BY_NAME = {"": "", "thresholds": "", "backends": "backends", "pipeline": "passes", "models": "models", "cli": "cli",
           "onnx": "onnx.operators", "export": "export"}
#: Packages of others at module level, and inside functions, and who may import them.
PACKAGES = {"numpy": ("",), "ml_dtypes": ("ir", "testing", "onnx"), "llvmlite": ("backends.llvm",), "click": ("cli",), "rich": ("cli",)}
LATE_PACKAGES = {
    "llvmlite": ("backends.host",), "cupy": ("backends.cuda",), "cupy_backends": ("backends.cuda",), "mlx": ("backends.mps",),
    "safetensors": ("storage",), "matplotlib": ("cli",), "torch": ("cli.peers",),
    "jax": ("cli.peers", "export.to_stablehlo"), "jaxlib": ("export.to_stablehlo",),
    "onnx": ("onnx", "export.to_onnx"), "google": ("onnx",), "onnxruntime": ("cli.peers", "export.to_onnx"),
    "sklearn": ("models.data",), "PIL": ("models.data",), "tokenizers": ("models.data",), "tensorboardX": ("models.training",),
}
#: Packages whose distribution has another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "cupy": "cupy-cuda13x", "cupy_backends": "cupy-cuda13x",
                 "google": "protobuf"}
#: What unpickles, which is to run what a file says.
PICKLES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dbm", "dill", "cloudpickle", "joblib", "copyreg"}
#: What `import nagraph` must not load.
HEAVY = ("llvmlite", "mlx", "networkx", "click", "rich", "matplotlib", "safetensors", "torch", "jax", "nagraph.models", "nagraph.nn",
         "nagraph.optim", "nagraph.rewrite", "nagraph.cli", "nagraph.passes", "nagraph.backends", "nagraph.pipeline")


def tables() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """What docs/architecture.md says of who may import whom, at module level and inside functions as well; `ng` is "", the public face."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in text.partition("| who | imports |")[2].partition("\n\n")[0].splitlines()[2:]]
    named = [[tuple("" if name == "ng" else name for name in re.findall(r"`([\w.]+)`", cell)) for cell in row] for row in rows]
    return {who: early for (who,), early, _ in named}, {who: late for (who,), _, late in named if late}


#: Names below `nagraph`, each with all that is inside it; the longest name counts.
RULES, LATE = tables()


class Import(NamedTuple):
    """Who imports what (full names), on which line; whether inside a function or for type checkers alone, and whether the latter."""

    importer: str
    imported: str
    line: int
    late: bool
    types_only: bool


def modules() -> dict[str, pathlib.Path]:
    """Import name and file of every module on disk."""
    found = {}
    for folder, name in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            if folder == "nagraph" and inside.parts[0] in LINKS:
                continue
            found[".".join([name, *inside.with_suffix("").parts]).removesuffix(".__init__")] = path
    return found


@functools.cache
def syntax(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _inside(node: ast.AST, late: bool = False, types_only: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    """Every node below, whether it is inside a function or for type checkers alone, and whether it is the latter."""
    for child in ast.iter_child_nodes(node):
        yield child, late or types_only, types_only
        yield from _inside(child, late or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)),
                           types_only or isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")


def imports(name: str, tree: ast.Module, known: dict[str, pathlib.Path]) -> Iterator[Import]:
    """The imports of a module; `from a import b` is an import of a.b where that is a module."""
    for node, late, types_only in _inside(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno, late, types_only)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}, line {node.lineno}: imports are absolute here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield Import(name, full if full in known else str(node.module), node.lineno, late, types_only)


@functools.cache
def all_imports() -> tuple[Import, ...]:
    known = modules()
    return tuple(i for name, path in known.items() for i in imports(name, syntax(path), known))


def short(name: str) -> str:
    """The name below nagraph."""
    return name.removeprefix("nagraph").removeprefix(".")


def within(name: str, layer: str) -> bool:
    return name == layer or layer != "" and name.startswith(f"{layer}.")


def layer_of(name: str, table: dict[str, tuple[str, ...]]) -> str:
    """The longest name in the table that `name` is, or lies in."""
    return max((layer for layer in table if within(name, layer)), key=len, default="")


def may_import(i: Import) -> bool:
    who, whom = short(i.importer), short(i.imported)
    rule = layer_of(who, RULES)
    allowed = ("errors", "choices", "sanitizing", rule, *RULES[rule])
    allowed += (rule.partition(".")[0],) if rule else ()
    if i.late:
        allowed += (*LATE.get(layer_of(who, LATE), ()), *LATE.get(who, ()))
    return any(within(whom, layer) for layer in allowed)


def report(offenders: list[str]) -> None:
    assert not offenders, "\n".join(["", *offenders])


# -- what is installed ------------------------------------------------------------------------------------


@functools.cache
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_pyproject_lists_the_packages_on_disk() -> None:
    on_disk = {name for name, path in modules().items() if path.name == "__init__.py"}
    listed = pyproject()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(on_disk)
    assert {folder: name for name, folder in pyproject()["tool"]["setuptools"]["package-dir"].items()} == FOLDERS


def test_every_folder_with_modules_is_a_package() -> None:
    report([f"{path.parent.relative_to(ROOT)} has modules but no __init__.py" for path in modules().values()
            if not (path.parent / "__init__.py").exists()])


@pytest.mark.parametrize("name", LINKS)
def test_links_show_the_folders_under_their_import_names(name: str) -> None:
    link = ROOT / "nagraph" / name
    assert link.is_symlink() and str(link.readlink()) == f"../{name}"
    assert link.resolve() == ROOT / name


def test_the_top_level_is_the_agreed_one() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git, or no checkout of it")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    top = {path.partition("/")[0] for path in listed if path}
    assert {name for name in top if not name.startswith(".")} == TOP


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel, built from a copy so that the checkout stays clean."""
    source = tmp_path_factory.mktemp("source")
    for name in TOP - {"tests", "docs"}:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    (source / "tests").mkdir()
    (source / "tests" / "test_nothing.py").touch()
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_holds_the_package_alone_and_whole(wheel: pathlib.Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = [n for n in file.namelist() if not n.endswith("/")]
        metadata = file.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()
        scripts = file.read(next(n for n in names if n.endswith("/entry_points.txt"))).decode()
    assert len(names) == len(set(names))
    tops = {n.partition("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"nagraph"} and len(tops) == 2
    expected = set()
    for name, path in modules().items():
        base = name.replace(".", "/")
        expected.add(f"{base}/__init__.py" if path.name == "__init__.py" else f"{base}.py")
    expected |= {f"nagraph/{path.relative_to(ROOT)}" for path in (ROOT / "backends").rglob("headers/*.h")}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "nagraph" / "export").rglob("*.*")
                 if path.suffix not in (".py", ".pyc")}
    expected |= {f"nagraph/{path.relative_to(ROOT)}" for path in (ROOT / "backends/gpu/on_cpu").iterdir()
                 if path.is_file() and path.suffix != ".py"}
    installed = {n for n in names if n.startswith("nagraph/")}
    assert installed == expected
    assert not [n for n in names if n.startswith("tests") or "/tests/" in n]
    assert f"\nVersion: {nagraph.__version__}\n" in metadata and "License-Expression: MIT" in metadata
    assert "nagraph = nagraph.cli:main" in scripts


def test_the_wheel_works_where_there_is_no_checkout(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = f"""
import importlib, sys
sys.path[0] = {str(tmp_path / "site")!r}
for name in {sorted(modules())!r}:
    if name != "nagraph.__main__":
        module = importlib.import_module(name)
        assert module.__file__.startswith(sys.path[0]), module.__file__
import numpy as np
import nagraph as ng
assert ng.jit(lambda x: np.tanh(x) * 2)(np.zeros(3)).tolist() == [0, 0, 0]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_packages_that_are_imported_are_declared() -> None:
    declared = {re.split(r"[^\w-]", d)[0].replace("-", "_") for d in pyproject()["project"]["dependencies"]}
    extras = pyproject()["project"]["optional-dependencies"]
    named = ("cuda", "mps", "plot", "data", "text", "logs", "onnx", "oracles")
    optional = {re.split(r"[^\w-]", d)[0] for name in named for d in extras[name]}
    assert set(PACKAGES) <= declared and {DISTRIBUTIONS.get(p, p) for p in LATE_PACKAGES} <= declared | optional
    needed = set(pyproject()["build-system"]["requires"])
    assert needed <= set(pyproject()["project"]["optional-dependencies"]["test"]), "a wheel is built without isolation here"


# -- who imports whom -------------------------------------------------------------------------------------


def test_layers() -> None:
    own = [i for i in all_imports() if within(i.imported, "nagraph")]
    assert len(own) > 300
    rule = {name: layer_of(short(name), RULES) for name in modules()}
    report([f"{i.importer}, line {i.line}, imports {i.imported}{' inside a function' if i.late else ''}: "
            f"{rule[i.importer]!r} may import {RULES[rule[i.importer]] or 'nothing'}" for i in own if not may_import(i)])


@pytest.mark.parametrize("text, name, good", [
    ("import nagraph.ops.base", "nagraph.ir.graph", False),
    ("from nagraph import ops", "nagraph.ir.graph", False),
    ("from nagraph.passes import cse", "nagraph.backends.numpy.program", False),
    ("from nagraph.kernel.lower import lower", "nagraph.passes.split", False),
    ("from nagraph.plan.planner import make_plan", "nagraph.passes.fuse", False),
    ("from nagraph.plan.planner import make_plan", "nagraph.fusion.groups", False),
    ("def f():\n  from nagraph.passes import cse", "nagraph.backends.numpy.program", False),
    ("from nagraph.backends.numpy import compile", "nagraph.passes.fuse", False),
    ("from nagraph.transforms.reverse import pullback", "nagraph.ops.norm", False),
    ("from nagraph.transforms.reverse import pullback", "nagraph.regions.calls", True),
    ("from nagraph.compiler.compilation import compile", "nagraph.transforms.eager", False),
    ("def f():\n  from nagraph.compiler.compilation import compile", "nagraph.transforms.eager", True),
    ("from nagraph.ir.graph import Graph", "nagraph.models.gpt2", False),
    ("from nagraph.ir.graph import Graph", "nagraph.nn.layers", False),
    ("from nagraph.composites.softmax import softmax", "nagraph.nn.functional", True),
    ("from nagraph.composites.softmax import softmax", "nagraph.nn.layers", False),
    ("import nagraph as ng", "nagraph.nn.layers", True),
    ("import nagraph as ng", "nagraph.ops.base", False),
    ("from nagraph.ops.base import op", "nagraph.ops.bits", True),
])
def test_the_rules_tell_good_from_bad(text: str, name: str, good: bool) -> None:
    (found,) = imports(name, ast.parse(text), modules())
    assert may_import(found) is good


def test_no_rule_is_left_over() -> None:
    """Every exception in the tables is one that some module makes use of, and every module has a rule of its own."""
    known = {short(name) for name in modules()}
    report([f"{layer} is no module" for layer in (*RULES, *LATE, *BY_NAME) if layer not in known])
    report([f"{name} has no rule" for name in known if name and not layer_of(name, RULES)])
    for table, late in ((RULES, False), (LATE, True)):
        for layer, extra in table.items():
            own = [i for i in all_imports() if i.late is late and layer_of(short(i.importer), table) == layer]
            report([f"{layer!r} does not import {whom!r} any more: take it from the table" for whom in extra
                    if not any(within(i.imported, "nagraph") and within(short(i.imported), whom) for i in own)])


def test_public_names_are_all_that_layers_and_models_use() -> None:
    """`ng.name` in nn, optim, models and cli is a public name of nagraph."""
    offenders, seen = [], 0
    for name, path in modules().items():
        if layer_of(short(name), RULES).partition(".")[0] in ("nn", "optim", "models", "cli"):
            for node in ast.walk(syntax(path)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ng":
                    seen += 1
                    if node.attr not in nagraph.__all__:
                        offenders.append(f"{name}, line {node.lineno}: ng.{node.attr} is no public name")
    assert seen > 100
    report(offenders)


def test_imports_by_name_are_known() -> None:
    offenders = []
    for name, path in modules().items():
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__"):
                layer = layer_of(short(name), RULES).partition(".")[0]
                prefix = f"nagraph.{BY_NAME[layer]}." if BY_NAME.get(layer) else "nagraph."
                if layer == "forks" or name == "nagraph.cli.targets":  # which wait for what others import, or import what the user names
                    continue
                if layer not in BY_NAME or not ast.unparse(node.args[0]).strip("f'\"").startswith(prefix):
                    offenders.append(f"{name}, line {node.lineno}: {ast.unparse(node)}")
    report(offenders)


def test_no_circles() -> None:
    """Between files, be an import at the top or inside a function."""
    known = modules()
    graph: dict[str, list[str]] = {name: [] for name in known}
    for i in all_imports():
        if i.imported in known and i.imported not in (i.importer, "nagraph") and not i.types_only:
            graph[i.importer].append(i.imported)
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            report([" imports ".join([*way[way.index(name):], name])])
        if name not in done:
            for other in graph[name]:
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    assert len(done) == len(known)


def test_imports_stand_at_the_top() -> None:
    """Inside functions there are few, each for what many programs do without."""
    late = [f"{i.importer}, line {i.line}, imports {i.imported}" for i in all_imports()
            if i.late and not i.types_only and within(i.imported, "nagraph")]
    if len(late) > MOST_LATE_IMPORTS:
        report(late)


def test_no_submodule_hides_a_function() -> None:
    """Once every module is imported, what a package offered as a function is none of its submodules, and still there."""
    code = f"""
import importlib, types
import nagraph
offered = {{name: getattr(nagraph, name) for name in nagraph.__all__}}
packages = {sorted(name for name, path in modules().items() if path.name == "__init__.py")!r}
before = {{p: {{k: v for k, v in vars(importlib.import_module(p)).items() if callable(v)}} for p in packages}}
for name in {sorted(modules())!r}:
    if name != "nagraph.__main__":
        importlib.import_module(name)
for name, value in offered.items():
    assert getattr(nagraph, name) is value, name
for package, functions in before.items():
    for name, value in functions.items():
        assert getattr(importlib.import_module(package), name) is value, (package, name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_packages_of_others_stay_where_they_are_used() -> None:
    offenders = []
    for i in all_imports():
        package = i.imported.partition(".")[0]
        if package == "nagraph" or package in sys.stdlib_module_names:
            continue
        places = (*PACKAGES.get(package, ()), *(LATE_PACKAGES.get(package, ()) if i.late else ()))
        if not any(place == "" or within(short(i.importer), place) for place in places):
            offenders.append(f"{i.importer}, line {i.line}, imports {package}{' inside a function' if i.late else ''}")
    report(offenders)


def test_no_pickle() -> None:
    offenders = [f"{i.importer}, line {i.line}, imports {i.imported}" for i in all_imports() if i.imported.partition(".")[0] in PICKLES]
    for name, path in modules().items():
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" or (
                    isinstance(node, ast.Attribute) and ast.unparse(node) in ("np.load", "np.save", "np.fromfile", "numpy.load")):
                offenders.append(f"{name}, line {getattr(node, 'lineno', '?')}: {ast.unparse(node)}")
    report(offenders)


# -- what loads when --------------------------------------------------------------------------------------


def loaded_after(code: str) -> set[str]:
    """The modules that a new interpreter has loaded after running the code."""
    done = subprocess.run([sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"], cwd=ROOT,
                          capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_nagraph_loads_nothing_else() -> None:
    loaded = loaded_after("import nagraph")
    report([f"import nagraph loads {m}" for m in sorted(loaded) if any(within(m, heavy) for heavy in HEAVY)])
    assert "nagraph" in loaded


def test_compiling_loads_passes_and_no_layers() -> None:
    loaded = loaded_after("import nagraph as ng, numpy as np; ng.jit(ng.grad(lambda x: np.tanh(x).sum()))(np.ones(3))")
    assert {"nagraph.passes.simplify", "nagraph.rewrite.rules", "nagraph.backends.llvm"} <= loaded
    libraries = ("networkx", "click", "rich", "matplotlib", "safetensors")
    unwanted = (*libraries, *(f"nagraph.{part}" for part in ("backends.numpy", "models", "nn", "optim", "cli")))
    report([f"jit loads {m}" for m in sorted(loaded) if any(within(m, name) for name in unwanted)])


@pytest.mark.parametrize("command", ["--help", "eval", "generate", "inspect", "profile", "bench", "opt", "fuzz", "cache", "info"])
def test_commands_load_what_they_need(command: str) -> None:
    """Help comes without what a command needs when it runs."""
    loaded = loaded_after(f"import nagraph.cli\ntry:\n  nagraph.cli.cli.main([{command!r}, '--help'], standalone_mode=False)\n"
                          "except SystemExit: pass")
    assert "click" in loaded
    report([f"nagraph {command} --help loads {m}" for m in sorted(loaded)
            if any(within(m, name) for name in ("matplotlib", "networkx", "llvmlite", "numpy", "rich", "nagraph.models", "nagraph.nn"))])


def test_public_names_resolve() -> None:
    missing = []
    for name in nagraph.__all__:
        try:
            getattr(nagraph, name)
        except (AttributeError, ImportError) as error:
            missing.append(f"ng.{name}: {error}")
    report(missing)
    assert set(nagraph.__all__) <= set(dir(nagraph))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nagraph.nonsense


# -- how long a file may be -------------------------------------------------------------------------------


def test_files_are_short() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    report([f"{name} has {n} lines; at most {MOST_LINES}" for name, n in lengths.items() if n > MOST_LINES])


def test_every_module_says_what_it_is() -> None:
    report([f"{name} has no docstring" for name, path in modules().items() if not ast.get_docstring(syntax(path))])
