"""Pool of earlier translations, so that a discriminator also trains on output of earlier generators."""

from __future__ import annotations

import numpy as np
import torch


class ImagePool:
    """Pool of up to ``size`` translated images; half of the returned images are older (Shrivastava et al. 2017).

    Args:
        size: number of stored images; 0 returns all new images.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[torch.Tensor] = []

    def exchange(self, images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Store new images (b, 1, y, x); returns each of them or the older image that it replaces, without gradients.

        Until the pool is full, the new images are returned.
        """
        if self.size == 0:
            return images.detach()
        chosen = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                chosen.append(image)
            elif rng.random() < 0.5:
                place = int(rng.integers(self.size))
                chosen.append(self.images[place])
                self.images[place] = image.clone()
            else:
                chosen.append(image)
        return torch.stack(chosen)

    def state(self) -> list[torch.Tensor]:
        """Return the stored images, for saving."""
        return [image.cpu() for image in self.images]

    def restore(self, images: list[torch.Tensor], device: torch.device) -> None:
        """Restore the images returned by :meth:`state`."""
        self.images = [image.to(device) for image in images]
