"""A pool of earlier translations, so that a discriminator does not forget what it has learnt to tell apart."""

from __future__ import annotations

import numpy as np
import torch


class ImagePool:
    """Keeps up to ``size`` translated images; half of what it hands out is older (Shrivastava et al. 2017).

    Args:
        size: images that are kept; 0 hands every image straight through.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self.images: list[torch.Tensor] = []

    def exchange(self, images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Each of the new images (b, 1, y, x), or an older one that it takes the place of, without gradients.

        While the pool fills up, the new images come back.
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
        """Return what it holds, for a file."""
        return [image.cpu() for image in self.images]

    def restore(self, images: list[torch.Tensor], device: torch.device) -> None:
        """Hold what :meth:`state` gave."""
        self.images = [image.to(device) for image in images]
