"""Loss functions of the generators and discriminators."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf

from .presets import LOSSES


def adversarial_loss(judgement: torch.Tensor, real: bool, kind: str) -> torch.Tensor:
    """Loss of discriminator logits with the target ``real``.

    ``lsgan``: (D(x) - 1)^2 or D(x)^2, least squares (Mao et al. 2017). ``log``: -log s(D(x)) or -log(1 - s(D(x))), with
    the logistic function s (Goodfellow et al. 2014). With ``real`` True for generated images it is the non-saturating
    generator loss.

    Raises:
        ValueError: the kind does not exist.
    """
    target = torch.full_like(judgement, float(real))
    if kind == "lsgan":
        return nnf.mse_loss(judgement, target)
    if kind == "log":
        return nnf.binary_cross_entropy_with_logits(judgement, target)
    raise ValueError(f"adversarial loss is {kind!r}: it must be one of {', '.join(LOSSES)}")


def edge_loss(image: torch.Tensor, translated: torch.Tensor) -> torch.Tensor:
    """Return one minus the correlation of the gradient magnitudes of two images: 0 if all edges coincide.

    It does not depend on the overall strength of edges or on which side is brighter, because these differ between
    modalities. Both images are (b, 1, y, x). The correlation is over the pixels of each image, averaged over images.
    """
    a, b = (_gradient(x).flatten(1) for x in (image, translated))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return 1 - ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-6)).mean()


def _gradient(image: torch.Tensor) -> torch.Tensor:
    down = image[..., 1:, :-1] - image[..., :-1, :-1]
    across = image[..., :-1, 1:] - image[..., :-1, :-1]
    return torch.sqrt(down**2 + across**2 + 1e-6)
