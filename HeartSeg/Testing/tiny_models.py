"""Tiny nnU-Net v2 models for tests: folders that stock nnU-Net can open, trained in seconds on ellipsoids.

The folders follow nnU-Net 2.8.1, which a test verifies; nnunetv2 is not required.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MODEL_FOLDER_NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
INTENSITY_STEP = 150.0
"""Intensity step between labels (background 0, label k at k times this); the SD of the noise is 15."""


def make_tiny_model_folder(
    path: str | Path,
    *,
    labels: Sequence[str] = ("LV", "RV", "MYO"),
    patch: tuple[int, int, int] = (32, 32, 32),
    features: Sequence[int] = (8, 16, 32),
    normalization: str = "ZScoreNormalization",
    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5),
    card: bool = False,
    train_steps: int = 0,
    mirroring_axes: tuple[int, ...] | None = (0, 1, 2),
    anisotropic: bool = False,
    transpose_forward: tuple[int, int, int] = (0, 1, 2),
    residual: bool = False,
    folds: Sequence[int | str] = (0,),
    full_checkpoint: bool = True,
    half: bool = False,
    configurations: Sequence[str] = ("2d", "3d_fullres"),
    configuration: str = "3d_fullres",
    seed: int = 0,
    plan_changes: dict[str, Any] | None = None,
    configuration_changes: dict[str, Any] | None = None,
    dataset_changes: dict[str, Any] | None = None,
) -> Path:
    """Write an nnU-Net v2 model folder to ``path`` and return it.

    Args:
        labels: names of the structures, in label order from 1.
        patch, spacing: (z, y, x) after ``transpose_forward``; voxels and mm.
        features: channels per stage; each stage after the first halves the resolution.
        card: also write ``heartseg.json`` with labels, LPS orientation and the hashes of all files.
        train_steps: number of training steps (see :func:`train_tiny`); 0 keeps the seeded random weights.
        anisotropic: convolve and pool the last two axes only in the first stage (use with e.g. spacing (4, 1, 1)).
        configuration: the trained configuration; "2d" uses the last two axes of patch and spacing.
        full_checkpoint: checkpoint of nnU-Net with optimizer, log and NumPy scalars; else reduced to four keys.
        half: store the weights as float16.
        plan_changes, configuration_changes, dataset_changes: changes to the JSON files, e.g. to make them invalid.
    """
    torch = importlib.import_module("torch")
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    plans = _plans(patch, features, normalization, spacing, anisotropic, transpose_forward, residual, configurations)
    plans.update(plan_changes or {})
    plans["configurations"][configuration].update(configuration_changes or {})
    dataset = {
        "channel_names": {"0": "CT" if normalization == "CTNormalization" else "MR"},
        "labels": {"background": 0, **{name: i + 1 for i, name in enumerate(labels)}},
        "numTraining": 4,
        "file_ending": ".nii.gz",
        **(dataset_changes or {}),
    }
    for name, content in (("plans.json", plans), ("dataset.json", dataset)):
        (path / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for i, fold in enumerate(folds):
        network = build_tiny_network(plans, len(labels) + 1, seed + i, configuration)
        if train_steps:
            train_tiny(network, plans, len(labels), steps=train_steps, seed=seed + i, configuration=configuration)
        weights = {k: v.half() if half else v for k, v in network.state_dict().items()}
        checkpoint = _checkpoint(weights, plans, dataset, fold, mirroring_axes, full_checkpoint, configuration)
        (path / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(checkpoint, path / f"fold_{fold}" / "checkpoint_final.pth")
    if card:
        write_card(path, labels)
    return path


def write_card(path: Path, labels: Sequence[str], name: str = "Tiny", **changes: Any) -> Path:
    """Write ``heartseg.json`` for a folder with these labels (HeartSeg keys) and the hashes of all other files."""
    from heartseg.hashes import sha256_of
    from heartseg.models.card import ModelCard

    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != "heartseg.json")
    card = ModelCard(
        **{
            "name": name,
            "version": "0.1",
            "description": "Tiny test model.",
            "modalities": ("CT", "MR"),
            "labels": {i + 1: key for i, key in enumerate(labels)},
            "orientation": "LPS",
            "files": {p.relative_to(path).as_posix(): sha256_of(p) for p in files},
            **changes,
        }
    )
    return card.write(path)


def build_tiny_network(plans: dict[str, Any], channels: int, seed: int = 0, configuration: str = "3d_fullres") -> Any:
    """Build the network of a configuration with seeded weights."""
    torch = importlib.import_module("torch")
    architecture = plans["configurations"][configuration]["architecture"]
    module, _, name = architecture["network_class_name"].rpartition(".")
    kwargs = dict(architecture["arch_kwargs"])
    for key in architecture["_kw_requires_import"]:
        if kwargs[key] is not None:
            owner, _, attribute = kwargs[key].rpartition(".")
            kwargs[key] = getattr(importlib.import_module(owner), attribute)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network_class = getattr(importlib.import_module(module), name)
        network = network_class(input_channels=1, num_classes=channels, deep_supervision=False, **kwargs)
        network.apply(network.initialize)
    return network


def synthetic_volume(
    labels: int, shape: tuple[int, int, int] = (40, 40, 40), seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Create a noisy image (float32) with one ellipsoid per label, and its uint8 label map, both ``(z, y, x)``.

    The ellipsoids lie on a jittered 2 x 2 x 2 grid and differ in intensity. With three or more labels, the third also
    forms a shell around the first, like the myocardium around the left ventricle.
    """
    rng = np.random.default_rng(seed)
    size = np.array(shape, float)
    grid = np.indices(shape).reshape(3, -1).T
    truth = np.zeros(grid.shape[0], np.uint8)
    corners = np.array([(z, y, x) for z in (0.3, 0.7) for y in (0.3, 0.7) for x in (0.3, 0.7)])

    def draw(label: int, center: np.ndarray, radii: np.ndarray) -> None:
        truth[(((grid - center) / radii) ** 2).sum(1) <= 1] = label

    for label in range(labels, 0, -1):
        center = (corners[(label * 3 - 3) % 8] + rng.uniform(-0.03, 0.03, 3)) * size
        radii = rng.uniform(0.15, 0.19, 3) * size
        if label == 1 and labels >= 3:
            draw(3, center, radii * 1.35)
        draw(label, center, radii)
    truth = truth.reshape(shape)
    image = truth * INTENSITY_STEP + rng.normal(0, 15, shape)
    return image.astype(np.float32), truth


def normalize_tiny(image: np.ndarray, plans: dict[str, Any]) -> np.ndarray:
    """Normalize an image with the scheme of the plans (z-score or CT)."""
    if plans["configurations"]["3d_fullres"]["normalization_schemes"] == ["CTNormalization"]:
        p = plans["foreground_intensity_properties_per_channel"]["0"]
        return (np.clip(image, p["percentile_00_5"], p["percentile_99_5"]) - p["mean"]) / p["std"]
    return (image - image.mean()) / max(float(image.std()), 1e-8)


def train_tiny(
    network: Any,
    plans: dict[str, Any],
    labels: int,
    *,
    steps: int = 100,
    seed: int = 0,
    configuration: str = "3d_fullres",
) -> None:
    """Train in place with Adam, cross-entropy and soft Dice on mirrored crops of three synthetic volumes.

    A 2D network gets every fourth slice of a crop as a batch. If possible, the crops are slightly larger than the
    patch, so that instance normalization sees similar statistics in training and inference. With three labels and 100
    steps, each held-out Dice is above 0.9, in about 8 s on one core.
    """
    torch = importlib.import_module("torch")
    patch = plans["configurations"]["3d_fullres" if "3d_fullres" in plans["configurations"] else "2d"]["patch_size"]
    patch = [8, *patch] if len(patch) == 2 else patch
    shape = tuple(max(40, p + 8) for p in patch)
    side = tuple(min(max(36, p), s) // 4 * 4 for p, s in zip(patch, shape, strict=True))
    cases = [synthetic_volume(labels, shape, seed=1000 + i) for i in range(3)]
    weight = torch.tensor([0.2] + [1.0] * labels)
    images = [torch.from_numpy(normalize_tiny(image, plans)).float() for image, _ in cases]
    truths = [torch.from_numpy(truth.astype(np.int64)) for _, truth in cases]
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    network.train()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads do not help such a small network and are very slow on a busy machine
    for _ in range(steps):
        case = int(rng.integers(len(cases)))
        corner = [int(rng.integers(s - p + 1)) for s, p in zip(shape, side, strict=True)]
        window = tuple(slice(c, c + p) for c, p in zip(corner, side, strict=True))
        flips = [axis for axis in range(3) if rng.random() < 0.5]
        x, y = images[case][window].flip(flips), truths[case][window].flip(flips)
        x, y = (x[::4, None], y[::4]) if configuration == "2d" else (x[None, None], y[None])
        logits = network(x)
        share = torch.softmax(logits, 1)
        target = torch.nn.functional.one_hot(y, labels + 1).movedim(-1, 1)
        axes = [axis for axis in range(logits.ndim) if axis != 1]
        dice = (2 * (share * target).sum(axes) + 1) / ((share + target).sum(axes) + 1)
        loss = torch.nn.functional.cross_entropy(logits, y, weight) + 1 - dice.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    network.eval()


def held_out_dice(network: Any, plans: dict[str, Any], labels: int, seed: int = 5) -> tuple[list[float], list[float]]:
    """Dice and share of all voxels, per label, of the prediction for a held-out volume."""
    torch = importlib.import_module("torch")
    patch = plans["configurations"]["3d_fullres"]["patch_size"]
    shape = tuple(-(-max(40, p) // 8) * 8 for p in patch)
    image, truth = synthetic_volume(labels, shape, seed=seed)
    with torch.inference_mode():
        found = network(torch.from_numpy(normalize_tiny(image, plans)).float()[None, None])[0].argmax(0).numpy()
    dice = [
        2 * ((found == k) & (truth == k)).sum() / max(1, (found == k).sum() + (truth == k).sum())
        for k in range(1, labels + 1)
    ]
    return [float(d) for d in dice], [float((found == k).mean()) for k in range(1, labels + 1)]


class MarkerPayload:
    """Object whose unsafe unpickling creates the folder ``marker``."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def write_pickle_bomb(checkpoint: Path, marker: Path, *, legacy: bool = False) -> Path:
    """Overwrite a checkpoint with one whose unsafe unpickling creates the folder ``marker``.

    ``legacy`` writes a bare pickle instead of torch's zip format.
    """
    torch = importlib.import_module("torch")
    content = {"network_weights": {}, "trainer_name": MarkerPayload(marker), "init_args": {}}
    if legacy:
        checkpoint.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, checkpoint)
    return checkpoint


def zip_folder(folder: Path, archive: Path, prefix: str = "") -> Path:
    """Write the files of a folder to a zip file, below ``prefix`` (empty or ending with ``/``)."""
    with zipfile.ZipFile(archive, "w") as z:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            z.write(file, prefix + file.relative_to(folder).as_posix())
    return archive


def add_to_zip(
    archive: Path, name: str, content: bytes = b"x", *, symlink: bool = False, deflate: bool = False
) -> Path:
    """Append an entry with exactly this name, which may be unsafe."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = ((stat.S_IFLNK if symlink else stat.S_IFREG) | 0o644) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(archive, "a") as z:
        z.writestr(entry, content)
    return archive


def mark_encrypted(archive: Path) -> Path:
    """Set the encryption flag of all entries in the central directory."""
    data = bytearray(archive.read_bytes())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + 8] |= 1
        at = data.find(b"PK\x01\x02", at + 4)
    archive.write_bytes(data)
    return archive


def _plans(
    patch: tuple[int, int, int],
    features: Sequence[int],
    normalization: str,
    spacing: tuple[float, float, float],
    anisotropic: bool,
    transpose_forward: tuple[int, int, int],
    residual: bool,
    configurations: Sequence[str],
) -> dict[str, Any]:
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}

    def configuration(dims: int) -> dict[str, Any]:
        return {
            "data_identifier": f"nnUNetPlans_{'2d' if dims == 2 else '3d_fullres'}",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": list(patch[-dims:]),
            "median_image_size_in_voxels": [float(p) for p in patch[-dims:]],
            "spacing": list(spacing[-dims:]),
            "normalization_schemes": [normalization],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": resampling,
            "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
            "architecture": _architecture(dims, features, anisotropic and dims == 3, residual),
            "batch_dice": False,
        }

    highest = INTENSITY_STEP * 8
    statistics = {
        "max": highest,
        "mean": 300.0,
        "median": 300.0,
        "min": -60.0,
        "percentile_00_5": -50.0,
        "percentile_99_5": highest,
        "std": 200.0,
    }
    return {
        "dataset_name": "Dataset900_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(spacing),
        "original_median_shape_after_transp": list(patch),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose_forward),
        "transpose_backward": [list(transpose_forward).index(i) for i in range(3)],
        "configurations": {name: configuration(2 if name == "2d" else 3) for name in configurations},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }


def _architecture(dims: int, features: Sequence[int], anisotropic: bool, residual: bool) -> dict[str, Any]:
    stages = len(features)
    kernels = [[3] * dims for _ in features]
    strides = [[1] * dims] + [[2] * dims for _ in features[1:]]
    if anisotropic:
        kernels[0] = [1, 3, 3]
        strides[1] = [1, 2, 2]
    blocks = {"n_blocks_per_stage": [1] * stages} if residual else {"n_conv_per_stage": [1] * stages}
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": kernels,
            "strides": strides,
            **blocks,
            "n_conv_per_stage_decoder": [1] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _checkpoint(
    weights: dict[str, Any],
    plans: dict[str, Any],
    dataset: dict[str, Any],
    fold: int | str,
    mirroring_axes: tuple[int, ...] | None,
    full: bool,
    configuration: str,
) -> dict[str, Any]:
    needed = {
        "network_weights": weights,
        "init_args": {"configuration": configuration},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": mirroring_axes,
    }
    if not full:
        return needed
    torch = importlib.import_module("torch")
    arguments = {
        "plans": plans,
        "configuration": configuration,
        "fold": fold,
        "dataset_json": dataset,
        "device": torch.device("cpu"),
    }
    return {
        **needed,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "momentum": 0.99, "params": [0]}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.9)],
            "train_losses": [np.float32(-0.8)],
            "dice_per_class_or_region": [[np.float64(0.9)]],
            "epoch_end_timestamps": [1.0],
        },
        "_best_ema": np.float64(0.9),
        "current_epoch": 1,
        "init_args": arguments,
    }
