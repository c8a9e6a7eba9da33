"""docs/mps.md says which ops are one call of MLX as the rules have it."""

from __future__ import annotations

from tests.mps import page
from tests.mps.ways import op_by_op  # noqa: F401 - a fixture for all tests here


def test_the_table_of_ops_is_that_of_the_rules():
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.op_table() == text.partition("<!-- ops -->\n")[2].partition("\n<!-- end -->")[0], "python -m tests.mps.page writes it anew"
