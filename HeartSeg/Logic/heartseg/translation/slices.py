"""Stacks of axial slices in [-1, 1], cached on disk, and unpaired samples of them.

Axial slices are perpendicular to the stored axis nearest to the head-feet direction; there is no interpolation between
slices. In the plane they are resampled to square pixels of equal size, because the networks also use texture.
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

from ..errors import InputError, writing
from ..progress import Reporter
from ..volume import Volume, read_volume, to_nearest_lps
from ..volume.checks import check_path
from ..volume.values import ValueScale, value_scale
from .presets import Settings

MODALITIES = ("MR", "CT")
FEWEST_SCANS = 2
SLAB = 16
"""Number of slices resampled at once, to keep temporary arrays small."""
_EMPTY, _FULL_SHARE = -0.9, 0.05


@dataclass(frozen=True)
class Scaling:
    """Mapping between grey values and [-1, 1].

    Attributes:
        kind: ``window`` (the same HU for every volume) or ``percentiles`` (of each volume).
        low, high: HU or percentiles mapped to -1 and 1; values outside are clipped.
        typical: grey values of -1 and 1 in the inverse mapping: the window, or the mean over the training volumes.
    """

    kind: str
    low: float
    high: float
    typical: tuple[float, float]

    def limits(self, array: np.ndarray) -> tuple[float, float]:
        """Return the grey values of a volume that map to -1 and 1."""
        if self.kind == "window":
            return self.low, self.high
        sample = array.reshape(-1)[:: max(1, array.size // 1_000_000)]
        low, high = (float(v) for v in np.percentile(sample, (self.low, self.high)))
        return low, max(high, low + 1e-6)

    def back(self, unit: np.ndarray) -> np.ndarray:
        """Map [-1, 1] to typical grey values, float32."""
        low, high = self.typical
        return ((unit.astype(np.float32) + 1) * np.float32(0.5 * (high - low)) + np.float32(low)).astype(np.float32)


def to_unit(array: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Map grey values to float32 in [-1, 1]; values outside the limits are clipped."""
    low, high = limits
    return np.clip((array.astype(np.float32) - low) * (2 / (high - low)) - 1, -1, 1)


def new_scaling(modality: str, settings: Settings) -> Scaling:
    """Return the initial scaling of a modality, before any scan is read."""
    if modality == "CT":
        low, high = settings.ct_window
        return Scaling("window", low, high, (low, high))
    low, high = settings.mr_percentiles
    return Scaling("percentiles", low, high, (0.0, 1.0))


def check_modality(volume: Volume, modality: str, way_out: str) -> None:
    """Check the modality of a scan by its DICOM tag and values.

    Raises:
        InputError: the scan has a different modality; the message ends with ``way_out``.
    """
    if volume.modality and volume.modality != modality:
        raise InputError(f"{volume.name!r} is {volume.modality} by its DICOM tag, not {modality}: {way_out}")
    lowest = float(volume.array.min())
    if modality == "MR" and value_scale(volume.array) is ValueScale.HOUNSFIELD:
        raise InputError(f"{volume.name!r} has values down to {lowest:g}, as CT in HU, not MR: {way_out}")
    if modality == "CT" and value_scale(volume.array, "CT") is not ValueScale.HOUNSFIELD:
        raise InputError(f"{volume.name!r} is not CT in HU (its lowest value is {lowest:g}): {way_out}")


def pixels(count: int, spacing: float, wanted: float) -> int:
    """Return the number of pixels of ``wanted`` mm on an edge of ``count`` pixels of ``spacing`` mm."""
    return max(1, round(count * spacing / wanted))


def resample(slices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resample slices (n, y, x) to ``size`` (y, x) over the same field of view, float32.

    Uses bilinear interpolation, with averaging over the area of larger pixels.
    """
    if slices.shape[1:] == size:
        return slices.astype(np.float32)
    out = np.empty((len(slices), *size), np.float32)
    for start in range(0, len(slices), SLAB):
        slab = torch.from_numpy(slices[start : start + SLAB].astype(np.float32))[:, None]
        out[start : start + SLAB] = nnf.interpolate(slab, size, mode="bilinear", antialias=True)[:, 0].numpy()
    return out


def stack_of(volume: Volume, scaling: Scaling, spacing: float) -> tuple[np.ndarray, tuple[float, float]]:
    """Return axial slices (n, y, x), float32 in [-1, 1], axes P and L, pixels of ``spacing`` mm, and the limits."""
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
        files: one ``.npy`` file per scan, float16 (n, y, x).
        places: (file, slice) of every slice that is not nearly empty.
        scaling: scaling with the typical grey values of the scans.
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
        """Slices of a step, (count, 1, patch, patch); they depend only on seed, step and scans."""
        rng = np.random.default_rng([seed, step, MODALITIES.index(self.modality)])
        chosen = [fit(self.slice(int(rng.integers(len(self.places)))), patch, rng) for _ in range(count)]
        return torch.from_numpy(np.stack(chosen)[:, None])


def fit(image: np.ndarray, patch: int, rng: np.random.Generator) -> np.ndarray:
    """Crop a random ``patch`` x ``patch`` window of a slice; centre a smaller slice and pad it with -1."""
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
    """Return the fraction of padding in a patch, averaged over the scans."""
    inside = [np.load(file, mmap_mode="r").shape[1:] for file in domain.files]
    return float(np.mean([1 - min(h, patch) * min(w, patch) / patch**2 for h, w in inside]))


def check_scans(scans: Sequence[Path], modality: str) -> None:
    """Check that all paths exist and that there are at least two scans, without reading them.

    Raises:
        InputError: a path does not exist, or there are too few scans.
    """
    for scan in scans:
        check_path(scan)
    if len(scans) < FEWEST_SCANS:
        raise InputError(
            f"number of {modality} scans is {len(scans)} ({', '.join(str(s) for s in scans) or 'none'}): give at least "
            f"{FEWEST_SCANS}"
        )


def prepare(scans: Sequence[Path], modality: str, settings: Settings, folder: Path, reporter: Reporter) -> Domain:
    """Read scans and cache their slices in ``folder``; cached scans are not read again.

    Raises:
        InputError: a scan is unreadable, has a different modality or only empty slices, or there are too few scans.
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
    """Return the cached slices of a scan and their card; makes them if necessary."""
    name = _key(scan, modality, scaling, spacing)
    file, card = folder / f"{name}.npy", folder / f"{name}.json"
    try:
        if file.is_file():
            return file, json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass  # the cache is written again
    volume = read_volume(scan)
    other = MODALITIES[1 - MODALITIES.index(modality)]
    check_modality(volume, modality, f"give MR scans first and CT scans second, and no {other} among the {modality}")
    slices, limits = stack_of(volume, scaling, spacing)
    rows = np.nonzero((slices > _EMPTY).mean((1, 2)) > _FULL_SHARE)[0]
    if not len(rows):
        raise InputError(
            f"{volume.name!r} has no slice with content inside its grey scale ({limits[0]:g} to "
            f"{limits[1]:g}): omit it or widen the window"
        )
    facts = {"scan": str(scan), "limits": list(limits), "rows": [int(r) for r in rows]}
    with writing(file):
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{name}.part"
        card.write_text(json.dumps(facts), encoding="utf-8")
        with part.open("wb") as stream:
            np.save(stream, slices.astype(np.float16))
        part.replace(file)
    return file, facts


def _key(scan: Path, modality: str, scaling: Scaling, spacing: float) -> str:
    """Name of the cached slices; it depends on path, size and time of the files, and on scaling and spacing."""
    digest = hashlib.sha256(repr((modality, scaling, spacing)).encode())
    for file in [scan] if scan.is_file() else sorted(p for p in scan.rglob("*") if p.is_file()):
        facts = file.stat()
        digest.update(os.fsencode(file.resolve()) + f"{facts.st_size} {facts.st_mtime_ns}".encode())
    return f"{modality.lower()}-{digest.hexdigest()[:16]}"


def forget(folder: Path) -> None:
    """Remove the cached slices."""
    shutil.rmtree(folder, ignore_errors=True)
