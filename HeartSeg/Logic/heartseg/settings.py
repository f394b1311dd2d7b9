"""Settings of a run: one data class from which the panel, the command line and the report all derive."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .anatomy import KEYS
from .errors import SettingsError

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "float32", "half")
BACKENDS = ("torch", "openvino")


@dataclass(frozen=True)
class Settings:
    """How to segment. The defaults are what most users want.

    Attributes:
        device: ``auto`` takes CUDA, then Apple's MPS, then the CPU; ``cuda:1`` picks a card.
        structures: keys to keep (``("LV", "MYO")``); ``None`` keeps all that the model knows.
        locate: find the heart on a coarse grid first and work only there. Off: the whole image is tiled.
        heart_center: world LPS point ``(x, y, z)``, mm: work in one tile around it instead of searching for the heart.
        reorient: resample into the orientation that the model's card states. Off: the stored axes are used.
        clean_up: keep what anatomy allows per structure (what was removed is listed).
        accurate: average several predictions, which takes several times as long: of the window around the heart,
            shifted and in other grey scales; where a model has no such window, of the mirrored copies it allows.
        tile_step: distance of neighbouring tiles as a share of the tile, in (0, 1].
        precision: ``half`` uses float16/bfloat16 on GPUs that do it well; ``auto`` decides per device.
        backend: ``torch``, or ``openvino`` (CPU only, optional package).
        threads: CPU threads; ``None`` leaves torch's own choice.
        confidence_map: also make a map of how sure the network is of the label that it chose at each voxel.
        label_map: for a model without a card: label value in the model -> structure key.
    """

    device: str = "auto"
    structures: tuple[str, ...] | None = None
    locate: bool = True
    heart_center: tuple[float, float, float] | None = None
    reorient: bool = True
    clean_up: bool = True
    accurate: bool = False
    tile_step: float = 0.5
    precision: str = "auto"
    backend: str = "torch"
    threads: int | None = None
    confidence_map: bool = False
    label_map: tuple[tuple[int, str], ...] | None = None

    def problems(self) -> list[str]:
        """Why these settings cannot work, each with what would be right; empty if they can."""
        found = []
        if self.device.split(":")[0] not in DEVICES:
            found.append(f"device {self.device!r} is unknown: use one of {', '.join(DEVICES)}")
        unknown = [k for k in self.structures or () if k.upper() not in KEYS]
        if unknown:
            found.append(f"structure {', '.join(unknown)} is unknown: choose from {', '.join(KEYS)}")
        if self.structures is not None and not self.structures:
            found.append(f"no structure is chosen: choose from {', '.join(KEYS)}")
        center = self.heart_center
        if center is not None and (len(center) != 3 or not all(math.isfinite(v) for v in center)):
            found.append(f"heart center {center} is no point: give three finite numbers, LPS mm")
        if center is not None and not self.reorient:
            found.append("a heart center needs reorientation, which is off: leave one of the two away")
        if not 0 < self.tile_step <= 1:
            found.append(f"tile step {self.tile_step} is outside (0, 1]: 0.5 is nnU-Net's default")
        if self.precision not in PRECISIONS:
            found.append(f"precision {self.precision!r} is unknown: use one of {', '.join(PRECISIONS)}")
        if self.backend not in BACKENDS:
            found.append(f"backend {self.backend!r} is unknown: use one of {', '.join(BACKENDS)}")
        if self.threads is not None and self.threads < 1:
            found.append(f"threads {self.threads} must be 1 or more")
        return found

    def check(self) -> Settings:
        """Return the settings themselves, or raise :class:`~heartseg.errors.SettingsError` with the first problem."""
        for problem in self.problems():
            raise SettingsError(problem)
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary for the report."""
        return asdict(self)
