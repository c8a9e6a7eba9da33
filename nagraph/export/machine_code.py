"""What machine code is written of: a subject with its graph as the LLVM backend runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nagraph.backends.llvm.backend import BACKEND
from nagraph.backends.llvm.executable import Executable
from nagraph.compiler.optimisation import optimised
from nagraph.errors import ExportError
from nagraph.export.refusals import Refusals
from nagraph.export.subject import Subject
from nagraph.ir.graph import Graph
from nagraph.ir.nested import nested_graphs


class Exported(NamedTuple):
    """A function that is exported: the subject, the graph that runs, and which outputs may have the memory of inputs."""

    subject: Subject
    graph: Graph
    donations: Mapping[int, int]

    @classmethod
    def of(cls, what: Any, args_or_specs: Any, form: str, names: Mapping[str, str] | None = None,
           metadata: Mapping[str, str] | None = None) -> Exported:
        """A function, optimised; an executable of the LLVM backend as it is.

        form: what it becomes, for messages. ExportError for sizes that are not known, and for what only Python computes.
        """
        subject = Subject.of(what, args_or_specs, optimised=False, names=names, metadata=metadata)
        if isinstance(what, Executable):
            graph, donations = what.graph, {j: i for j, i in what.calls.donations.items() if subject.inputs[i] not in subject.weights}
        else:
            if subject.graph.dims:
                sizes = ", ".join(d.name for d in subject.graph.dims)
                raise ExportError(f"{subject.name} has sizes that are not known ({sizes}), and {form} is written for known ones; give "
                                  "specs with numbers, such as ng.spec((8, 64))")
            donations = subject.donations
            graph = optimised(subject.graph, BACKEND.pipeline, donations)
        refusals = Refusals(form, subject.name)
        for inside in nested_graphs(graph):
            for node in inside.nodes:
                if node.op.on_host:
                    refusals.add(node, "only Python computes it, and there is none; leave it out, or write the op's `element`")
        refusals.check()
        return cls(subject, graph, donations)
