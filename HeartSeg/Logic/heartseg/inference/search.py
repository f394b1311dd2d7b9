"""From the finder's candidates to a window that holds a heart: it follows what it shows, and is believed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from ..volume.geometry import Geometry
from .believe import (
    LOW_AGREEMENT,
    LOW_CONFIDENCE,
    REJECTED_AGREEMENT,
    REJECTED_STORY,
    REJECTED_STORY_ELSEWHERE,
    VOUCHING_CONFIDENCE,
    VOUCHING_STORY,
    agreement,
    confidence,
    same_story,
)
from .locate import HeartBox
from .looks import LOOKS, shifted
from .resample import Sampled, likeliest

if TYPE_CHECKING:
    import torch

MOVES = 3
"""Times that the window follows what the fine network sees, at most."""

_AIR_LIKE_HU = -200.0  # mean of a "heart" below which it is lung or air, where the scan's values look like HU
AIR = "the candidate has the intensity of air"

Look = Callable[..., "tuple[Sampled, torch.Tensor]"]
"""Given a grid: the scan there, and the fine network's logits ``(c, z, y, x)``."""


class Window:
    """What the fine network shows on a grid.

    Attributes:
        grid: LPS-aligned.
        sampled, logits: the scan and the fine network's logits there.
    """

    def __init__(self, grid: Geometry, look: Look, mirrored: bool = False) -> None:
        self.grid = grid
        self.sampled, self.logits = look(grid, mirrored=mirrored)

    @cached_property
    def labels(self) -> torch.Tensor:
        """The likeliest channel, uint8 ``(z, y, x)``."""
        return likeliest(self.logits)

    def is_air(self, modality: str) -> bool:
        """Whether what is labelled is darker than any tissue, in a scan whose values reach down to air in HU."""
        heart = (self.labels > 0) & self.sampled.inside
        if modality == "MR" or not bool(heart.any()) or float(self.sampled.image.min()) > -500:
            return False
        return float(self.sampled.image[heart].mean()) < _AIR_LIKE_HU


class HeartWindow(Window):
    """A window around one of the finder's candidates.

    Attributes:
        box: the candidate.
        agreement: Dice of the coarse and the fine heart.
        confidence: mean probability of what is drawn.
        story: agreement with another window; ``None`` where none was asked.
    """

    def __init__(self, box: HeartBox, grid: Geometry, look: Look) -> None:
        super().__init__(grid, look)
        self.box = box
        self.agreement = agreement(self.labels, grid, box)
        self.confidence = confidence(self.logits)
        self.story: float | None = None

    def ask_another(self, look: Look) -> None:
        """Look once more, a little aside, and compare."""
        aside = shifted(self.grid, LOOKS[0].direction)
        self.story = same_story(self.labels, self.grid, likeliest(look(aside)[1]), aside)

    @property
    def worth_following(self) -> bool:
        """Whether the coarse network confirms it, or the fine one is sure enough to be asked once more."""
        return self.agreement >= REJECTED_AGREEMENT or self.confidence >= VOUCHING_CONFIDENCE

    @property
    def vouched_for(self) -> bool:
        """Whether the fine network alone is sure, from two windows."""
        return self.confidence >= VOUCHING_CONFIDENCE and (self.story or 0.0) >= VOUCHING_STORY

    def doubts(self, modality: str) -> str:
        """Why this is no heart; ``""`` if it is believed."""
        if self.agreement < REJECTED_AGREEMENT and not self.vouched_for:
            return f"a candidate was found, but the fine network rejects it (agreement {self.agreement:.2f})"
        if self.agreement < LOW_AGREEMENT and self.confidence < LOW_CONFIDENCE:
            return (
                f"a candidate was found, but both networks doubt it (agreement {self.agreement:.2f}, mean probability "
                f"{self.confidence:.2f})"
            )
        needed = REJECTED_STORY if self.box.grey_scale == 1 else REJECTED_STORY_ELSEWHERE
        if self.story is not None and self.story < needed:
            return f"a candidate was found, but two windows around it do not agree ({self.story:.2f})"
        return AIR if self.is_air(modality) else ""


def find_heart_window(
    candidates: Iterable[HeartBox],
    around: Callable[[HeartBox], Geometry],
    better: Callable[[HeartWindow], Geometry | None],
    look: Look,
    modality: str,
) -> tuple[HeartWindow | None, str]:
    """The window around the first candidate that is a heart, or ``None`` and why there is none.

    Args:
        candidates: the finder's, best first; taken one by one, as each may cost a run of the finder. One that the
            finder does not see (:func:`~.locate.middle_of`) must be vouched for, and is no reason if it is not.
        around: the grid for a candidate.
        better: a grid in whose middle the heart would lie, or ``None`` if it does so already.
        look: the fine network.
        modality: of the scan.
    """
    why = "no candidate was found"
    for box in candidates:
        window = HeartWindow(box, around(box), look)
        if window.worth_following:
            window = _followed(window, better, look)
            if window.agreement < LOW_AGREEMENT or box.grey_scale != 1:
                window.ask_another(look)
        doubts = window.doubts(modality)
        if not doubts:
            return window, ""
        why = doubts if box.seen else why
    return None, why


def _followed(window: HeartWindow, better: Callable[[HeartWindow], Geometry | None], look: Look) -> HeartWindow:
    """The window after it has followed what the fine network sees until it stays."""
    for _ in range(MOVES):
        grid = better(window)
        if grid is None:
            break
        window = HeartWindow(window.box, grid, look)
    return window
