"""A detector fitted to one product: three lines for a user, one path behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayfed.data import Pixels
from bayfed.errors import NumericalError, ProductError
from bayfed.evaluation.colours import ColourScale
from bayfed.evaluation.gallery import scale_at
from bayfed.inference.decide import decide, share_of_parameters
from bayfed.inference.frame import Frame
from bayfed.inference.inspection import Inspection, Region
from bayfed.inference.pictures import Picture, digest_of, pixels_of, place_of, several
from bayfed.inference.regions import located
from bayfed.methods import Scores
from bayfed.metrics import Interval
from bayfed.product import file
from bayfed.product.calibration import Calibration, Floats, Threshold
from bayfed.product.drift import Drift, drift_of
from bayfed.product.fitting import fit_product, opened, within_limit
from bayfed.product.lens import Lens
from bayfed.product.odds import fit_odds
from bayfed.product.product import Product, now
from bayfed.product.source import Source, System, build, from_run, with_weights
from bayfed.product.thresholds import Kind, NullLaw

CHUNK = 8
"""Images that are scored at once; bounds the memory."""

Map = NDArray[np.float32]


class Detector:
    """A fitted detector of one product.

    Use :meth:`fit` or :meth:`load`, not the constructor. What it says of an image depends on the
    image alone: a detector that was saved and loaded gives the same numbers, bit for bit.
    """

    def __init__(self, product: Product, system: System) -> None:
        self.product = product
        self.system = system
        self.adapted = system.method.restore(product.params, product.fitted)
        experiment = product.experiment
        self._lens = Lens(system.encoder, product.frame, product.shape, experiment.store.dtype)

    @classmethod
    def fit(
        cls,
        images: Sequence[Picture],
        source: Source | Path | str,
        fpr: float | None = 0.05,
        kind: Kind | None = None,
        frame: Frame | None = None,
        name: str = "product",
        keep_supports: bool = False,
    ) -> Detector:
        """Return a detector of the product that ``images`` show.

        Args:
            images: Good parts, at least two: paths, PIL images or uint8 arrays.
            source: A run's folder, or what :func:`from_run` or :func:`from_backbone` gives.
            fpr: Share of good parts that may be called defective; None = no threshold is set.
            kind: What the threshold rests on; None = the best that there is.
            frame: Region of interest and tiles; None = the whole image.
            name: Of the product.
            keep_supports: Keep the pictures, so that :mod:`explanations
                <bayfed.product.explain>` can show the nearest good patch.

        Raises:
            ProductError: fewer than two images, or the same twice.
            DataError: an image cannot be used.
            ConfigError: a setting is wrong.
            WeightsError: the backbone's weights are not there, or others.
        """
        source = source if isinstance(source, Source) else from_run(Path(source))
        detector = cls(*fit_product(several(images), source, frame or Frame(), name, keep_supports))
        detector._recalibrate(fpr, kind)
        return detector

    @classmethod
    def load(cls, path: Path | str, weights: Path | str | None = None) -> Detector:
        """Return the detector in a file.

        Args:
            path: The file.
            weights: The backbone's weights, where they lie elsewhere than when it was fitted.

        Raises:
            ProductError: the file is damaged, too large, of a newer version, or does not fit.
            WeightsError: the weights are not there, or others than those it was fitted with.
        """
        product = file.read(Path(path))
        product = replace(product, experiment=with_weights(product.experiment, weights))
        system = build(product.experiment, product.frame.tiles)
        file.check_params(Path(path), product, system.method)
        try:
            return cls(product, system)
        except (KeyError, ValueError, RuntimeError, NumericalError) as error:
            raise ProductError(f"{path}: its tensors do not fit its settings") from error

    def save(self, path: Path | str) -> None:
        """Write the detector to a file, which is replaced as a whole or not at all.

        Raises:
            ProductError: the file cannot be written.
        """
        file.write(Path(path), self.product)

    def score(self, images: Iterable[Picture]) -> list[Inspection]:
        """Return what the detector says of each image.

        Raises:
            ProductError: no threshold is set.
            DataError: an image cannot be used.
        """
        return [one for block in _blocks(several(images)) for one in self.inspect(*block)]

    def inspect(self, pixels: Sequence[Pixels], places: Sequence[str]) -> list[Inspection]:
        """Return what the detector says of pictures that go through the backbone together.

        Args:
            pixels: ``(H, W, 3)`` uint8 each.
            places: What messages call them.

        Raises:
            ProductError: no threshold is set.
            DataError: a picture does not hold the inspected part.
            NumericalError: a score is not finite.
        """
        _ = self.limit  # said before the work where there is none
        return self.judged(self.scores(pixels, places), pixels)

    def judged(self, scores: Scores, pixels: Sequence[Pixels]) -> list[Inspection]:
        """Return what scores say of their pictures.

        Raises:
            ProductError: no threshold is set.
        """
        threshold, p_values = self.limit, self.law().p_value(scores)
        maps = self._maps(scores)
        return [
            self._inspection(scores, p_values, maps, i, pixels[i], threshold)
            for i in range(len(pixels))
        ]

    def scores(self, pixels: Sequence[Pixels], places: Sequence[str]) -> Scores:
        """Return the method's scores of pictures, without a threshold.

        Raises:
            DataError: a picture does not hold the inspected part.
            NumericalError: a score is not finite.
        """
        return self.scored(self.outputs(pixels, places), places)

    def scored(self, outputs: Tensor, places: Sequence[str]) -> Scores:
        """Return the method's scores of trunk outputs.

        Raises:
            NumericalError: a score is not finite.
        """
        scores = self.system.method.score(self.adapted, outputs, spread=True)
        for score, place in zip(scores.image, places, strict=True):
            if not score.isfinite():
                raise NumericalError(f"{place}: its score is {score:g}")
        return scores

    def outputs(self, pixels: Sequence[Pixels], places: Sequence[str]) -> Tensor:
        """Return the trunk outputs of pictures, as the method scores them."""
        return self._lens.query(pixels, places)

    def warm(self) -> Detector:
        """Trace the network now, so that no image waits for it."""
        self._lens.warm()
        return self

    def map_of(self, tokens: Tensor) -> Map:
        """Return values ``(t,)`` of an image's tokens as a map of the inspected part."""
        grid = self.system.encoder.grid
        return self.product.frame.together(tokens.float().numpy().reshape(-1, grid, grid))

    def update(self, images: Sequence[Picture]) -> Detector:
        """Add good images to the posterior, in closed form and without the old images.

        The law is exactly that of a fit to all of them behind the head as it stands, hence the same
        as a new fit where no inner steps adapt the head. The old images keep their scores, given
        fewer others, and the threshold is set anew from all scores. What :meth:`calibrate` has
        scored goes, since other images would be needed to score it by the new law. Proportions,
        region and tiles stay those of the fit.

        Raises:
            ProductError: an image is there already.
            DataError: an image cannot be used.
        """
        product, method = self.product, self.system.method
        pixels, goods = opened(several(images), product.provenance.images)
        if not pixels:
            return self
        outputs = self._lens.support(pixels, [good.name for good in goods], method.poses)
        extended = method.extend(self.adapted, outputs)
        fitted = within_limit(method, product.params, extended)
        provenance = replace(
            product.provenance, images=(*product.provenance.images, *goods), updated=now()
        )
        supports = (*product.supports, *pixels) if product.supports else ()
        self.product = replace(product, fitted=fitted, provenance=provenance, supports=supports)
        self.adapted = method.restore(product.params, fitted)
        threshold = product.threshold
        self._recalibrate(threshold.fpr if threshold else None, None)
        return self

    def calibrate(
        self,
        normals: Sequence[Picture] = (),
        defects: Sequence[Picture] = (),
        fpr: float | None = None,
        kind: Kind | None = None,
    ) -> Detector:
        """Set the threshold anew, without a new fit.

        Args:
            normals: Good images beside the support; they take the place of those given before.
            defects: Known defects, which teach the log-odds and measure what escapes.
            fpr: Share of good parts that may be called defective; None = as before.
            kind: What the threshold rests on; None = the best that there is.

        Raises:
            ProductError: an image is part of the support, or so low a rate cannot be promised.
            DataError: an image cannot be used.
        """
        calibration = self.product.calibration
        if normals:
            calibration = replace(calibration, normals=self._unseen(normals))
        if defects:
            calibration = replace(calibration, defects=self._unseen(defects))
        old = self.product.threshold
        wanted = old.fpr if fpr is None and old else fpr
        threshold = self._at(calibration, wanted, kind)
        if defects:
            self._learn_odds(calibration)
        self.product = replace(self.product, calibration=calibration, threshold=threshold)
        return self

    def drift(self, images: Iterable[Picture]) -> Drift:
        """Return whether recent good parts still look like those that were fitted.

        Raises:
            ProductError: no threshold is set, it has no p-values, an image is part of the support,
                or they are too few.
            DataError: an image cannot be used.
        """
        found = list(self._fresh(several(images)))
        p_values = [one.p_value for one in found if one.p_value is not None]
        if len(p_values) < len(found):
            raise ProductError("drift: a fence has no p-values; calibrate another threshold")
        alarms = sum(one.score > self.threshold for one in found)
        calibration = self.product.calibration
        reference = len(calibration.normals) or len(calibration.own)
        return drift_of(np.array(p_values), alarms, self.fpr, reference)

    @property
    def escapes(self) -> Interval | None:
        """Share of the known defects that are not above the threshold; None without any."""
        return self.product.calibration.escapes(self.limit)

    @property
    def name(self) -> str:
        """Name of the product."""
        return self.product.name

    @property
    def frame(self) -> Frame:
        """The part of an image that is inspected, and its tiles."""
        return self.product.frame

    @property
    def fpr(self) -> float:
        """Promised share of good parts above the threshold.

        Raises:
            ProductError: no threshold is set.
        """
        return self.limit.fpr

    @property
    def threshold(self) -> float:
        """Score above which a part is defective.

        Raises:
            ProductError: no threshold is set.
        """
        return self.limit.value

    @property
    def promise(self) -> str:
        """What the threshold promises, and what the promise rests on.

        Raises:
            ProductError: no threshold is set.
        """
        return self.limit.promise

    @property
    def scale(self) -> ColourScale:
        """The one colour scale of all maps of this product."""
        dark, threshold = self.product.dark, self.product.threshold
        level = threshold.value if threshold else None
        return scale_at(dark, dark + 1.0 if level is None else level, level)

    @property
    def suspects(self) -> tuple[str, ...]:
        """Names of the good images that do not look like the others."""
        images = self.product.provenance.images
        return tuple(images[i].name for i in self.product.calibration.suspects())

    def law(self) -> NullLaw:
        """Return the law of good parts' scores that the threshold rests on.

        Raises:
            ProductError: no threshold is set.
        """
        threshold = self.limit
        level = self.system.method.level(self.adapted, threshold.fpr)
        return self.product.calibration.law(threshold.kind, threshold.fpr, level)

    @property
    def limit(self) -> Threshold:
        """The threshold, what it rests on, and what it promises.

        Raises:
            ProductError: no threshold is set.
        """
        if self.product.threshold is None:
            raise ProductError(f"product {self.name}: no threshold is set; calibrate it first")
        return self.product.threshold

    def _recalibrate(self, fpr: float | None, kind: Kind | None) -> None:
        """Take the scores of the support as they are now, and set the threshold by them."""
        own = self.system.method.support_scores(self.adapted).double().numpy()
        calibration = self.product.calibration.with_own(own)
        threshold = self._at(calibration, fpr, kind)
        self.product = replace(self.product, calibration=calibration, threshold=threshold)

    def _at(
        self, calibration: Calibration, fpr: float | None, kind: Kind | None
    ) -> Threshold | None:
        if fpr is None:
            return None
        level = self.system.method.level(self.adapted, fpr) if 0 < fpr < 1 else None
        return calibration.threshold(kind, fpr, level)

    def _unseen(self, images: Sequence[Picture]) -> Floats:
        """Return the scores of images that are no part of the support."""
        known = self.product.provenance.images
        found = []
        for start in range(0, len(images), CHUNK):
            part = images[start : start + CHUNK]
            pixels, goods = opened(part, known, "has been fitted to", start)
            found.append(self.scores(pixels, [good.name for good in goods]).image)
        return torch.cat(found).double().numpy()

    def _fresh(self, images: Sequence[Picture]) -> Iterator[Inspection]:
        """Yield what is said of images, which a support would flatter."""
        known = {good.digest: good.name for good in self.product.provenance.images}
        for pixels, places in _blocks(images):
            for place, values in zip(places, pixels, strict=True):
                if (same := known.get(digest_of(values))) is not None:
                    raise ProductError(f"{place}: the same picture has been fitted to ({same})")
            yield from self.inspect(pixels, places)

    def _learn_odds(self, calibration: Calibration) -> None:
        good, middle = calibration.good, float(calibration.own.mean())
        gain, bias = fit_odds(good, calibration.defects, middle)
        odds = {"score.log_gain": torch.tensor(gain), "score.bias": torch.tensor(bias)}
        params = self.product.params | odds
        self.product = replace(self.product, params=params)
        self.adapted = self.system.method.restore(params, self.product.fitted)

    def _maps(self, scores: Scores) -> list[Map] | None:
        if scores.tokens is None:
            return None
        return [self.map_of(tokens) for tokens in scores.tokens]

    def _inspection(
        self,
        scores: Scores,
        p_values: Tensor | None,
        maps: Sequence[Map] | None,
        i: int,
        pixels: Pixels,
        threshold: Threshold,
    ) -> Inspection:
        if scores.log_odds is None or scores.spread is None:
            raise ProductError(f"product {self.name}: its method gives no log-odds")
        score, odds = float(scores.image[i]), scores.log_odds
        parameters, tokens = (float(part[i]) for part in scores.spread)
        surprise: Map | None = None
        regions: tuple[Region, ...] = ()
        if maps is not None:
            dark = self.product.dark
            surprise, regions = located(maps[i], self.frame, pixels.shape, threshold.value, dark)
        return Inspection(
            score=score,
            log_odds=float(odds[i]),
            p_value=None if p_values is None else float(p_values[i]),
            epistemic=share_of_parameters(parameters, tokens),
            decision=decide(score, threshold.value, parameters),
            surprise=surprise,
            regions=regions,
        )


def _blocks(images: Sequence[Picture]) -> Iterator[tuple[list[Pixels], list[str]]]:
    """Yield the pixels and the places of ``CHUNK`` images after the other."""
    for start in range(0, len(images), CHUNK):
        part = list(enumerate(images[start : start + CHUNK], start))
        yield [pixels_of(one, i) for i, one in part], [place_of(one, i) for i, one in part]
