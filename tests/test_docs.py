"""Every Python block of README.md and docs/ runs; a text block right after one is exactly what it prints.

The blocks of a page share one namespace and are compiled as one script named for the page, so that
printed source lines are those of the code a reader would have copied into a file.
`python tests/test_docs.py` writes the text blocks anew.
"""

import contextlib
import io
import pathlib
import re
import shlex
import warnings

import click
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?P<shown>\n?```text\n(?P<text>.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def run(page):
    """(match, printed) for each Python block of a page, in order."""
    space, lines = {"__name__": "__main__"}, 0
    for match in BLOCK.finditer(page.read_text()):
        code = match["code"]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(compile("\n" * lines + code, f"{page.stem}.py", "exec"), space)  # noqa: S102
        lines += code.count("\n")
        yield match, printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_code_runs_and_prints_what_the_page_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for match, printed in run(page):
        assert printed == (match["text"] or ""), f"{page.name}: after\n{match['code']}"


def commands():
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                found = re.search(r"(?:^|/)nagraph ([^#&|]*)", line)
                if found:
                    yield pytest.param(found[1].strip(), id=f"{page.name}: nagraph {found[1].strip()}")


@pytest.mark.parametrize("text", list(commands()))
def test_commands_exist(text):
    """The command line takes every command that a page shows (they are run by the tests of the command line).

    Of a backend that is not installed it says so, by the backend's name.
    """
    from nagraph.cli import cli
    from nagraph.errors import DataError

    name, *rest = shlex.split(text)
    above = click.Context(cli, **cli.context_settings)
    command = cli.get_command(above, name)
    assert command is not None
    try:
        command.make_context(name, [*rest], above)
    except DataError as error:
        named = rest[rest.index("--backend") + 1] if "--backend" in rest else ""
        if not re.match(f"backend {named!r} can't (be used|compile) here: ", str(error)):
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_of_numpy_functions_is_complete():
    import numpy as np

    import nagraph.numpy as offered

    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", (ROOT / "docs/numpy.md").read_text(), re.MULTILINE | re.DOTALL))
    names = {title: set(re.findall(r"`(\w+)`", text)) for title, text in sections.items()}
    listed = names["Traced"] | names["Made inside a trace"]
    both = {n for n in vars(offered) if not n.startswith("_") and callable(getattr(offered, n)) and callable(getattr(np, n, None))}
    assert both <= listed
    assert listed - both == {"matmul", "norm"} - both
    assert all(hasattr(offered, n) and not hasattr(np, n) for n in names["Beyond NumPy"])
    assert not any(hasattr(offered, n) for n in names["Not offered"])


def rewrite(page):
    """The page with its text blocks as the code prints them now."""
    text = page.read_text()
    for match, printed in reversed(list(run(page))):
        shown = f"\n```text\n{printed}```\n" if printed else ""
        start, end = (match.span("shown") if match["shown"] else (match.end(), match.end()))
        text = text[:start] + shown + text[end:]
    page.write_text(text)


if __name__ == "__main__":
    for each in PAGES:
        rewrite(each)
