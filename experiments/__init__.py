"""Experiments, and the runner that starts them."""
