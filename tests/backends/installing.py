"""Packages with a backend, installed from outside of the tree."""

from nagraph import backends


def install(folder, name, module, code):
    """A package with one module and an entry point of this name, as an installer leaves it."""
    (folder / f"{module}.py").write_text(code)
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{backends.GROUP}]\n{name} = {module}:BACKEND\n")
