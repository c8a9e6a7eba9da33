"""The layers of `nagraph/ops`, and the functions of later layers, which rules and operators read by name."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import nagraph.ops  # noqa: F401 - registers them
from nagraph.ir.operators import functions

ROOT = pathlib.Path(__file__).resolve().parents[2]


def names_used():
    """Where `functions.name` of `nagraph.ir.operators` stands: (file, line, name)."""
    for folder in ("nagraph", "passes", "backends", "models"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.is_relative_to(ROOT / "nagraph" / "ir") and path.name == "operators.py" or "ir.operators import functions" in text:
                for node in ast.walk(ast.parse(text)):
                    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "functions":
                        yield path.relative_to(ROOT), node.lineno, node.attr


def test_every_name_that_is_used_is_registered():
    used = [u for u in names_used() if u[2] != "register"]
    assert {"add", "reshape", "index"} <= {name for _, _, name in used}
    assert not [u for u in used if u[2] not in vars(functions)]


def test_nothing_is_registered_that_nobody_uses():
    assert not set(vars(functions)) - {name for _, _, name in names_used()}


def test_an_unknown_name_is_an_error_that_says_what_to_do():
    with pytest.raises(AttributeError, match=r"no function 'nonsense' of an op is registered.*functions.register\(nonsense=nonsense\)"):
        functions.nonsense(1)


def test_the_graph_form_registers_none():
    code = "import nagraph.ir, nagraph.ir.parser, nagraph.ir.verify\nfrom nagraph.ir.operators import functions\nassert not vars(functions)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_files_import_from_layers_before_them_and_at_the_top():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)`", re.search(r"The files of `nagraph/ops` are layers.*?\n\n(.*?)\n\n", text, re.S)[1])
    assert listed[0] == "operands" and len(listed) > 15
    for path in (ROOT / "nagraph" / "ops").glob("*.py"):
        before = listed[:listed.index(path.stem)] if path.stem in listed else None
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {n: n.module.split(".") for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("nagraph.")}
        top = [n for statement in tree.body for n in (statement.body if isinstance(statement, ast.If) else [statement])]
        assert set(found) <= set(top), f"{path.stem} imports inside a function"
        imported = {name[2] for name in found.values() if name[1] == "ops" and len(name) > 2}
        assert before is None or imported - {"numerics"} <= set(before), f"{path.stem} imports {imported - set(before)}"
