"""Images as the camera of another factory would have taken them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace

import numpy as np

from bayfed.data.site import Mask, Pixels, SiteImage
from bayfed.seeds import stream

VERSION = 1
"""Part of every digest; raise it with any change to how an image is retaken."""
GAIN = 1.5
"""Largest factor of the light, and the inverse of the smallest."""
GAMMA = 1.4
"""Largest exponent of the tone curve, and the inverse of the smallest."""
BLUR = 0.008
"""Largest width of the blur, in fractions of the shorter side."""
SIGMA = 0.03
"""Largest standard deviation of the sensor noise, in fractions of the range."""


@dataclass(frozen=True)
class Optics:
    r"""What a camera makes of a picture that was taken already.

    .. math:: I' = \mathrm{clip}\bigl(\mathrm{clip}(G_b * (g\,I))^{\gamma} + \sigma\epsilon\bigr)

    I is the picture in [0, 1], :math:`G_b` a Gaussian blur, :math:`\epsilon` standard normal, drawn
    for each image; of a grey picture all channels have one.

    Attributes:
        gain: g, of the light.
        gamma: exponent of the tone curve.
        blur: b, in fractions of the shorter side.
        sigma: standard deviation of the sensor noise, in fractions of the range.
    """

    gain: float
    gamma: float
    blur: float
    sigma: float

    @staticmethod
    def draw(rng: np.random.Generator, strength: float) -> Optics:
        """Return the camera of one factory; the same draw at half the strength is half way to it.

        Args:
            rng: Of the factory.
            strength: 0 changes nothing, 1 draws from the whole range.

        >>> from bayfed.seeds import stream
        >>> Optics.draw(stream(0, "example"), 0.0)
        Optics(gain=1.0, gamma=1.0, blur=0.0, sigma=0.0)
        """
        light, tone = rng.uniform(-strength, strength, 2)
        blur, sigma = strength * rng.uniform(0, 1, 2)
        return Optics(
            float(GAIN**light), float(GAMMA**tone), float(BLUR * blur), float(SIGMA * sigma)
        )

    def take(self, picture: Pixels, rng: np.random.Generator) -> Pixels:
        """Return the (H, W, 3) picture of a picture; ``rng`` draws the sensor noise."""
        from scipy.ndimage import gaussian_filter  # late: only who retakes pays for it

        grey = bool((picture == picture[..., :1]).all())
        scene = picture[..., :1] if grey else picture
        light = np.float32(self.gain / 255) * scene.astype(np.float32)
        width = self.blur * min(picture.shape[:2])
        seen = np.clip(gaussian_filter(light, (width, width, 0)), 0, 1) ** np.float32(self.gamma)
        seen = seen + np.float32(self.sigma) * rng.standard_normal(seen.shape, dtype=np.float32)
        levels = np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)
        return np.repeat(levels, 3, axis=2) if grey else levels


@dataclass(frozen=True)
class RetakenSource:
    """An image behind another camera; its sensor noise is determined by (seed, camera, image)."""

    image: SiteImage
    optics: Optics
    camera: str
    seed: int

    def pixels(self) -> Pixels:
        """Decode the image and take it again."""
        rng = stream(self.seed, "sensor", self.camera, self.image.site, self.image.name)
        return self.optics.take(self.image.pixels(), rng)

    def mask(self) -> Mask | None:
        """Return the image's mask: the defect is where it was."""
        return self.image.source.mask()

    def size(self) -> tuple[int, int]:
        """Return (height, width), those of the image."""
        return self.image.size()

    def digest(self) -> str:
        """Return the SHA-256 of the image's digest and of all that its new pixels depend on."""
        camera = (self.camera, self.seed, *astuple(self.optics))
        text = repr((VERSION, self.image.digest(), self.image.site, self.image.name, *camera))
        return hashlib.sha256(text.encode()).hexdigest()


def retaken(
    images: Iterable[SiteImage], strength: float, seed: int, camera: str
) -> tuple[SiteImage, ...]:
    """Return ``images`` as the camera of one factory takes them, under their own names.

    Painted defects are on the part, so they are taken with it; turned copies are turned behind
    the camera. Nothing is decoded before it is asked for.

    Args:
        images: Of any sites.
        strength: Of ``data.skew.camera``; 0 returns the images themselves.
        seed: Of the experiment.
        camera: Name of the factory.

    >>> from pathlib import Path
    >>> from bayfed.data.files import FileSource
    >>> part = SiteImage("part", "train/good/0.png", None, FileSource(Path("0.png")))
    >>> retaken([part], 0.0, 0, "here") == (part,)
    True
    """
    if not strength:
        return tuple(images)
    optics = Optics.draw(stream(seed, "camera", camera), strength)
    return tuple(replace(i, source=RetakenSource(i, optics, camera, seed)) for i in images)
