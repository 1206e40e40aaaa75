"""Differential privacy: of clients, of images, and what it has cost so far."""
