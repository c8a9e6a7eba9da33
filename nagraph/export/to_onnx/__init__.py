"""Graphs as ONNX models. In the order in which the files build on one another:

`registry` (what translates an op), `dtypes` (in which dtypes operators of ONNX compute), `sizes` (sizes that are known later, as tensors),
`scope` (what translations write with), `operators/` (all translations, by family), `scalars` (scalar rules of ops, where there is no
operator), `model` (the model around a graph).
"""
