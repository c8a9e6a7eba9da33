"""Named functions over primitives: softmax, norms, attention, losses, activations."""
