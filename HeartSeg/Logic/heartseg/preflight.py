"""What can be told before a run: is this scan, on this machine, with this model, likely to give a heart?

Every check has a code, a severity, a sentence with the numbers, and, where one step can mend it, the key of a fix. The
engine's own errors stay the last word: a check that says nothing promises nothing. What reading and
:func:`~heartseg.volume.checks.check_volume` find is taken over, not looked for twice.
"""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import HeartSegError, InputError
from .findings import Severity, as_sentence
from .models.cost import tile_cost
from .settings import Settings
from .volume.checks import SHEAR_LIMIT_DEG, available_memory, check_spacing, check_volume, shear_degrees
from .volume.types import Volume

if TYPE_CHECKING:
    from .inference.locate import HeartBox
    from .models.folder import ModelFolder
    from .progress import Reporter
    from .volume.geometry import Geometry

PICK_FRAME, RESAMPLE, HARDEN, AS_CT, AS_MR, USE_CPU = (
    "pick-frame",
    "resample",
    "harden-transform",
    "treat-as-ct",
    "treat-as-mr",
    "use-cpu",
)
FIXES = {
    PICK_FRAME: "Take one frame",
    RESAMPLE: "Resample to 1.5 mm",
    HARDEN: "Apply the transform to a copy",
    AS_CT: "It is CT",
    AS_MR: "It is MR",
    USE_CPU: "Use the processor",
}
"""Key of a fix -> what its button says; :data:`OPTIONS` are the same for the command line."""

OPTIONS = {
    PICK_FRAME: "--frame N, or --frame all",
    AS_CT: "--modality CT or MR",
    AS_MR: "--modality CT or MR",
    USE_CPU: "--device cpu",
}
"""Key of a fix -> the option that does it; what has none is done in Slicer."""

RESAMPLED_MM = 1.5
SMALL_FIELD_MM = 110.0
"""Field of view below which part of an adult heart is likely to lie outside: it is about 120 mm long and 80 to 100 mm
wide with its great vessels (the plausible volumes of :mod:`heartseg.anatomy` in one ellipsoid)."""

ANISOTROPIC = 6.0
"""Largest over smallest voxel edge from which slices hide what lies between them: short-axis cine has 5 to 12."""

BORDER_MM = 5.0
"""Distance of the coarse heart to the scan's border below which it counts as cut: less than one voxel (6 mm) of the
default finder."""

CPU_GFLOP_PER_S = 12.0
"""Convolutions of one core, float32: the default model takes 5.1 s for 108 GFLOP and everything else on two cores of an
AMD EPYC (README, "The default model")."""

_HU_AIR = -800.0
_HU_LIMIT = 20000.0
_SIDES = (("right", "left"), ("anterior", "posterior"), ("inferior", "superior"))
_WRITE_RESERVE = 300 * 10**6
_SERIOUSNESS = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


@dataclass(frozen=True)
class Check:
    """One thing told before the run.

    Attributes:
        code: stable identifier in kebab case (docs/reference/preflight.md).
        severity: ``error``: the run will refuse or its result will be useless; ``warning``: look here first.
        message: one sentence with the numbers and the way out.
        fix: key of :data:`FIXES`, or ``""``.
        values: the numbers, JSON-ready.
    """

    code: str
    severity: Severity
    message: str
    fix: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", as_sentence(self.message))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "message": self.message,
            "fix": self.fix,
            "values": self.values,
        }


@dataclass(frozen=True)
class Chosen:
    """What is known of the chosen image beside its voxels.

    Attributes:
        name: for people.
        size: voxels along x, y, z (and further axes); empty where a :class:`Volume` says it.
        components: values per voxel.
        frames: of a time series; 1 for a single volume, or when a frame is chosen.
        transform: kind of the transform above it in the scene: ``""``, ``"rigid"``, ``"scaling"`` (any linear one that
            changes lengths or angles), ``"nonlinear"``.
    """

    name: str = "scan"
    size: tuple[int, ...] = ()
    components: int = 1
    frames: int = 1
    transform: str = ""


@dataclass(frozen=True)
class Machine:
    """What the run would be made on.

    Attributes:
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; ``""`` while torch is missing.
        free_gpu_bytes: of the graphics card, ``None`` where it is not known.
        free_disk_bytes: where the result would be written, ``None`` where nothing is written.
        cores: processor cores that would be used.
        gflop_per_core: speed of one core, 10^9 operations per second.
    """

    device: str = "cpu"
    free_gpu_bytes: int | None = None
    free_disk_bytes: int | None = None
    cores: int = 1
    gflop_per_core: float = CPU_GFLOP_PER_S


def preflight(
    volume: Volume | None,
    model: ModelFolder | None = None,
    settings: Settings | None = None,
    machine: Machine | None = None,
    chosen: Chosen | None = None,
    heart: HeartBox | bool | None = None,
) -> tuple[Check, ...]:
    """Everything there is to tell, the most serious first.

    Args:
        volume: the scan; ``None`` where it cannot be read, and ``chosen`` says why.
        model: the model that would run.
        settings: of the run.
        machine: see :func:`machine_facts`.
        chosen: facts beside the voxels.
        heart: where the finder sees the heart (:func:`look_for_heart`); ``False``: it sees none; ``None``: not looked.
    """
    settings = settings or Settings()
    checks = list(check_chosen(chosen)) if chosen else []
    if volume is not None:
        checks += check_scan(volume, model)
        if not any(c.severity is Severity.ERROR for c in checks):
            checks += check_field_of_view(volume, heart)
    if machine is not None:
        checks += check_machine(volume, model, settings, machine)
    return tuple(sorted(checks, key=lambda c: _SERIOUSNESS[c.severity]))


def check_chosen(chosen: Chosen) -> tuple[Check, ...]:
    """Dimensions, colour, time and the transform above."""
    checks = []
    if chosen.size and (len(chosen.size) < 3 or min(chosen.size[:3]) == 1):
        size = "x".join(map(str, chosen.size))
        checks.append(Check("image-2d", Severity.ERROR, f"'{chosen.name}' is a 2D image ({size}): choose a volume"))
    if chosen.frames > 1:
        text = f"'{chosen.name}' is a time series of {chosen.frames} frames: choose one of them, or all"
        checks.append(Check("time-series", Severity.ERROR, text, PICK_FRAME, {"frames": chosen.frames}))
    elif chosen.components > 1:
        many = chosen.components > 4
        text = f"'{chosen.name}' has {chosen.components} values per voxel: " + (
            "frames of a time series, most likely; take one" if many else "a colour picture; export the grey values"
        )
        values = {"components": chosen.components}
        if many:
            checks.append(Check("time-series", Severity.ERROR, text, PICK_FRAME, values))
        else:
            checks.append(Check("colour", Severity.ERROR, text, values=values))
    return (*checks, *_check_transform(chosen))


def _check_transform(chosen: Chosen) -> tuple[Check, ...]:
    if chosen.transform == "rigid":
        text = f"'{chosen.name}' lies under a transform: the segmentation is put under the same one"
        return (Check("transform-rigid", Severity.INFO, text),)
    if chosen.transform:
        what = "bends it" if chosen.transform == "nonlinear" else "changes its size or angles"
        text = (
            f"'{chosen.name}' lies under a transform that {what}: volumes and diameters would be those before it; "
            "apply it to a copy first"
        )
        if chosen.transform == "nonlinear":
            return (Check("transform-nonlinear", Severity.WARNING, text, HARDEN),)
        return (Check("transform-scaling", Severity.WARNING, text, HARDEN),)
    return ()


def check_scan(volume: Volume, model: ModelFolder | None = None) -> tuple[Check, ...]:
    """Geometry, voxels, and whether they are what the model knows."""
    try:
        checked = check_volume(volume)
    except InputError as error:
        return (Check("scan-refused", Severity.ERROR, str(error), _fix_for_refusal(volume)),)
    fixes = {"memory-tight": RESAMPLE, "direction-sheared": RESAMPLE}
    checks = [Check(f.code, f.severity, f.message, fixes.get(f.code, ""), f.values) for f in checked.findings]
    checks += _check_anisotropy(checked)
    checks += _check_modality(checked, model)
    return tuple(checks)


def _fix_for_refusal(volume: Volume) -> str:
    """Resampling mends a tilted grid, and nothing else that is refused."""
    matrix = volume.geometry.direction_matrix
    try:
        check_spacing(volume.geometry.spacing, volume.name)
    except InputError:
        return ""
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
        return ""
    return RESAMPLE if shear_degrees(matrix) > SHEAR_LIMIT_DEG else ""


def _check_anisotropy(volume: Volume) -> tuple[Check, ...]:
    spacing = volume.geometry.spacing
    ratio = max(spacing) / min(spacing)
    if ratio < ANISOTROPIC:
        return ()
    edges = " x ".join(f"{s:.3g}" for s in spacing)
    text = (
        f"voxels of {edges} mm are {ratio:.0f} times as long as they are wide: between the slices the surfaces are "
        "guesses, and volumes depend on where the slices lie"
    )
    return (Check("spacing-anisotropic", Severity.INFO, text, values={"ratio": round(ratio, 1)}),)


def _check_modality(volume: Volume, model: ModelFolder | None) -> tuple[Check, ...]:
    low, high = float(volume.array.min()), float(volume.array.max())
    hounsfield = low <= _HU_AIR and high < _HU_LIMIT and volume.array.dtype.kind in "if"
    values = {"lowest": low, "highest": high}
    span = f"values of {low:g} to {high:g}"
    modality = volume.modality
    known = model.card.modalities if model is not None and model.card is not None else ()
    checks = []
    if modality and known and modality not in known:
        text = f"the scan is {modality} and model '{model.name if model else ''}' was made for {' and '.join(known)}: "
        checks.append(Check("modality-unknown-to-model", Severity.WARNING, text + "choose another model"))
    if modality == "CT" and not hounsfield:
        wants_hu = model is not None and "CTNormalization" in model.normalization_schemes
        severity = Severity.ERROR if wants_hu else Severity.WARNING
        text = f"the scan is said to be CT, but {span} are no Hounsfield units (air is -1000)"
        end = ", and this model expects them: use the original" if wants_hu else ": use the original if there is one"
        checks.append(Check("not-hounsfield", severity, text + end, "" if wants_hu else AS_MR, values))
    if modality == "MR" and hounsfield:
        text = f"the scan is said to be MR, but {span} look like CT in Hounsfield units: check which it is"
        checks.append(Check("looks-like-ct", Severity.WARNING, text, AS_CT, values))
    if not modality:
        guess, fix = ("CT in Hounsfield units", AS_CT) if hounsfield else ("no CT in Hounsfield units", AS_MR)
        text = f"the scan does not say whether it is CT or MR; {span} look like {guess}: say so"
        checks.append(Check("modality-not-said", Severity.INFO, text, fix, values))
    return tuple(checks)


def check_field_of_view(volume: Volume, heart: HeartBox | bool | None = None) -> tuple[Check, ...]:
    """Whether the scan is large enough for a heart, and whether the coarse heart reaches its border."""
    if heart is False:
        text = "the finder sees no heart in this scan: it may be another body part, cut off, or unlike what it knows"
        return (Check("no-heart-seen", Severity.WARNING, text),)
    if heart is not None and heart is not True:
        return _check_cut(volume, heart)
    extent = volume.geometry.extent_mm
    if min(extent) >= SMALL_FIELD_MM:
        return ()
    size = " x ".join(f"{e:.0f}" for e in extent)
    text = (
        f"the scan covers {size} mm, less than {SMALL_FIELD_MM:g} mm along one axis: part of the heart may lie "
        "outside, and its measures are then too small"
    )
    return (Check("field-of-view-small", Severity.WARNING, text, values={"extent_mm": [round(e, 1) for e in extent]}),)


def _check_cut(volume: Volume, heart: HeartBox) -> tuple[Check, ...]:
    corners = volume.geometry.corners()
    low, high = corners.min(0), corners.max(0)
    sides = []
    for axis in range(3):
        if heart.low[axis] - low[axis] < BORDER_MM:
            sides.append(_SIDES[axis][0])
        if high[axis] - heart.high[axis] < BORDER_MM:
            sides.append(_SIDES[axis][1])
    if not sides:
        return ()
    where = " and ".join(sides) + (" border" if len(sides) == 1 else " borders")
    if sides == ["superior"]:
        text = f"the heart reaches the scan's {where}, as in many cardiac scans: the great vessels end there"
        return (Check("heart-cut", Severity.INFO, text, values={"sides": sides}),)
    text = f"the heart reaches the scan's {where}: what lies outside is missing from volumes and diameters"
    return (Check("heart-cut", Severity.WARNING, text, values={"sides": sides}),)


# --- the machine ------------------------------------------------------------------------------------------------------


def check_machine(
    volume: Volume | None, model: ModelFolder | None, settings: Settings, machine: Machine
) -> tuple[Check, ...]:
    """Disk, graphics memory, and the time on the processor."""
    if not machine.device:
        text = "torch is not installed, which runs the network: install it (in Slicer: the button above)"
        return (Check("packages-missing", Severity.ERROR, text),)
    checks = [*_check_disk(volume, machine)]
    if model is not None and volume is not None and not model.needs_fallback:
        checks += _check_gpu(model, settings, machine) + _check_time(volume, model, settings, machine)
        checks += _check_memory(volume, model, settings)
    return tuple(checks)


def _check_disk(volume: Volume | None, machine: Machine) -> tuple[Check, ...]:
    free = machine.free_disk_bytes
    need = _WRITE_RESERVE + 3 * (volume.array.size if volume is not None else 0)  # two label maps, room for surfaces
    if free is None or free >= need:
        return ()
    text = f"{free / 1e6:.0f} MB are free where files are written and about {need / 1e6:.0f} MB are needed: make room"
    return (Check("disk-nearly-full", Severity.WARNING, text, values={"free_bytes": free, "need_bytes": need}),)


def _finder_of(model: ModelFolder, settings: Settings) -> ModelFolder | None:
    """The model's finder, if a run would ask it."""
    return None if model.over_whole_image(settings.reorient) else model.open_finder()


def gpu_bytes(model: ModelFolder, settings: Settings) -> int | None:
    """Estimate of the graphics memory a run takes at least, or ``None`` for a network that is not understood."""
    finder = _finder_of(model, settings)
    costs = [tile_cost(f) for f in (model, finder) if f is not None]
    per_value = 4 if settings.precision == "float32" else 2
    known = [c.bytes(per_value) for c in costs if c is not None]
    return max(known) + 500 * 10**6 if known else None  # CUDA's context and cuDNN take 300 to 500 MB


def _check_gpu(model: ModelFolder, settings: Settings, machine: Machine) -> tuple[Check, ...]:
    free, need = machine.free_gpu_bytes, gpu_bytes(model, settings)
    if machine.device != "cuda" or free is None or need is None or free >= need:
        return ()
    text = (
        f"the graphics card has {free / 1e9:.1f} GB free and about {need / 1e9:.1f} GB are needed: the run would end "
        "on the processor; close what uses the card, or choose the processor"
    )
    return (Check("gpu-memory-low", Severity.WARNING, text, USE_CPU, {"free_bytes": free, "need_bytes": need}),)


def expected_seconds(volume: Volume, model: ModelFolder, settings: Settings, machine: Machine) -> float | None:
    """Rough time on the processor, or ``None`` for a network that is not understood.

    One tile for a model with a finder (its window around the heart is one tile as a rule), else as many as the whole
    scan needs; with ``accurate`` seven looks, or for a 2D model at most four mirrored copies.
    """
    cost = tile_cost(model)
    if cost is None:
        return None
    finder = _finder_of(model, settings)
    one_window = finder is not None and (settings.locate or settings.heart_center is not None)
    gflop = cost.gflop * (1 if one_window else _tiles(volume.geometry, model, settings.tile_step))
    if settings.accurate:
        gflop *= 4 if model.is_2d else 7
    if one_window and finder is not None and settings.heart_center is None:
        coarse = tile_cost(finder)
        gflop += coarse.gflop * _tiles(volume.geometry, finder, settings.tile_step) if coarse else 0.0
    voxels = volume.array.size
    return (
        gflop / (machine.gflop_per_core * max(1, machine.cores)) + voxels * 1e-8
    )  # sampling and labels: 10 ns a voxel


def whole_image_bytes(volume: Volume, model: ModelFolder, settings: Settings) -> int:
    """Main memory that a run over the whole image takes beside the scan; 0 for a model that looks in a window.

    Sum and weights of the logits, the image on the network's grid, and half a gigabyte for work slab by slab.
    """
    if settings.heart_center is not None or (settings.locate and _finder_of(model, settings) is not None):
        return 0
    return math.prod(_network_grid(volume.geometry, model)) * 4 * (model.num_output_channels + 3) + 2**29


def _network_grid(geometry: Geometry, model: ModelFolder) -> tuple[int, ...]:
    """Voxels of a scan along the network's axes, at the network's spacing."""
    stored = geometry.spacing[::-1]
    wanted = zip(model.transpose_forward, model.as_3d(stored).spacing, strict=True)
    return tuple(max(1, round(geometry.shape[axis] * stored[axis] / spacing)) for axis, spacing in wanted)


def _check_memory(volume: Volume, model: ModelFolder, settings: Settings) -> tuple[Check, ...]:
    need, free = whole_image_bytes(volume, model, settings), available_memory()
    if free is None or need <= free:
        return ()
    text = (
        f"model '{model.name}' goes over the whole image and needs about {need / 2**30:.1f} GiB more memory; "
        f"{free / 2**30:.1f} GiB are free: close other programs or crop the scan around the heart"
    )
    return (Check("memory-tight-for-model", Severity.WARNING, text, values={"need_bytes": need, "free_bytes": free}),)


def _tiles(geometry: Geometry, model: ModelFolder, step: float) -> int:
    """Tiles of a scan with this grid, of all folds, as nnU-Net places them."""
    count = len(model.checkpoints)
    for voxels, tile in zip(_network_grid(geometry, model), model.tile_size, strict=True):
        count *= math.ceil((max(tile, voxels) - tile) / max(1.0, tile * step)) + 1
    return count


def _check_time(volume: Volume, model: ModelFolder, settings: Settings, machine: Machine) -> tuple[Check, ...]:
    seconds = expected_seconds(volume, model, settings, machine) if machine.device == "cpu" else None
    if seconds is None:
        return ()
    about = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{max(1, round(seconds))} seconds"
    severity = Severity.WARNING if seconds >= 600 else Severity.INFO
    text = f"on the processor ({machine.cores} cores) this takes about {about}, give or take a factor of two"
    return (Check("time-on-processor", severity, text, values={"seconds": round(seconds, 1)}),)


def machine_facts(settings: Settings, output: str | Path | None = None) -> Machine:
    """The facts of this machine; imports torch. Never raises: a device that is not there is the engine's to refuse."""
    free = _free_disk(Path(output)) if output is not None else None
    cores = settings.threads or _cores()
    try:
        import torch

        from .inference.devices import choose_device

        device = choose_device(settings.device)
    except ImportError:
        return Machine("", None, free, cores)
    except HeartSegError:
        return Machine("cpu", None, free, cores)
    card = int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None
    return Machine(device.type, card, free, settings.threads or torch.get_num_threads())


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Windows, macOS
        return os.cpu_count() or 1


def _free_disk(folder: Path) -> int | None:
    there = next((p for p in (folder.absolute(), *folder.absolute().parents) if p.is_dir()), None)
    try:
        return shutil.disk_usage(there).free if there else None
    except OSError:
        return None


def look_for_heart(
    volume: Volume, model: ModelFolder, settings: Settings, reporter: Reporter
) -> HeartBox | bool | None:
    """Where the model's finder sees the heart: a box, ``False`` for nowhere, ``None`` for a model without a finder.

    A coarse look at the whole scan: a second or less on a processor, but for loading torch.

    Raises:
        Cancelled: the reporter's token was set.
        HeartSegError: the scan or the model cannot be used.
    """
    if model.needs_fallback or _finder_of(model, settings) is None:
        return None
    from .inference.engine import Engine

    return Engine(model, settings).find_heart(check_volume(volume), reporter) or False
