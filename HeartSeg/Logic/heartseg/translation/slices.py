"""Volumes as stacks of axial slices in [-1, 1], kept on disk, and unpaired samples of them.

"Axial" are the slices across the stored axis that lies nearest to head and feet; nothing is interpolated between them.
In the plane they are resampled to square pixels of one size, since the networks know tissue by its texture too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf

from ..errors import InputError, OutputError
from ..progress import Reporter
from ..volume import Volume, read_volume, to_nearest_lps
from ..volume.checks import check_path
from ..volume.values import ValueScale, value_scale
from .presets import Settings

MODALITIES = ("MR", "CT")
FEWEST_SCANS = 2
SLAB = 16
"""Slices that are resampled at once, to keep temporary arrays small."""
_EMPTY, _FULL_SHARE = -0.9, 0.05


@dataclass(frozen=True)
class Scaling:
    """From grey values to [-1, 1] and back.

    Attributes:
        kind: ``window`` (the same values for every volume, HU) or ``percentiles`` (of each volume's own values).
        low, high: HU, or percentiles, that become -1 and 1; what lies beyond is cut off.
        typical: grey values that -1 and 1 stand for on the way back: the window, or the mean of the training volumes'.
    """

    kind: str
    low: float
    high: float
    typical: tuple[float, float]

    def limits(self, array: np.ndarray) -> tuple[float, float]:
        """Return grey values of this volume that become -1 and 1."""
        if self.kind == "window":
            return self.low, self.high
        sample = array.reshape(-1)[:: max(1, array.size // 1_000_000)]
        low, high = (float(v) for v in np.percentile(sample, (self.low, self.high)))
        return low, max(high, low + 1e-6)

    def back(self, unit: np.ndarray) -> np.ndarray:
        """Return typical grey values of [-1, 1], float32."""
        low, high = self.typical
        return ((unit.astype(np.float32) + 1) * np.float32(0.5 * (high - low)) + np.float32(low)).astype(np.float32)


def to_unit(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Return grey values as float32 in [-1, 1]; beyond the limits they are cut off."""
    low, high = limits
    return np.clip((array.astype(np.float32) - low) * (2 / (high - low)) - 1, -1, 1)


def new_scaling(modality: str, settings: Settings) -> Scaling:
    """How scans of a modality are scaled in a training, before any has been seen."""
    if modality == "CT":
        low, high = settings.ct_window
        return Scaling("window", low, high, (low, high))
    low, high = settings.mr_percentiles
    return Scaling("percentiles", low, high, (0.0, 1.0))


def check_modality(volume: Volume, modality: str, way_out: str) -> None:
    """Refuse a scan that cannot be of this modality, by its DICOM tag or its values.

    Raises:
        InputError: says why, and ``way_out``.
    """
    if volume.modality and volume.modality != modality:
        raise InputError(f"{volume.name!r} is {volume.modality} by its DICOM tag, not {modality}: {way_out}")
    lowest = float(volume.array.min())
    if modality == "MR" and value_scale(volume.array) is ValueScale.HOUNSFIELD:
        raise InputError(f"{volume.name!r} has values down to {lowest:g} and must be CT in HU, not MR: {way_out}")
    if modality == "CT" and value_scale(volume.array, "CT") is not ValueScale.HOUNSFIELD:
        raise InputError(f"{volume.name!r} is not in HU (its lowest value is {lowest:g}), as CT must be: {way_out}")


def pixels(count: int, spacing: float, wanted: float) -> int:
    """Return pixels of ``wanted`` mm that an edge of ``count`` pixels of ``spacing`` mm is resampled to."""
    return max(1, round(count * spacing / wanted))


def resample(slices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return slices (n, y, x) resampled to ``size`` (y, x) over the same field of view, float32.

    Bilinear; averaged over the area where the new pixels are larger.
    """
    if slices.shape[1:] == size:
        return slices.astype(np.float32)
    out = np.empty((len(slices), *size), np.float32)
    for start in range(0, len(slices), SLAB):
        slab = torch.from_numpy(slices[start : start + SLAB].astype(np.float32))[:, None]
        out[start : start + SLAB] = nnf.interpolate(slab, size, mode="bilinear", antialias=True)[:, 0].numpy()
    return out


def stack_of(volume: Volume, scaling: Scaling, spacing: float) -> tuple[np.ndarray, tuple[float, float]]:
    """A volume's axial slices (n, y, x), float32 in [-1, 1], axes P and L, pixels of ``spacing`` mm; and its limits."""
    flip, turned = to_nearest_lps(volume.geometry)
    limits = scaling.limits(volume.array)
    slices = to_unit(flip.apply(volume.array), limits)
    x, y, _ = turned.spacing
    size = (pixels(turned.shape[1], y, spacing), pixels(turned.shape[2], x, spacing))
    return resample(slices, size), limits


@dataclass(frozen=True)
class Domain:
    """All slices of one modality.

    Attributes:
        modality: ``MR`` or ``CT``.
        files: one ``.npy`` a scan, float16 (n, y, x).
        places: (file, slice) of every slice that is not nearly empty.
        scaling: with the scans' typical grey values.
    """

    modality: str
    files: tuple[Path, ...]
    places: tuple[tuple[int, int], ...]
    scaling: Scaling

    def slice(self, place: int) -> np.ndarray:
        """Return one slice (y, x), float32."""
        file, row = self.places[place]
        return np.load(self.files[file], mmap_mode="r")[row].astype(np.float32)

    def batch(self, seed: int, step: int, count: int, patch: int) -> torch.Tensor:
        """The slices that this step sees, (count, 1, patch, patch): they depend on seed, step and the scans alone."""
        rng = np.random.default_rng([seed, step, MODALITIES.index(self.modality)])
        chosen = [fit(self.slice(int(rng.integers(len(self.places)))), patch, rng) for _ in range(count)]
        return torch.from_numpy(np.stack(chosen)[:, None])


def fit(image: np.ndarray, patch: int, rng: np.random.Generator) -> np.ndarray:
    """A random ``patch`` x ``patch`` window of a slice; a slice that is smaller lies in its middle, -1 around."""
    out = np.full((patch, patch), -1, np.float32)
    take, put = [], []
    for n in image.shape:
        start = int(rng.integers(n - patch + 1)) if n > patch else 0
        inside = min(n, patch)
        take.append(slice(start, start + inside))
        put.append(slice((patch - inside) // 2, (patch - inside) // 2 + inside))
    out[tuple(put)] = image[tuple(take)]
    return out


def padding_share(domain: Domain, patch: int) -> float:
    """Return the share of a patch that is padding, averaged over the scans' slices."""
    inside = [np.load(file, mmap_mode="r").shape[1:] for file in domain.files]
    return float(np.mean([1 - min(h, patch) * min(w, patch) / patch**2 for h, w in inside]))


def check_scans(scans: Sequence[Path], modality: str) -> None:
    """Refuse paths where nothing is, and fewer than two scans, before any is read.

    Raises:
        InputError: says which, or how many.
    """
    for scan in scans:
        check_path(scan)
    if len(scans) < FEWEST_SCANS:
        raise InputError(
            f"{len(scans)} {modality} scan given ({', '.join(str(s) for s in scans) or 'none'}): needs at least "
            f"{FEWEST_SCANS}, the more the better"
        )


def prepare(scans: Sequence[Path], modality: str, settings: Settings, folder: Path, reporter: Reporter) -> Domain:
    """Read scans once and keep their slices in ``folder``; those that are there already are not read again.

    Raises:
        InputError: a scan cannot be read, is not of the modality, or has no slice with content; fewer than two scans.
        OutputError: the slices cannot be written.
    """
    check_scans(scans, modality)
    scaling = new_scaling(modality, settings)
    files: list[Path] = []
    places: list[tuple[int, int]] = []
    limits: list[list[float]] = []
    with reporter.stage(f"read {modality}", len(scans)):
        for number, scan in enumerate(scans):
            file, card = _kept(scan, modality, scaling, settings.spacing, folder)
            files.append(file)
            places += [(number, int(row)) for row in card["rows"]]
            limits.append(card["limits"])
            reporter.advance(number + 1)
    if modality == "MR":
        low, high = (float(v) for v in np.mean(limits, 0))
        scaling = Scaling(scaling.kind, scaling.low, scaling.high, (low, high))
    return Domain(modality, tuple(files), tuple(places), scaling)


def _kept(scan: Path, modality: str, scaling: Scaling, spacing: float, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the kept slices of a scan and their card, made if they are not there."""
    name = _key(scan, modality, scaling, spacing)
    file, card = folder / f"{name}.npy", folder / f"{name}.json"
    try:
        if file.is_file():
            return file, json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass  # written again
    volume = read_volume(scan)
    other = MODALITIES[1 - MODALITIES.index(modality)]
    check_modality(volume, modality, f"the MR scans come first and the CT scans second, and no {other} among them")
    slices, limits = stack_of(volume, scaling, spacing)
    rows = np.nonzero((slices > _EMPTY).mean((1, 2)) > _FULL_SHARE)[0]
    if not len(rows):
        raise InputError(
            f"{volume.name!r} has no slice with content inside its grey scale ({limits[0]:g} to "
            f"{limits[1]:g}): leave it out or widen the window"
        )
    facts = {"scan": str(scan), "limits": list(limits), "rows": [int(r) for r in rows]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{name}.part"
        card.write_text(json.dumps(facts), encoding="utf-8")
        with part.open("wb") as stream:
            np.save(stream, slices.astype(np.float16))
        part.replace(file)
    except OSError as error:
        need = slices.size * 2 / 2**20
        raise OutputError(
            f"slices of {volume.name!r} ({need:.0f} MiB) cannot be kept in '{folder}': "
            f"{error.strerror or error}; free some space"
        ) from error
    return file, facts


def _key(scan: Path, modality: str, scaling: Scaling, spacing: float) -> str:
    """Name of the kept slices: changes with the files' place, size and time, and with the scaling and spacing."""
    digest = hashlib.sha256(repr((modality, scaling, spacing)).encode())
    for file in [scan] if scan.is_file() else sorted(p for p in scan.rglob("*") if p.is_file()):
        facts = file.stat()
        digest.update(os.fsencode(file.resolve()) + f"{facts.st_size} {facts.st_mtime_ns}".encode())
    return f"{modality.lower()}-{digest.hexdigest()[:16]}"


def forget(folder: Path) -> None:
    """Remove the kept slices."""
    shutil.rmtree(folder, ignore_errors=True)
