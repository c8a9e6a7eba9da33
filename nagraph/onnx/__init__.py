"""ONNX models as graphs. In the order in which the files build on one another:

`dtypes` (element types), `opsets` (versions), `wire` (a file without its weights), `external` (files beside it), `tensors`, `formats` (what
graphs carry in a wider dtype), `registry` (what an operator is), `operators/` (all of them, by family), `modelfile`, `attributes`, `known`
(what follows from the model alone), `interpreting` (node by node), `reading` (`ng.from_onnx`).
"""
