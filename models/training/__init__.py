"""How the networks learn: data, losses, the loop, checkpoints."""
