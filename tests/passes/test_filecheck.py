"""What each pass does to a graph in the text form: tests/filecheck/*.ng."""

import pytest
from click.testing import CliRunner

from nagraph.cli import cli
from nagraph.pipeline import pass_names
from tests.passes import filecheck


@pytest.mark.parametrize("path", filecheck.files(), ids=lambda p: p.stem)
def test_file(path):
    passes, checks = filecheck.directives(path.read_text())
    found = CliRunner().invoke(cli, ["opt", str(path), "-p", passes], catch_exceptions=False, standalone_mode=False)
    filecheck.check(found.output, checks, path.name)


@pytest.mark.parametrize("path", filecheck.files(), ids=lambda p: p.stem)
def test_without_the_pass_the_checks_fail(path):
    """A file that passes when nothing is done would test nothing."""
    _, checks = filecheck.directives(path.read_text())
    graph = path.read_text()
    plain = "\n".join(line for line in graph.splitlines() if not line.startswith("//"))
    with pytest.raises(filecheck.Mismatch):
        filecheck.check(plain, checks, path.name)


def test_every_pass_that_changes_text_has_a_file():
    """A file is named for its pass, and for what it shows of it."""
    named = {name for name in pass_names() for p in filecheck.files() if p.stem == name or p.stem.startswith(f"{name}_")}
    assert named == set(pass_names()) - {"memory"}


@pytest.mark.parametrize("checks, good", [
    ([("CHECK", "a = tanh")], True), ([("CHECK", "nothing")], False), ([("CHECK-NOT", "tanh")], False),
    ([("CHECK", "tanh"), ("CHECK-NEXT", "exp")], True), ([("CHECK", "tanh"), ("CHECK-NEXT", "return")], False),
    ([("CHECK", "{{t.nh}}"), ("CHECK-NOT", "tanh"), ("CHECK", "return")], True), ([("CHECK-COUNT-2", "tanh")], False),
    ([("CHECK", "exp"), ("CHECK", "tanh")], False),
])
def test_the_checker_itself(checks, good):
    output = "a = tanh(x)\nb = exp(a)\nreturn b"
    if good:
        filecheck.check(output, checks, "test")
    else:
        with pytest.raises(filecheck.Mismatch):
            filecheck.check(output, checks, "test")
