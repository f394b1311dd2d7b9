"""Function of the heart from the volumes of its chambers over one cardiac cycle.

End-diastole and end-systole are the frames with the largest and smallest volume of the left ventricle. Frames that do
not fit their neighbours are reported and excluded from all extremes, because a failed frame is usually the largest or
smallest.

The frames must cover the whole cycle in even steps, as in retrospectively gated CT and cine MR; the last frame is the
neighbour of the first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..wording import _, joined
from .grid import Unknown

FEWEST_FRAMES_FOR_FIT = 8
"""Minimum number of frames for this check; with fewer, the steps between frames are as large as errors."""
MISFIT_SHARE = 0.15
"""A frame does not fit if it differs from its neighbours by more than this fraction of the curve's range, and by more
than four robust standard deviations. A curve of a normal heart in 10 frames differs by at most 0.1 of its range."""
MISFIT_SD = 4.0
ROUGH_SHARE = 0.1
"""Frames of a curve that hardly changes, as of the myocardium, disturb it only beyond this fraction of its median."""
MOST_LOST = 0.2
"""Maximum fraction of frames that do not fit or have no volume; above it, the extremes may be among them."""


@dataclass(frozen=True)
class VolumeCurve:
    """Volume of a structure over the cycle.

    Attributes:
        structure: key of the structure.
        volume_ml: volume per frame; ``None`` if the structure is missing or cut off.
        misfits: indices of the frames (from 0) that do not fit their neighbours.
        checked: whether there were enough frames for the check.
        problem: why no frame is used; empty if the curve can be used.
        open_ended: whether a thick last slice still holds the structure in some frame.
    """

    structure: str
    volume_ml: tuple[float | None, ...]
    misfits: tuple[int, ...] = ()
    checked: bool = False
    problem: str = ""
    open_ended: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the reader: frames without a volume, frames that were left out, an open end."""
        notes = []
        missing = [k for k, v in enumerate(self.volume_ml) if v is None]
        if self.problem:
            notes.append(self.problem)
        if self.misfits:
            notes.append(
                _("{frames} left out: no fit with the neighbouring frames").format(frames=_frames(self.misfits))
            )
        if missing:
            notes.append(_("no volume in {frames}").format(frames=_frames(missing)))
        if self.open_ended:
            notes.append(_("the last slice still holds it: part of it may be outside"))
        return tuple(notes)

    @property
    def used(self) -> dict[int, float]:
        """Frame -> volume, without missing values and misfits."""
        if self.problem:
            return {}
        return {k: v for k, v in enumerate(self.volume_ml) if v is not None and k not in self.misfits}

    def at(self, frame: int) -> float | None:
        """Return the volume in a frame; ``None`` if it is missing or does not fit."""
        return self.used.get(frame)


@dataclass(frozen=True)
class VentricularFunction:
    """Function of a ventricle between end-diastole and end-systole of the left ventricle; ``None`` where unknown."""

    edv_ml: float | None
    esv_ml: float | None

    @property
    def stroke_volume_ml(self) -> float | None:
        return None if self.edv_ml is None or self.esv_ml is None else self.edv_ml - self.esv_ml

    @property
    def ejection_fraction_percent(self) -> float | None:
        sv = self.stroke_volume_ml
        return None if sv is None or not self.edv_ml else 100.0 * sv / self.edv_ml


@dataclass(frozen=True)
class AtrialFunction:
    """Largest and smallest volume of an atrium over the cycle; ``None`` where unknown."""

    max_ml: float | None
    min_ml: float | None

    @property
    def emptying_fraction_percent(self) -> float | None:
        if self.max_ml is None or self.min_ml is None or not self.max_ml:
            return None
        return 100.0 * (self.max_ml - self.min_ml) / self.max_ml


@dataclass(frozen=True)
class CardiacFunction:
    """Function over one cycle.

    Attributes:
        frames: number of frames.
        end_diastole, end_systole: indices of the frames (from 0), from the left ventricle.
        curves: structure key -> curve.
        left, right: ventricles.
        left_atrium, right_atrium: atria.
        myocardium_ed_ml, myocardium_es_ml: volume of the myocardium at end-diastole and end-systole.
        cardiac_output_l_min: cardiac output of the left ventricle; ``None`` without a heart rate.
        notes: notes for the reader, such as frames that were left out and missing structures.
    """

    frames: int
    end_diastole: int
    end_systole: int
    curves: Mapping[str, VolumeCurve]
    left: VentricularFunction
    right: VentricularFunction
    left_atrium: AtrialFunction
    right_atrium: AtrialFunction
    myocardium_ed_ml: float | None
    myocardium_es_ml: float | None
    cardiac_output_l_min: float | None
    notes: tuple[str, ...]


def cardiac_function(
    volumes_ml: Mapping[str, Sequence[float | None]],
    heart_rate_bpm: float | None = None,
    open_ended: Collection[str] = (),
) -> CardiacFunction | Unknown:
    """Compute the function from the volumes of all frames of one cycle.

    Args:
        volumes_ml: structure key -> volume per frame, all of the same length; ``None`` if the structure is missing or
            cut off by the border of the scan.
        heart_rate_bpm: beats per minute, if known.
        open_ended: structures that a thick last slice still holds in some frame.

    Returns:
        The function, or the reason why end-diastole and end-systole are unknown.

    Raises:
        ValueError: the structures have different numbers of frames.
    """
    lengths = {len(v) for v in volumes_ml.values()}
    if len(lengths) > 1:
        raise ValueError(f"the curves have {sorted(lengths)} frames: give the same frames of all structures")
    curves = {key: volume_curve(key, values, key in open_ended) for key, values in volumes_ml.items()}
    left = curves.get("LV")
    if left is not None and left.problem:
        return Unknown(_("left ventricle: {problem}").format(problem=left.problem))
    if left is None or len(left.used) < 2:
        return Unknown(_("left ventricle known in fewer than two frames, so end-diastole and end-systole are unknown"))
    used = left.used
    ed, es = max(used, key=lambda k: used[k]), min(used, key=lambda k: used[k])
    ventricles = {k: VentricularFunction(_at(curves, k, ed), _at(curves, k, es)) for k in ("LV", "RV")}
    output = None
    if heart_rate_bpm is not None and ventricles["LV"].stroke_volume_ml is not None:
        output = ventricles["LV"].stroke_volume_ml * heart_rate_bpm / 1000.0
    return CardiacFunction(
        len(left.volume_ml),
        ed,
        es,
        curves,
        ventricles["LV"],
        ventricles["RV"],
        _atrium(curves.get("LA")),
        _atrium(curves.get("RA")),
        _at(curves, "MYO", ed),
        _at(curves, "MYO", es),
        output,
        _notes(curves),
    )


def _at(curves: Mapping[str, VolumeCurve], key: str, frame: int) -> float | None:
    return curves[key].at(frame) if key in curves else None


def _atrium(curve: VolumeCurve | None) -> AtrialFunction:
    used = list(curve.used.values()) if curve is not None else []
    return AtrialFunction(max(used), min(used)) if len(used) >= 2 else AtrialFunction(None, None)


def _notes(curves: Mapping[str, VolumeCurve]) -> tuple[str, ...]:
    notes = [joined(": ", (key, note)) for key, curve in curves.items() for note in curve.notes]
    if not any(c.checked for c in curves.values()):
        notes.append(_("too few frames to find those that do not fit their neighbours"))
    return tuple(notes)


def _frames(numbers: Sequence[int]) -> str:
    return (_("frames {numbers}") if len(numbers) > 1 else _("frame {numbers}")).format(numbers=[*map(str, numbers)])


def volume_curve(structure: str, volume_ml: Sequence[float | None], open_ended: bool = False) -> VolumeCurve:
    """Return the curve of a structure, with the frames that do not fit their neighbours."""
    values = tuple(None if v is None or not math.isfinite(v) else float(v) for v in volume_ml)
    checked = sum(v is not None for v in values) >= FEWEST_FRAMES_FOR_FIT
    misfits, rough = _misfits(values)
    missing = sum(v is None for v in values)
    problem = ""
    if rough > MOST_LOST * len(values):
        share = _("more than {limit:.0f} %").format(limit=100 * MOST_LOST)
        problem = _("{share} of its frames do not fit their neighbours, so its extremes are unknown").format(
            share=share
        )
    elif len(values) - missing > 0 and missing + len(misfits) > MOST_LOST * len(values):
        problem = _("no usable volume in {count} of {total} frames, so its extremes are unknown").format(
            count=missing + len(misfits), total=len(values)
        )
    return VolumeCurve(structure, values, misfits, checked, problem, open_ended)


def _misfits(values: tuple[float | None, ...]) -> tuple[tuple[int, ...], int]:
    """Return the frames that do not fit, removing the worst first, and the number of frames that disturb the curve.

    Many failed frames raise the standard deviation so much that none of them stands out. Therefore the second number
    also counts the remaining frames that differ from their neighbours by more than a smooth curve can.
    """
    kept = [k for k, v in enumerate(values) if v is not None]
    left_out: list[int] = []
    disturbed = 0
    while len(kept) >= FEWEST_FRAMES_FOR_FIT and len(left_out) <= MOST_LOST * len(values):
        known = np.array([values[k] for k in kept], float)
        residual = np.abs(known - _from_neighbours(np.array(kept), known, len(values)))
        spread = 1.4826 * float(np.median(residual))
        low, high = np.quantile(known, (0.1, 0.9))
        share = MISFIT_SHARE * float(high - low)
        worst = int(np.argmax(residual))
        disturbed = int(np.count_nonzero(residual > max(share, ROUGH_SHARE * float(np.median(known)))))
        if residual[worst] <= max(MISFIT_SD * spread, share, 1e-6):
            break
        left_out.append(kept.pop(worst))
        disturbed = 0
    return tuple(sorted(left_out)), len(left_out) + disturbed


def _from_neighbours(frames: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Predict each value from two neighbours on either side by the cubic through them; frames are cyclic."""
    predicted = np.empty(len(values))
    for k in range(len(values)):
        near = [(k + step) % len(values) for step in (-2, -1, 1, 2)]
        at = np.mod(frames[near] - frames[k] + count / 2, count) - count / 2
        weights = [np.prod([-b / (a - b) for b in at if b != a]) for a in at]
        predicted[k] = float(np.dot(weights, values[near]))
    return predicted
