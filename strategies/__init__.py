"""Federated algorithms: a client half and a server half in one file."""
