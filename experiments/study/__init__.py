"""Studies of how federated meta-learning converges when factories differ."""
