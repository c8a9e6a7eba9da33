"""`ng.export.stablehlo`: writes a module as text or as portable bytecode, once XLA has run it and found what nagraph finds."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from nagraph.errors import ExportError
from nagraph.export.agreement import agree
from nagraph.export.subject import Subject
from nagraph.export.to_stablehlo import running
from nagraph.export.to_stablehlo.writing import module_text
from nagraph.files import write_atomically

FORMATS = ("text", "bytecode")
#: The endings of portable bytecode, where the format is not given.
_BYTECODE = (".mlirbc", ".bc")


def stablehlo(what: Any, path: str | pathlib.Path, args_or_specs: Any = None, *, format: str | None = None,  # noqa: A002
              optimised: bool = True, names: Mapping[str, str] | None = None, metadata: Mapping[str, str] | None = None,
              verify: bool = True) -> pathlib.Path:
    """Write a function, a model, a graph or an executable as a StableHLO module; the path of what was written.

    format: "text", or "bytecode", a portable artifact, for which jaxlib is needed; None is bytecode where the path ends in .mlirbc or .bc.
    optimised, names: see `Subject.of`; metadata is an attribute of the module. verify: whether XLA compiles and runs what is written, if
    JAX is installed, and must find what nagraph finds, for three sizes of each dimension; what was done is printed.
    ExportError lists every op that has no translation, or says which results differ; then nothing is written.
    """
    target = pathlib.Path(path)
    chosen = format or ("bytecode" if target.suffix in _BYTECODE else "text")
    if chosen not in FORMATS:
        raise ExportError(f"StableHLO is written as {' or '.join(FORMATS)}, got format={format!r}")
    subject = Subject.of(what, args_or_specs, optimised=optimised, names=names, metadata=metadata)
    text = module_text(subject)
    content = running.bytecode(text) if chosen == "bytecode" else text.encode()
    if verify:
        print(f"{target}: {verified(subject, running.read(content) if chosen == 'bytecode' else text)}")
    write_atomically(target, content, ExportError)
    return target


def verified(subject: Subject, module: str | bytes) -> str:
    """What XLA finds of a subject's module, beside our results, in words. ExportError if that is not the same."""
    if not running.installed():
        return "JAX is not installed, so it was not run: pip install 'nagraph[stablehlo]'"

    def run(sizes: Mapping[str, int], arrays: Mapping[str, Any]) -> Sequence[Any]:
        return running.run(running.refined(module_text(subject, sizes)) if sizes else module, list(arrays.values()))

    return agree(subject, f"XLA of jaxlib {running.version()}", run)
