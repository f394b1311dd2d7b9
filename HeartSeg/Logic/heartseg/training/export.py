"""Write trained networks as an nnU-Net v2 model folder for stock nnU-Net and HeartSeg.

``python -m heartseg.training.export --run DIR --out Models/HeartSeg-Default``
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from heartseg.hashes import sha256_of
from heartseg.synthesis.hearts import RESERVED_SUBJECTS, TRAINING_SUBJECTS, VALIDATION_SUBJECTS

from .stages import CLASS_KEYS, FINDER, FINE, LABELS, NETWORK_CLASS, SIZES, Stage, architecture_kwargs

VERSION = "0.6.0"
MARGIN_MM = 8.0
WEIGHT_STEPS = 127
"""Largest multiple of the rounding step of a filter; see :func:`coarser`."""
CHECKPOINT = "fold_0/checkpoint_final.pth"

CITATION = [
    "Rodero C, Strocchi M, Marciniak M, et al. Linking statistical shape models and simulated function in the healthy "
    "adult human heart. PLOS Comput Biol 2021;17(4):e1008851 (shape model; its repository calls the code openly "
    "available, the parent data set is Zenodo 4590294; its licence could not be verified here)",
    "Wasserthal J, Breit HC, Meyer MT, et al. TotalSegmentator: Robust Segmentation of 104 Anatomic Structures in CT "
    "Images. Radiol Artif Intell 2023;5(5):e230024 (trunk atlas: data set v2, subject s0327, CC BY 4.0)",
    "Isensee F, Jaeger PF, Kohl SAA, et al. nnU-Net: a self-configuring method for deep learning-based biomedical "
    "image segmentation. Nat Methods 2021;18:203-211 (network and folder format)",
]
LICENCE = (
    "Apache-2.0 (weights); made from label maps of the shape model of Rodero et al. 2021, whose licence could not be "
    "verified here, and of TotalSegmentator data set v2 subject s0327, CC BY 4.0"
)
INTENDED_USE = "research use only, not a medical device"
KNOWN_FAILURES = [
    "streaks and unmixed contrast medium beside a dense superior vena cava: the border between right atrium and right "
    "ventricle may be misplaced, and moves with the window around the heart",
    "the myocardium comes out 5 % too large on synthetic scans (median of 16; single scans -14 to +26 %); in CT, what "
    "lies in fat or lung is cut away afterwards, in MR not",
    "without contrast, or with all pools alike, chamber borders are guesses from the outline",
    "MR stacks of a few thick oblique slices may give no heart or half of one",
    "a scan in which the finder looks at the wrong place, and the heart is not in its middle, may be said to hold no "
    "heart",
    "hearts unlike the shape model's 19 healthy adults (congenital disease, aneurysms) were never seen",
    "the ascending aorta and the pulmonary artery may end earlier or later than a reader would end them",
    "one trunk is behind all whole-body training scenes: unusual bodies may confuse the finder",
]


def describe(finder: Stage, fine: Stage) -> str:
    """One-line description of a model."""
    return (
        "Whole heart in CT and MR, learnt from synthetic images alone: "
        f"a {finder.spacing:g} mm network finds the heart, a {fine.spacing:g} mm network ({fine.patch} voxels, "
        f"{fine.patch * fine.spacing:g} mm) segments it. "
        "No real scan was trained on."
    )


def plans_for(stage: Stage) -> dict[str, Any]:
    """Plans of a stage in the format of nnunetv2 2.x; axes z, y, x."""
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": f"HeartSegPlans_{stage.name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": stage.batch,
        "patch_size": [stage.patch] * 3,
        "median_image_size_in_voxels": [float(stage.patch)] * 3,
        "spacing": [stage.spacing] * 3,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": dict(resampling),
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": dict(resampling),
        "architecture": {
            "network_class_name": NETWORK_CLASS,
            "arch_kwargs": architecture_kwargs(stage.features),
            "_kw_requires_import": list(CLASS_KEYS),
        },
        "batch_dice": True,
    }
    return {
        "dataset_name": "Dataset901_HeartSegSynthetic",
        "plans_name": "HeartSegPlans",
        "original_median_spacing_after_transp": [stage.spacing] * 3,
        "original_median_shape_after_transp": [stage.patch] * 3,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5"), 0.0)
            | {"std": 1.0}
        },
    }


def dataset_card(n_scenes: int) -> dict[str, Any]:
    """Content of nnU-Net's ``dataset.json``."""
    return {
        "channel_names": {"0": "image"},
        "labels": dict(LABELS),
        "numTraining": n_scenes,
        "file_ending": ".nii.gz",
        "name": "HeartSegSynthetic",
        "description": "synthetic images of shape-model hearts",
    }


def write_stage(stage: Stage, weights: dict[str, torch.Tensor], folder: Path, n_scenes: int) -> Path:
    """Write plans, ``dataset.json`` and checkpoint (float16 weights, four keys); returns the checkpoint path."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "plans.json", plans_for(stage))
    _write_json(folder / "dataset.json", dataset_card(n_scenes))
    path = folder / CHECKPOINT
    path.parent.mkdir(exist_ok=True)
    checkpoint = {
        "network_weights": half_precision(weights),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    path.write_bytes(deflated(buffer))
    return path


def deflated(archive: io.BytesIO) -> bytes:
    """Compress the entries of a zip archive written by torch; torch can still read it.

    The size limit of a clone counts the working files as well as the history, and only the history is compressed.
    """
    smaller = io.BytesIO()
    with zipfile.ZipFile(archive) as before, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            after.writestr(zipfile.ZipInfo(entry.filename), before.read(entry), zipfile.ZIP_DEFLATED, 9)
    return smaller.getvalue()


def half_precision(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return float16 copies of the :func:`coarser` weights; tensors that share memory continue to do so.

    nnU-Net lists some layers under two names, which share memory.
    """
    copies: dict[int, torch.Tensor] = {}
    for tensor in weights.values():
        if tensor.data_ptr() not in copies:
            copies[tensor.data_ptr()] = coarser(tensor.detach().float()).half().contiguous()
    return {name: copies[tensor.data_ptr()] for name, tensor in weights.items()}


def coarser(kernel: torch.Tensor) -> torch.Tensor:
    """Round each filter (first axis) of a kernel to multiples of a power of two, at most 127; other tensors stay.

    float16 represents these numbers exactly, and git and zip compress them to 60 % of the size, which matters because a
    repository keeps all versions of the weights. The mean Dice of 0.5.0 on validation scenes and on the development CT
    changed by less than 0.001.
    """
    if kernel.dim() < 5:
        return kernel
    largest = kernel.abs().amax(tuple(range(1, kernel.dim())), keepdim=True).clamp(min=1e-12)
    step = torch.exp2(torch.ceil(torch.log2(largest / WEIGHT_STEPS)))
    return (kernel / step).round() * step


def model_card(
    *,
    description: str,
    trained_on: dict[str, Any],
    tested_on: list[dict[str, Any]],
    files: dict[str, str],
    finder: bool,
) -> dict[str, Any]:
    """Content of ``heartseg.json`` for the model folder or for the finder inside it."""
    return {
        "schema": "heartseg-model-1",
        "name": "HeartSeg-Default-finder" if finder else "HeartSeg-Default",
        "version": VERSION,
        "description": description,
        "modalities": ["CT", "MR"],
        "labels": {str(v): k for k, v in LABELS.items() if v},
        "orientation": "LPS",
        "configuration": "3d_fullres",
        "finder": None if finder else "finder",
        "margin_mm": MARGIN_MM,
        "normalization_extent": "scan" if finder else "crop",
        "upper_percentile": (FINDER if finder else FINE).upper_percentile,
        "trained_on": trained_on,
        "tested_on": tested_on,
        "licence": LICENCE,
        "citation": CITATION,
        "files": files,
        "known_failures": KNOWN_FAILURES,
        "intended_use": INTENDED_USE,
    }


def export_model(
    run: Path,
    out: Path,
    facts: dict[str, Any],
    tested_on: list[dict[str, Any]],
    stages: tuple[Stage, Stage],
    finder: Path | None = None,
) -> None:
    """Write a model folder with the averaged weights of a training run.

    Args:
        run: working folder of :mod:`heartseg.training.default`, with ``finder/snapshot.pt`` and ``fine/snapshot.pt``.
        out: model folder to write.
        facts: entries of ``trained_on`` in the card, in addition to those of the snapshots.
        tested_on: test results for the card.
        stages: finder and fine network.
        finder: a model folder whose finder is copied, if the run trained only the fine network.
    """
    n_scenes = int(facts.get("scenes", 0))
    trained = dict(facts)
    if finder is not None:
        if finder.resolve() != out.resolve():
            shutil.copytree(finder / "finder", out / "finder", dirs_exist_ok=True)
        inner = json.loads((out / "finder" / "heartseg.json").read_text(encoding="utf-8"))
        trained["finder"] = inner["trained_on"]["finder"] | {"of_model": inner["version"]}
    for stage in stages:
        if finder is not None and stage.name == "finder":
            continue
        snapshot = torch.load(run / stage.name / "snapshot.pt", weights_only=True, map_location="cpu")
        trained[stage.name] = {
            "steps": int(snapshot["step"]),
            "hours": round(float(snapshot["seconds"]) / 3600, 2),
            "batch": snapshot.get("batch", stage.batch),
            "voxel_mm": stage.spacing,
            "patch": stage.patch,
            "device": snapshot.get("device", "CPU, 1 thread"),
        }
        write_stage(stage, snapshot["weights"], out / "finder" if stage.name == "finder" else out, n_scenes)
    finder_hash, fine_hash = sha256_of(out / "finder" / CHECKPOINT), sha256_of(out / CHECKPOINT)
    if finder is None:
        inner = model_card(
            description=f"Finds the heart in whole scans at {stages[0].spacing:g} mm, for HeartSeg-Default.",
            trained_on=trained,
            tested_on=[],
            files={CHECKPOINT: finder_hash},
            finder=True,
        )
        _write_json(out / "finder" / "heartseg.json", inner)
    card = model_card(
        description=describe(*stages),
        trained_on=trained,
        tested_on=tested_on,
        files={CHECKPOINT: fine_hash, f"finder/{CHECKPOINT}": finder_hash},
        finder=False,
    )
    _write_json(out / "heartseg.json", card)


def scene_facts(scenes: Path, seed: int) -> dict[str, Any]:
    """Describe the training scenes of a folder for the model card."""
    kinds: dict[str, int] = {}
    subjects: set[int] = set()
    for card in scenes.glob("*.json"):
        facts = json.loads(card.read_text())
        kinds[facts["kind"]] = kinds.get(facts["kind"], 0) + 1
        if facts["subject"]:
            subjects.add(facts["subject"])
    return {
        "data": "synthetic images only",
        "n": sum(kinds.values()),
        "scenes": sum(kinds.values()),
        "scenes_by_kind": dict(sorted(kinds.items())),
        "shape_subjects": sorted(subjects) or list(TRAINING_SUBJECTS),
        "validation_subjects": list(VALIDATION_SUBJECTS),
        "reserved_subjects": list(RESERVED_SUBJECTS),
        "note": "hearts shot from the shape model with momenta in the space of subjects 1-14 (13 modes); its template "
        "comes from all 19 subjects; one trunk (n = 1), each axis changed by 15 to 25 %",
        "recipe": "heartseg train-default: AdamW, cosine, EMA, cross-entropy + soft Dice, bfloat16",
        "seeds": {"training": seed, "scenes": "their numbers"},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    """Write the model folder of a training run."""
    parser = argparse.ArgumentParser(prog="python -m heartseg.training.export", description=main.__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--scenes", type=Path, required=True, help="folder of the training scenes, for the card")
    parser.add_argument("--tested-on", type=Path, default=None, help="JSON list of test results, for the card")
    parser.add_argument("--note", default="", help="note on this run, for the card")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--finder", type=Path, metavar="MODEL", help="copy the finder of this model folder")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    tested = json.loads(args.tested_on.read_text()) if args.tested_on else []
    facts = scene_facts(args.scenes, args.seed)
    if args.note:
        facts["history"] = args.note
    export_model(args.run, args.out, facts, tested, SIZES[args.size], args.finder)


if __name__ == "__main__":
    main()
