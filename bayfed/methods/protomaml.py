r"""ProtoMAML: a linear classifier that starts at the prototypes, adapted as MAML's.

With prototypes :math:`c_n` of good and :math:`c_a` of defective images, the log-odds of a defect
by squared distance are linear in the embedding,

.. math::
    \gamma \frac{\lVert z - c_n \rVert^2 - \lVert z - c_a \rVert^2}{d} = w \cdot z + b, \quad
    w = \frac{2 \gamma (c_a - c_n)}{d}, \quad
    b = \frac{\gamma (\lVert c_n \rVert^2 - \lVert c_a \rVert^2)}{d}

and these are the weights before the first inner step. :math:`c_n` is the mean of the support.
The support has no defect, so :math:`c_a` is a meta-parameter, 0 at round 0: behind LayerNorm,
where :math:`\lVert z \rVert^2 = d`, the log-odds are then the distance to :math:`c_n` up to a
constant. :math:`\gamma` is a learned temperature.

The baseline of this name beside arXiv 2601.19992 has no linear classifier: its inner loop
descends the support's distance to :math:`c_n`, and its logit is that distance.

Source: Triantafillou et al. 2020 (the initial output layer of Proto-MAML).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayfed.features import Params
from bayfed.methods.classifier import BIAS, WEIGHT, FewShotClassifier

ANOMALY, GAIN = "prototype.anomaly", "prototype.log_gain"


class ProtoMAML(FewShotClassifier):
    """The method at either grain; all weights behind the frozen trunk adapt."""

    name = "protomaml"
    adapts_body = True

    def initial_classifier(self, dim: int) -> Params:
        """Return the prototype of defects and the log temperature at round 0."""
        return {ANOMALY: torch.zeros(dim), GAIN: torch.tensor(0.0)}

    def classifiers(self, params: Params, support: Tensor, subset: Tensor | None) -> Params:
        """Return the classifier of each episode's prototypes; gradients pass through them."""
        good, bad = self.embed(params, support, subset).mean((1, 2)), params[ANOMALY]
        scale = params[GAIN].exp() / good.shape[-1]
        bias = good.square().sum(-1) - bad.square().sum()
        return {WEIGHT: 2 * scale * (bad - good), BIAS: scale * bias}
