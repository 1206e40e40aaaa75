"""bayfed: federated Bayesian meta-learning of few-shot anomaly detectors."""

__version__ = "0.1.0"
