"""Settings of a run, used by the panel, the command line and the report."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .anatomy import KEYS
from .errors import SettingsError

DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "float32", "half")
BACKENDS = ("auto", "torch", "onnx", "openvino")


@dataclass(frozen=True)
class Settings:
    """Settings of a segmentation run.

    Attributes:
        device: ``auto`` selects CUDA, then MPS (Apple), then the CPU; ``cuda:1`` selects a GPU.
        structures: keys of the structures to keep, e.g. ``("LV", "MYO")``; ``None`` keeps all structures of the model.
        locate: locate the heart on a coarse grid first and segment only the region around it; otherwise, tile the
            whole image.
        heart_center: point in the heart, LPS ``(x, y, z)``, mm; segments one tile around it without a search.
        reorient: resample to the orientation in the model card; otherwise, use the stored axes.
        clean_up: remove components and fill holes by anatomical constraints; the changes are listed.
        accurate: test-time augmentation, several times slower: averages predictions of the window around the heart with
            shifts and other grey scales, or of mirrored copies for a model without such a window.
        tile_step: step between adjacent tiles as a fraction of the tile size, in (0, 1].
        precision: ``half`` is float16 on a CUDA card and bfloat16 on the CPU (not with ONNX Runtime); ``auto``
            decides (:func:`~heartseg.devices.choose_precision`).
        backend: ``torch``; ``onnx`` (ONNX Runtime) or ``openvino``, both on the CPU and without torch for models with a
            graph; ``auto`` selects torch on a graphics card, and on the CPU the fastest that is installed and can run
            the model (:func:`~heartseg.devices.choose_runtime`).
        threads: number of CPU threads; ``None`` uses the default of the backend.
        confidence_map: also compute the confidence of the predicted label at each voxel.
        label_map: label value in the model -> structure key, for a model without a card.
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
    backend: str = "auto"
    threads: int | None = None
    confidence_map: bool = False
    label_map: tuple[tuple[int, str], ...] | None = None

    def problems(self) -> list[str]:
        """Messages about invalid settings; empty if all are valid."""
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
            found.append(f"heart center {center} is not a point: give three finite numbers, LPS, mm")
        if center is not None and not self.reorient:
            found.append(f"heart center {center} needs reorientation, which is off: omit one of them")
        if not 0 < self.tile_step <= 1:
            found.append(f"tile step {self.tile_step} is outside (0, 1]: use 0.5, the default of nnU-Net")
        if self.precision not in PRECISIONS:
            found.append(f"precision {self.precision!r} is unknown: use one of {', '.join(PRECISIONS)}")
        if self.backend not in BACKENDS:
            found.append(f"backend {self.backend!r} is unknown: use one of {', '.join(BACKENDS)}")
        if self.threads is not None and self.threads < 1:
            found.append(f"number of threads {self.threads} is not positive: use 1 or more")
        return found

    def check(self) -> Settings:
        """Return the settings, or raise :class:`~heartseg.errors.SettingsError` with the first problem."""
        for problem in self.problems():
            raise SettingsError(problem)
        return self

    def to_dict(self) -> dict[str, Any]:
        """JSON-serializable dictionary for the report."""
        return asdict(self)
