"""The systems, each a group of settings chosen by its name."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bayfed.config.settings import Count, NonNegative, Positive, Settings


class Steps(Settings):
    """Gradient steps of an inner loop."""

    steps: Annotated[int, Field(ge=0)] = 3
    lr: NonNegative = 0.05
    """Inner rate at round 0; it is a meta-parameter."""
    order: Literal["exact", "first"] = "exact"
    """``first`` ignores how the inner gradient depends on the meta-parameters."""


class Inner(Steps):
    """The inner loop of BayPrAnoMeta: adaptation of the head to one product's support."""

    objective: Literal["leave-one-out", "predictive"] = "leave-one-out"
    """Whose likelihood is raised: an image's under the others, or the support's under itself."""
    volume: bool = True
    """Count the head's log volume, without which shrinking everything raises the likelihood."""


class Prior(Settings):
    """The Normal-Inverse-Wishart prior at round 0."""

    init: Literal["fixed", "empirical-bayes"] = "fixed"
    covariance: Literal["isotropic", "diagonal", "full"] = "diagonal"
    kappa: Positive = 0.01
    extra_dof: Positive = 2.0
    """nu0 - (d - 1) > 0."""
    scale: Positive = 1.0
    """Psi0 = scale * I; with empirical Bayes scale * extra_dof * the pooled covariance, so that 1
    is neither wider nor narrower than the factories' data."""
    effective: Positive = 32.0
    """Effective observations an image contributes at the patch grain."""


class Broad(Settings):
    """The law of a defect's embedding, against which a predictive is weighed."""

    law: Literal["inflated", "fixed"] = "inflated"
    """The predictive with a larger, learned scale, or a Student-t about 0 (the paper's)."""
    dof: Positive = 2.0
    """Degrees of freedom of the fixed law."""
    scale: Positive = 100.0
    """Of the fixed law's scale matrix, a multiple of I."""


class Detection(Settings):
    """The outer loss on labelled queries."""

    class_prior: Annotated[float, Field(gt=0, lt=1)] = 0.5
    dense: NonNegative = 0.0
    """Weight of the token-level log-odds where masks exist."""


class Loss(Detection):
    """The outer loss of BayPrAnoMeta."""

    contrastive: NonNegative = 0.1
    temperature: Positive = 0.07


Fraction = Annotated[float, Field(gt=0, le=1)]


class Refine(Settings):
    """Cycles in which support images with outlying scores are left out."""

    cycles: Annotated[int, Field(ge=0)] = 0
    """Most cycles; 0 = every image is kept."""
    whisker: NonNegative = 1.5
    """Interquartile ranges above the third quartile beyond which a score is outlying."""
    quartiles: Literal["both", "lower"] = "both"
    """``lower`` mirrors the lower half of the scores, which noise below one half leaves alone."""


class System(Settings):
    """What every system has."""

    grain: Literal["image", "patch"] = "patch"
    """Whether an image is one pooled token, or the tokens of a grid."""
    refine: Refine = Refine()
    rates: dict[str, NonNegative] = {}
    """Multiplier of the server's learning rate for parameters whose name starts with the key."""

    @property
    def trains(self) -> bool:
        """Whether there are meta-parameters that training can move."""
        return False

    @property
    def pools_statistics(self) -> bool:
        """Whether the factories' additive statistics shape round 0."""
        return False

    @property
    def has_law(self) -> bool:
        """Whether the model gives image scores a law of its own, where nothing is pooled."""
        return False

    @property
    def changed(self) -> str | None:
        """The settings of its own that differ from the usual ones; the grain is none of them."""
        usual = {key: field.default for key, field in type(self).model_fields.items()}
        own = {key: getattr(self, key) for key in usual if key not in System.model_fields}
        texts = [f"{key} {value}" for key, value in own.items() if value != usual[key]]
        return ", ".join(texts) or None


class Embedded(System):
    """A system with meta-parameters that embeds tokens by a linear head."""

    embedding: Annotated[int, Field(ge=2)] | None = None
    """Output dimension of the head; empty = as many as the trunk has, starting at the identity.

    A posterior of the full covariance undoes an invertible head, but for the prior: the head can
    choose what is seen, by training or by the inner loop, only if it is narrower.
    """
    relu: bool = False
    """ReLU on the embeddings, before LayerNorm."""
    normalise: bool = False
    """LayerNorm on the embeddings."""
    top_k: Fraction = 0.01
    """Fraction of the patches whose mean score is the image score."""

    @property
    def trains(self) -> bool:
        """Whether there are meta-parameters that training can move."""
        return True


class WideView(Settings):
    """What the wide layer of the backbone adds to a score, where one is tapped."""

    weight: float = 0.0
    """Of its surprise beside that of the stages, at round 0; it is a meta-parameter."""
    top_k: Fraction = 0.05
    """Fraction of its patches whose mean score counts."""


class BayPrAnoMeta(Embedded):
    """Bayesian Proto-MAML."""

    name: Literal["baypranometa"] = "baypranometa"
    mirrored: bool = False
    """Describe each support image together with its two mirror images; patch grain only."""
    wide: WideView = WideView()
    inner: Inner = Inner()
    prior: Prior = Prior()
    broad: Broad = Broad()
    loss: Loss = Loss()

    @model_validator(mode="after")
    def _one_vector_has_no_mirror(self) -> BayPrAnoMeta:
        if self.mirrored and self.grain == "image":
            raise ValueError("method.mirrored needs the patch grain")
        return self

    @property
    def pools_statistics(self) -> bool:
        """Whether the factories' additive statistics shape round 0."""
        return self.prior.init == "empirical-bayes"

    @property
    def has_law(self) -> bool:
        """Whether the model gives image scores a law of its own, where nothing is pooled."""
        return self.grain == "image"


class ProtoNet(Embedded):
    """Squared distance to the mean of the support's embeddings."""

    name: Literal["protonet"] = "protonet"
    loss: Detection = Detection()


class Classifier(Embedded):
    """A logistic classifier of embeddings, adapted by gradient steps on good images."""

    normalise: bool = True
    """LayerNorm on the embeddings."""
    inner: Steps = Steps()
    loss: Detection = Detection()


class MAML(Classifier):
    """A learned classifier; the inner loop adapts it and everything before it."""

    name: Literal["maml"] = "maml"


class ANIL(Classifier):
    """A learned classifier, which alone the inner loop adapts."""

    name: Literal["anil"] = "anil"


class ProtoMAML(Classifier):
    """A classifier that starts at the prototypes; the inner loop adapts as MAML's."""

    name: Literal["protomaml"] = "protomaml"


class Flow(Settings):
    """A normalizing flow of affine couplings."""

    transforms: Count = 4
    """Couplings; each moves one half of the channels by a function of the other."""
    hidden: Count = 32
    """Units of a coupling's network."""


class DensityLoss(Detection):
    """The outer loss of the flow."""

    density: NonNegative = 1.0
    """Weight of the query normals' negative log density, in nats per dimension."""


class Refinement(System):
    """A meta-learned flow that is adapted in cycles of scoring and rejection."""

    name: Literal["refinement"] = "refinement"
    refine: Refine = Refine(cycles=3)
    flow: Flow = Flow()
    channels: Annotated[int, Field(ge=2)] | None = 256
    """Channels drawn at random, if there are more; empty = all."""
    shrink: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Weight of a multiple of I in the support's covariance, at round 0."""
    hybrid: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Weight of the Gaussian surprise beside the flow's, at round 0."""
    inner: Steps = Steps(steps=2, lr=0.1)
    adapt_steps: Annotated[int, Field(ge=0)] | None = 5
    """Steps of an evaluation; empty = as many as in training."""
    adapt_tokens: Count = 1024
    """Support tokens behind one step of an evaluation, drawn anew for each."""
    top_k: Fraction = 0.01
    """Fraction of the patches whose mean score is the image score."""
    loss: DensityLoss = DensityLoss()

    @property
    def trains(self) -> bool:
        """Whether there are meta-parameters that training can move."""
        return True


class PatchCore(System):
    """Distance to the nearest patch of a coreset of the support."""

    name: Literal["patchcore"] = "patchcore"
    grain: Literal["patch"] = "patch"
    coreset: Fraction = 0.1
    """Fraction of the support's patches that the memory keeps."""
    neighbours: Annotated[int, Field(ge=2)] | None = 9
    """Patches of the memory around the nearest one that reweight a score; empty = no weight."""
    candidates: Count = 10_000
    """Patches that the coreset is chosen from; of more, so many are taken."""
    projection: Count = 128
    """Dimensions in which the coreset is chosen, by a random projection where there are more."""


class AnomalyDINO(System):
    """Cosine distance to the nearest patch of the turned supports."""

    name: Literal["anomalydino"] = "anomalydino"
    grain: Literal["patch"] = "patch"
    turns: Annotated[int, Field(ge=1, le=64)] = 8
    """Rotations of each support image, itself among them, evenly spaced over the circle."""
    patches: Count = 65_536
    """Patches that the memory keeps; of more, so many are taken."""
    top_k: Fraction = 0.01
    """Fraction of the patches whose mean distance is the image score."""


class PaDiM(System):
    """A Gaussian for each position of the grid."""

    name: Literal["padim"] = "padim"
    grain: Literal["patch"] = "patch"
    channels: Count | None = 100
    """Channels drawn at random, if there are more; empty = all."""
    ridge: Positive = 0.01
    """Added to the diagonal of each covariance."""


class Mahalanobis(System):
    """One Gaussian of pooled features with a shrunk covariance."""

    name: Literal["mahalanobis"] = "mahalanobis"
    grain: Literal["image"] = "image"


class PCAResidual(System):
    """Distance to the principal subspace of the support's tokens."""

    name: Literal["pca"] = "pca"
    variance: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Fraction of the variance that the subspace holds."""
    top_k: Fraction = 0.01
    """Fraction of the patches whose mean residual is the image score."""


Method = Annotated[
    BayPrAnoMeta
    | ProtoNet
    | ProtoMAML
    | MAML
    | ANIL
    | Refinement
    | PatchCore
    | AnomalyDINO
    | PaDiM
    | Mahalanobis
    | PCAResidual,
    Field(discriminator="name"),
]
"""The settings of any system."""


def top_count(fraction: float, tokens: int) -> int:
    """Return how many of ``tokens`` patches the fraction ``fraction`` means, at least one.

    >>> top_count(0.01, 784)
    8
    """
    return max(1, math.ceil(fraction * tokens))
