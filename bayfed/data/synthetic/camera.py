"""The camera and the lamp of a factory: what every image of a site has in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayfed.data.site import Pixels
from bayfed.data.synthetic.canvas import Colour, Colours, Field, Rng, grid, paint


@dataclass(frozen=True)
class Camera:
    r"""A camera with its lamp.

    .. math:: I = \mathrm{clip}\bigl((G_b * (e\,w\,L\,R))^{1/\gamma} + \sigma\epsilon\bigr)

    R is the part's reflectance (3, H, W), L the light (a gradient and a vignette),
    w the white balance, e the exposure, :math:`G_b` a Gaussian blur, and
    :math:`\epsilon` standard normal.

    Attributes:
        balance: (3, 1, 1) gains of red, green and blue.
        gradient: (x, y) slope of the light over half the picture.
        vignette: fall-off of the light in the corner.
        blur: b, in fractions of the picture's side.
        sigma: standard deviation of the sensor noise, in fractions of the range.
        gamma: exponent of the tone curve.
    """

    balance: Colour
    gradient: tuple[float, float]
    vignette: float
    blur: float
    sigma: float
    gamma: float

    @staticmethod
    def draw(rng: Rng) -> Camera:
        """Return the camera of one factory."""
        angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.03, 0.2)
        return Camera(
            balance=paint(rng.uniform(0.85, 1.1) * rng.normal(1, 0.05, 3)),
            gradient=(slope * np.cos(angle), slope * np.sin(angle)),
            vignette=rng.uniform(0.0, 0.2),
            blur=rng.uniform(0.004, 0.011),
            sigma=rng.uniform(0.006, 0.02),
            gamma=rng.uniform(0.9, 1.2),
        )

    def take(self, scene: Colours, rng: Rng) -> Pixels:
        """Return the (H, W, 3) uint8 image of the (3, H, W) ``scene``.

        ``rng`` draws the exposure, the sway of the lamp and the sensor noise.
        """
        from scipy.ndimage import gaussian_filter  # late: only who draws pays for it

        x, y = grid(scene.shape[1:])
        exposure, sway = rng.normal(1, 0.02), rng.normal(0, 0.015, 2)
        across, down = (
            np.float32(self.gradient[0] + sway[0]),
            np.float32(self.gradient[1] + sway[1]),
        )
        light: Field = np.float32(exposure) * (1 + across * x + down * y)
        light = light - np.float32(self.vignette / 2) * (x * x + y * y)
        blur = self.blur * min(scene.shape[1:])
        seen: Colours = gaussian_filter(scene * light * self.balance, (0, blur, blur), truncate=3)
        seen = np.clip(seen, 0, 1) ** np.float32(1 / self.gamma)
        seen = seen + np.float32(self.sigma) * rng.standard_normal(seen.shape, dtype=np.float32)
        levels = np.rint(np.clip(seen, 0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(levels.transpose(1, 2, 0))
