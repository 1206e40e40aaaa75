"""MAML: a learned logistic classifier and its body, all adapted by gradient steps.

The classifier starts at zero, so that before any training the first step turns it against the
mean of the support. Its negative class is nothing but this start, learned by the outer loss;
the paper under test uses MAML in the same way (inner loop: the support is good).

Source: Finn et al. 2017, algorithm 2; the one-class inner loop is that of
:mod:`bayfed.methods.classifier`.
"""

from __future__ import annotations

from bayfed.methods.classifier import FewShotClassifier


class MAML(FewShotClassifier):
    """The method at either grain; all weights behind the frozen trunk adapt."""

    name = "maml"
    adapts_body = True
