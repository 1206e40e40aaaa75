"""Differential privacy of the statistics of empirical Bayes: client half and server half."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from bayfed.config import BayPrAnoMeta, Experiment
from bayfed.errors import ConfigError
from bayfed.normality.empirical_bayes import NORMALS, EvidenceSums
from strategies.privacy.noise import noised
from strategies.task import Params, clipped

NORM = sqrt(3.0)
"""Largest norm of what a client adds."""
FLOOR = 1e-6
"""Least eigenvalue of a covariance under noise, in units of the largest squared norm."""
PARTS = frozenset({"count", "within", "mean", "mean_outer"})


@dataclass(frozen=True)
class PrivateStatistics:
    r"""Sums of statistics in units of their bounds, with one Gaussian noise on all of them.

    .. math::
        v_c = \Bigl(\frac{n}{n_{max}},\ \frac{S}{n_{max} R^2},\ \frac{\bar z}{R},\
        \frac{\bar z \bar z^\top}{R^2}\Bigr), \qquad \lVert v_c \rVert \le \sqrt 3

    A client counts as one site: n, S and :math:`\bar z` are means over its sites, and no mean is
    longer than the longest. Embeddings are clipped to the norm R and have at most the weight
    :math:`n_{max}` together. Then :math:`\lVert S \rVert_F \le \operatorname{tr} S = \sum_i w_i
    \lVert z_i \rVert^2 - n \lVert \bar z \rVert^2 \le n_{max} R^2 (1 - t)` with :math:`t = \lVert
    \bar z \rVert^2 / R^2`, so that the squared norm of :math:`v_c` is at most :math:`1 + (1 - t)^2
    + t + t^2 = 2 - t + 2 t^2 \le 3` for t in [0, 1]. The sum moves by :math:`\sqrt 3` where a
    client is added or removed and by :math:`2 \sqrt 3` where it is replaced; with noise
    :math:`z \sqrt 3` it costs what a round of everybody costs. Scatters are made symmetric and
    definite again afterwards, which costs nothing. The number of clients is public.

    Source: Dwork et al., Analyze Gauss, 2014, for noise on a scatter; the joint bound is worked out
    here.

    Attributes:
        radius: R.
        most: :math:`n_{max}`.
        noise: z.
        shares: Clients that bear the noise together, where they add it.
        seed: Of the experiment, for a run that can be repeated.
    """

    radius: float
    most: float
    noise: float
    shares: int | None = None
    seed: int | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> PrivateStatistics | None:
        """Return what ``experiment`` asks for, None where it does not hide clients."""
        privacy, method = experiment.federation.privacy, experiment.method
        if privacy.level != "client" or privacy.noise is None or privacy.features is None:
            return None
        patch = isinstance(method, BayPrAnoMeta) and method.grain == "patch"
        effective = method.prior.effective if patch and isinstance(method, BayPrAnoMeta) else 1.0
        seed = experiment.seed if privacy.reproducible else None
        return cls(privacy.features, NORMALS * effective, privacy.noise, privacy.shares, seed)

    def contribution(self, sums: Params, client: str) -> Params:
        """Return what leaves a client: v, with its share of the noise where clients add it.

        Raises:
            ConfigError: ``sums`` are not those of one normal model.
        """
        if sums.keys() != set(EvidenceSums._fields):
            raise ConfigError(
                "federation.privacy.level: client counts the statistics of one normal model only"
            )
        scale = self._scales()
        vector = {name: (sums[name] / sums["sites"] / scale[name]).double() for name in PARTS}
        vector = clipped(vector, NORM)
        if self.shares is None:
            return vector
        deviation = self.noise * NORM / sqrt(self.shares)
        return noised(vector, deviation, PARTS, ("statistics", client), self.seed)

    def bounded(self, part: Params) -> Params:
        """Return a contribution within the norm, whatever its client is like."""
        return clipped(part, NORM) if self.shares is None else part

    def release(self, total: Params, clients: int) -> Params:
        """Return the sums behind the total of all contributions, as empirical Bayes takes them.

        Args:
            total: Of what :meth:`contribution` gave.
            clients: How many have contributed.

        Raises:
            ConfigError: fewer contribute than bear the noise.
        """
        if self.shares is None:
            total = noised(total, self.noise * NORM, PARTS, ("statistics",), self.seed)
        elif clients < self.shares:
            raise ConfigError(
                f"statistics: {clients} clients bear less noise than "
                f"federation.privacy.shares: {self.shares}"
            )
        return self._usable(total, clients)

    def _usable(self, total: Params, clients: int) -> Params:
        scale = self._scales()
        sums = {name: value * scale[name] for name, value in total.items()}
        sites = torch.tensor(float(clients), dtype=torch.float64)
        count = sums["count"].clamp(2 * clients, clients * self.most)
        least = FLOOR * self.radius**2 * float(count)
        return {
            "sites": sites,
            "count": count,
            "within": _definite(sums["within"], least),
            "mean": sums["mean"],
            "mean_outer": _definite(sums["mean_outer"], 0.0),
        }

    def _scales(self) -> dict[str, float]:
        square = self.radius**2
        return {
            "count": self.most,
            "within": self.most * square,
            "mean": self.radius,
            "mean_outer": square,
        }


def _definite(matrix: Tensor, least: float) -> Tensor:
    """Return the symmetric part with eigenvalues of at least ``least``."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    return (vectors * values.clamp_min(least)) @ vectors.mT
