"""Pictures of the generator's hearts: phases of one beat, and every disease at end-diastole and end-systole.

``python tools/draw_patients.py ../shared/data --beat docs/images/heart-phases.png`` and ``--diseases FILE`` cut each
heart along its own long axis (through both ventricles) and across it, without noise and detail.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from heartseg.synthesis.disease import DISEASES, Condition
from heartseg.synthesis.flow import Frame, Heart3D, frame_of, parts_of
from heartseg.synthesis.motion import Beat, at_phase
from heartseg.synthesis.patients import Patient, Recipe, draw_patient, end_diastole, healthy_heart
from heartseg.synthesis.shape import ShapeModel, sample_template
from heartseg.synthesis.source import load_source

COLOURS = (
    *("#ffffff", "#d94f4f", "#4f7fd9", "#e8a0a0", "#a0c0f0", "#a05a3c", "#c02090"),
    *("#3cb0b0", "#c8b08c", "#d8c8b0", "#d8c8b0", "#907090", "#609090", "#f0c030"),
)
"""Of labels 0-13: blood, walls and, in yellow, the diseased patch."""
PHASES = (0.0, 0.12, 0.24, 0.36, 0.45, 0.6, 0.8, 0.95)


def cut(heart: Heart3D, frame: Frame, view: str, half: float = 85.0) -> np.ndarray:
    """Labels (y, x) of a plane, 0.8 mm: ``long`` along the axis and through both ventricles, ``short`` across it."""
    line = np.arange(-half, half, 0.8)
    v, u = np.meshgrid(line, line, indexing="ij")
    along, across, beside = frame.axes
    if view == "long":
        middle = frame.apex + (0.75 * frame.length) * along + 15 * across
        points = middle[:, None, None] + along[:, None, None] * v + across[:, None, None] * u
    else:
        middle = frame.apex + 0.5 * frame.length * along + 15 * across
        points = middle[:, None, None] + beside[:, None, None] * v + across[:, None, None] * u
    at = torch.from_numpy(points.astype(np.float32))
    return sample_template(heart.model, heart.nodes.at(heart.origin, at)).numpy()


def show(axes: Axes, heart: Heart3D, frame: Frame, view: str, title: str) -> None:
    axes.imshow(
        cut(heart, frame, view),
        cmap=ListedColormap(COLOURS),
        vmin=-0.5,
        vmax=13.5,
        origin="lower",
        interpolation="nearest",
    )
    axes.set_title(title, fontsize=7)
    axes.axis("off")


def volumes(heart: Heart3D, size: float) -> np.ndarray:
    """mL by label."""
    return parts_of(heart).volumes / 1000 * size**3


def draw_beat_figure(model: ShapeModel, path: Path) -> None:
    """Eight phases of a healthy heart, cut along and across; the planes stay where they are at end-diastole."""
    patient = Patient(np.zeros_like(model.momenta[0]), 1.0, {2: 2.8, 3: 2.0, 4: 2.0}, (), Condition(), Beat())
    heart = end_diastole(healthy_heart(model, patient), patient)
    frame = frame_of(heart, parts_of(heart))
    figure, grid = plt.subplots(2, len(PHASES), figsize=(1.75 * len(PHASES), 3.7))
    for column, phase in zip(grid.T, PHASES, strict=True):
        posed = at_phase(heart, patient.beat, phase)
        v = volumes(posed, 1.0)
        show(column[0], posed, frame, "long", f"{phase:.0%}\nLV {v[1]:.0f} RV {v[2]:.0f} LA {v[3]:.0f} mL")
        show(column[1], posed, frame, "short", "")
    save(figure, path)


def draw_disease_figure(model: ShapeModel, path: Path, names: list[str], seed: int) -> None:
    """One heart of each disease, end-diastole and end-systole."""
    figure, grid = plt.subplots(len(names), 4, figsize=(7.6, 1.95 * len(names)), squeeze=False)
    for row, name in zip(grid, names, strict=True):
        recipe = Recipe((name,), healthy=0.0, second=0.0, small=0.0)
        patient, _ = draw_patient(np.random.default_rng([seed, *name.encode()]), model, None, recipe)
        patient = replace(patient, momenta=np.zeros_like(patient.momenta), bend=())
        heart = end_diastole(healthy_heart(model, patient), patient)
        frame = frame_of(heart, parts_of(heart))
        for k, phase in enumerate((0.0, patient.beat.systole)):
            posed = at_phase(heart, patient.beat, phase, patient.size)
            v = volumes(posed, patient.size)
            title = f"LV {v[1]:.0f} RV {v[2]:.0f} LA {v[3]:.0f} RA {v[4]:.0f} mL, {1.05 * (v[5] + v[13]):.0f} g"
            show(row[2 * k], posed, frame, "long", f"{name}\n{title}" if k == 0 else f"end-systole\n{title}")
            show(row[2 * k + 1], posed, frame, "short", "")
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=90)
    plt.close(figure)
    print(f"{path}: {path.stat().st_size // 1024} kB")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tools/draw_patients.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="data folder (../shared/data)")
    parser.add_argument("--beat", type=Path, help="picture of the phases")
    parser.add_argument("--diseases", type=Path, help="picture of the diseases")
    parser.add_argument("--names", nargs="+", default=list(DISEASES), choices=list(DISEASES))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = load_source(args.data).model
    if args.beat:
        draw_beat_figure(model, args.beat)
    if args.diseases:
        draw_disease_figure(model, args.diseases, args.names, args.seed)


if __name__ == "__main__":
    main()
