"""The functions of ops that rules and operators read by name: every name that is used is registered."""

import ast
import pathlib
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
