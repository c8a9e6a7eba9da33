"""The operators of ONNX by family; `nagraph.onnx.registry` loads all of them."""
