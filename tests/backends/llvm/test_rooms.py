"""The rooms of the LLVM backend build on one another in the order in which the package lists them."""

from __future__ import annotations

import pathlib
import re

import nagraph.backends.llvm as llvm
from tests.test_repository import all_imports

PACKAGE = llvm.__name__
#: The rooms as the package's docstring lists them, and the module that puts them together.
ORDER = [*re.findall(r"^    (\w+)  +\S", llvm.__doc__ or "", re.M), "executable", "backend"]


def room(name: str) -> str:
    return name.removeprefix(f"{PACKAGE}.").partition(".")[0]


def test_every_room_is_listed() -> None:
    folders = {p.name for p in pathlib.Path(llvm.__file__).parent.iterdir() if (p / "__init__.py").exists()}
    assert set(ORDER) == folders | {"executable", "backend"}


def test_a_room_imports_those_before_it_alone() -> None:
    own = [i for i in all_imports() if i.importer.startswith(f"{PACKAGE}.") and i.imported.startswith(f"{PACKAGE}.")]
    assert len(own) > 100
    wrong = [f"{i.importer}, line {i.line}, imports {i.imported}" for i in own
             if ORDER.index(room(i.imported)) > ORDER.index(room(i.importer))]
    assert not wrong, "\n".join(wrong)
