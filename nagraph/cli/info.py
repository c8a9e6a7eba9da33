"""`nagraph info`: tells version, backends, CPU, threads."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform

from rich.console import Console
from rich.table import Table

import nagraph
from nagraph import backends
from nagraph.arrays import HOST
from nagraph.backends.host import cpu_name, usable_cores


def _state(backend: backends.Backend) -> str:
    """Why it can't be used here; if it can, with the devices on which its arrays live."""
    devices = () if (missing := backend.missing()) or backend.array_kind is HOST else backend.array_kind.devices()
    return missing or "usable" + (f" on {', '.join(devices)}" if devices else "")


def run() -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("nagraph", nagraph.__version__)
    table.add_row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in backends.names():
        table.add_row(f"backend {name}", _state(backends.find(name)))
        for what, told in backends.find(name).about().items():
            table.add_row(f"  {what}", told)
    table.add_row("cpu", cpu_name())
    table.add_row("threads", f"{usable_cores()} usable of {os.cpu_count()}")
    for package in ("numpy", "llvmlite", "ml_dtypes", "safetensors", "networkx", "matplotlib"):
        found = importlib.util.find_spec(package) is not None
        table.add_row(package, importlib.metadata.version(package) if found else "not installed")
    Console(highlight=False).print(table)
