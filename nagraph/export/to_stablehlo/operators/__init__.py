"""The translations by family; `nagraph.export.to_stablehlo.registry` finds them."""
