"""What the generators and discriminators are trained with."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf

from .presets import LOSSES


def adversarial_loss(judgement: torch.Tensor, real: bool, kind: str) -> torch.Tensor:
    """Loss of a discriminator's logits that should say ``real``, or not.

    ``lsgan``: (D(x) - 1)^2 or D(x)^2, least squares (Mao et al. 2017). ``log``: -log s(D(x)) or -log(1 - s(D(x))), s
    the logistic function (Goodfellow et al. 2014); with ``real`` true for a generator's own images it is the form that
    does not saturate.

    Raises:
        ValueError: an unknown kind.
    """
    target = torch.full_like(judgement, float(real))
    if kind == "lsgan":
        return nnf.mse_loss(judgement, target)
    if kind == "log":
        return nnf.binary_cross_entropy_with_logits(judgement, target)
    raise ValueError(f"adversarial loss is {kind!r}: it must be one of {', '.join(LOSSES)}")


def edge_loss(image: torch.Tensor, translated: torch.Tensor) -> torch.Tensor:
    """Return one minus the correlation of both images' gradient magnitudes: 0 where every edge stays in its place.

    Insensitive to how strong edges are and which of their sides is bright, since that is what modalities differ in.
    Both are (b, 1, y, x); correlation over the pixels of each image, mean over the images.
    """
    a, b = (_gradient(x).flatten(1) for x in (image, translated))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return 1 - ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-6)).mean()


def _gradient(image: torch.Tensor) -> torch.Tensor:
    down = image[..., 1:, :-1] - image[..., :-1, :-1]
    across = image[..., :-1, 1:] - image[..., :-1, :-1]
    return torch.sqrt(down**2 + across**2 + 1e-6)
