"""Semi-supervised training with confident pseudo-labels, for any segmentation network; requires only torch.

Each unlabelled scan gives a weakly augmented view and a strongly augmented version of it. If the network is confident
in the weak view, its prediction is the label of the same voxel in the strong view (FixMatch: Sohn et al., NeurIPS
2020). Strong augmentation changes grey values and erases boxes but does not move voxels. In a training loop::
    loss = supervised_loss(network(images), labels)
    extra = fixmatch_loss(network, unlabelled, settings, step, rng)
    (loss + extra.loss).backward()

Images are (b, c, y, x) or (b, c, z, y, x), scaled to a standard deviation of about 1 (z-score) or to [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf

Network = Callable[[torch.Tensor], "torch.Tensor | Sequence[torch.Tensor]"]
"""A module, or a function that calls one."""


@dataclass(frozen=True)
class FixMatchSettings:
    """Settings of semi-supervised training.

    Attributes:
        threshold: minimum probability of the most likely class for a voxel to get a pseudo-label.
        weight: weight of the unsupervised loss after the ramp-up.
        ramp_steps: steps over which the weight rises from nearly 0 (0: no ramp-up).
        shift: maximum shift of the weak view, as a fraction of each edge.
        contrast: maximum relative change of contrast in the strong view.
        brightness: maximum change of brightness in the strong view, in standard deviations of the image.
        noise: maximum standard deviation of the noise in the strong view, in standard deviations of the image.
        erased: edge length of the erased box, as a fraction of each edge (0: none).
    """

    threshold: float = 0.95
    weight: float = 1.0
    ramp_steps: int = 0
    shift: float = 0.06
    contrast: float = 0.4
    brightness: float = 0.4
    noise: float = 0.3
    erased: float = 0.3

    def __post_init__(self) -> None:
        for name, low, high in (
            ("threshold", 0.0, 1.0),
            ("weight", 0.0, math.inf),
            ("ramp_steps", 0, math.inf),
            ("shift", 0.0, 0.5),
            ("contrast", 0.0, 0.99),
            ("brightness", 0.0, math.inf),
            ("noise", 0.0, math.inf),
            ("erased", 0.0, 0.9),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}: it must be between {low:g} and {high:g}")


@dataclass(frozen=True)
class FixMatchLoss:
    """Result of :func:`fixmatch_loss`.

    Attributes:
        loss: weighted loss, to add to the supervised loss.
        confident: fraction of the voxels with a pseudo-label.
        weight: weight at this step.
    """

    loss: torch.Tensor
    confident: float
    weight: float


def rising_weight(settings: FixMatchSettings, step: int) -> float:
    """Weight at a step: ``weight * exp(-5 (1 - t)^2)``, where t is the completed fraction of the ramp-up.

    Laine and Aila 2017.
    """
    if settings.ramp_steps == 0:
        return settings.weight
    t = min(1.0, step / settings.ramp_steps)
    return settings.weight * math.exp(-5 * (1 - t) ** 2)


def weak_view(images: torch.Tensor, settings: FixMatchSettings, rng: torch.Generator) -> torch.Tensor:
    """Shift each image by a random whole number of voxels along each axis; border values are replicated."""
    views = []
    for image in images:
        reach = [max(0, int(settings.shift * n)) for n in image.shape[1:]]
        shifts = [int(torch.randint(-r, r + 1, (1,), generator=rng)) for r in reach]
        padded = nnf.pad(image[None], [r for r in reversed(reach) for _ in (0, 1)], mode="replicate")[0]
        inside = [slice(r + s, r + s + n) for r, s, n in zip(reach, shifts, image.shape[1:], strict=True)]
        box = (slice(None), *inside)
        views.append(padded[box])
    return torch.stack(views)


def strong_view(images: torch.Tensor, settings: FixMatchSettings, rng: torch.Generator) -> torch.Tensor:
    """Change contrast and brightness, add noise and erase a box to the mean; voxels do not move."""
    n = (len(images), *[1] * (images.dim() - 1))
    around = tuple(range(1, images.dim()))
    mean, spread = images.mean(around, keepdim=True), images.std(around, keepdim=True).clamp(min=1e-6)

    def uniform() -> torch.Tensor:
        return (torch.rand(n, generator=rng) * 2 - 1).to(images)

    noise = (
        torch.randn(images.shape, generator=rng).to(images) * settings.noise * torch.rand(n, generator=rng).to(images)
    )
    z = (images - mean) / spread * (1 + settings.contrast * uniform()) + settings.brightness * uniform() + noise
    view = z * spread + mean
    if settings.erased:
        for image, grey in zip(view, mean, strict=True):
            edges = [max(1, round(settings.erased * size)) for size in image.shape[1:]]
            starts = [
                int(torch.randint(0, size - edge + 1, (1,), generator=rng))
                for size, edge in zip(image.shape[1:], edges, strict=True)
            ]
            box = (slice(None), *(slice(a, a + edge) for a, edge in zip(starts, edges, strict=True)))
            image[box] = grey
    return view


def pseudo_labels(logits: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the most likely class, (b, ...) int64, of logits (b, classes, ...), and a mask of the threshold."""
    likeliest, labels = logits.float().softmax(1).max(1)
    return labels, likeliest >= threshold


def fixmatch_loss(
    network: Network,
    images: torch.Tensor,
    settings: FixMatchSettings,
    step: int,
    rng: torch.Generator,
    teacher: Network | None = None,
) -> FixMatchLoss:
    """Return the unsupervised loss of a batch of unlabelled images.

    The loss is the cross-entropy between the strong view and the confident labels of the weak view, summed over the
    confident voxels and divided by the number of all voxels. A network with few confident voxels therefore learns
    little from its own predictions.

    Args:
        network: returns logits (b, classes, ...), or a list of them at several resolutions, finest first.
        images: (b, c, ...) on the device of the network.
        settings: see :class:`FixMatchSettings`.
        step: training step, for the ramp-up of the weight.
        rng: a CPU generator.
        teacher: network that predicts the pseudo-labels, such as a running average; default: ``network``.

    Returns:
        The loss (with gradients for ``network`` only), the fraction of confident voxels and the weight.
    """
    weight = rising_weight(settings, step)
    weak = weak_view(images, settings, rng)
    with torch.no_grad():
        labels, sure = pseudo_labels(_finest((teacher or network)(weak)), settings.threshold)
    logits = _finest(network(strong_view(weak, settings, rng)))
    entropy = nnf.cross_entropy(logits.float(), labels, reduction="none")
    return FixMatchLoss(weight * (entropy * sure).mean(), float(sure.float().mean()), weight)


def _finest(outputs: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]
