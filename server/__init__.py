"""The Flower ServerApp: rounds, checkpoints and history."""
