"""The kernel form: one fused region as parallel outer axes and a short list of stages."""
