"""What the machine must do in time and memory, measured; no test depends on it."""
