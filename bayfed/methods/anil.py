"""ANIL: MAML whose inner loop adapts the classifier alone.

The body is meta-trained and then reused as it is, so it embeds every image once. The negative
class is MAML's: the learned start of the classifier.

Source: Raghu et al. 2020, section 4 (almost no inner loop).
"""

from __future__ import annotations

from bayfed.methods.classifier import FewShotClassifier


class ANIL(FewShotClassifier):
    """The method at either grain; bayfed's head is part of the body, ANIL's is the classifier."""

    name = "anil"
    adapts_body = False
