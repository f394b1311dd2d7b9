"""The shape model: shooting satisfies its equations and reproduces the subjects of the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from heartseg.synthesis.hearts import RESERVED_SUBJECTS, TRAINING_SUBJECTS, VALIDATION_SUBJECTS, draw_shape
from heartseg.synthesis.shape import (
    MomentaSpace,
    NodeGrid,
    ShapeModel,
    backward_map,
    draw_coefficients,
    draw_momenta,
    sample_template,
    shoot,
)
from heartseg.synthesis.source import Source


def model_of(control_points: list, width: float, steps: int) -> ShapeModel:
    points = np.array(control_points, np.float32)
    template = np.zeros((4, 4, 4), np.uint8)
    return ShapeModel(template, 1.0, np.zeros(3), points, np.zeros((19, *points.shape), np.float32), width, steps)


def grid_around(model: ShapeModel) -> NodeGrid:
    return NodeGrid.around(model.origin, model.origin + np.array(model.template.shape) * model.spacing, 28.0)


def voxel_centres(shape: tuple[int, ...], spacing: float, origin: np.ndarray) -> torch.Tensor:
    """Return the positions (3, z, y, x) of the voxels of a grid, mm."""
    lines = [torch.arange(n, dtype=torch.float32) * spacing + float(o) for n, o in zip(shape, origin, strict=True)]
    return torch.stack(torch.meshgrid(*lines, indexing="ij"))


def carry_forward(model: ShapeModel, momenta: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move points (n, 3) along the flow by the sum over control points itself, without a grid."""
    x = points.astype(np.float64)
    for q, p in shoot(model, momenta):
        distance = ((x[:, None] - q.numpy()[None]) ** 2).sum(2)
        x = x + np.exp(-distance / model.kernel_width**2) @ p.numpy() / model.steps
    return x


def test_zero_momenta_give_back_the_template(toy_model: ShapeModel) -> None:
    grid = grid_around(toy_model)
    origin = backward_map(toy_model, np.zeros_like(toy_model.momenta[0]), grid)
    assert torch.equal(origin, grid.points())
    centres = voxel_centres(toy_model.template.shape, toy_model.spacing, toy_model.origin)
    assert np.array_equal(sample_template(toy_model, grid.at(origin, centres)).numpy(), toy_model.template)


def test_a_single_control_point_moves_by_its_momentum_and_takes_the_space_around_it_along() -> None:
    model = model_of([[10.0, 20.0, 30.0]], width=20.0, steps=10)
    push = np.array([[0.0, 0.0, 8.0]], np.float32)
    course = shoot(model, push)
    # K(q, q) = 1 with gradient 0: a constant momentum and a straight path, 0.8 mm in each of ten steps.
    assert course[9][0].numpy() == pytest.approx(np.array([[10, 20, 37.2]]), abs=1e-4)
    assert course[9][1].numpy() == pytest.approx(push)
    grid = NodeGrid.around(np.zeros(3), np.array([20.0, 64.0, 60.0]), 8.0)
    origin = backward_map(model, push, grid)
    moved = torch.tensor([[10.0, 20.0, 38.0]]).T
    # Linear interpolation on 4 mm nodes: at most h^2 / 8 * 2 * 8 / w^2 = 0.08 mm per axis, 0.24 mm in all.
    assert grid.at(origin, moved)[:, 0].numpy() == pytest.approx([10, 20, 30], abs=0.25)
    # At a distance of two widths from the point, the flow has the fraction exp(-4).
    far = torch.tensor([[10.0, 60.0, 38.0]]).T
    assert grid.at(origin, far)[:, 0].numpy() == pytest.approx([10, 60, 38], abs=8 * np.exp(-4) + 0.25)


def test_two_control_points_that_are_pushed_alike_drive_each_other_apart() -> None:
    model = model_of([[0.0, 0.0, 0.0], [0.0, 10.0, 0.0]], width=10.0, steps=2)
    push = np.array([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]], np.float32)
    _, (q, p) = shoot(model, push)
    e = np.exp(-1)
    # dq/dt = 3 (1 + e^-1) each; dp_1/dt = 2 / w^2 (q_1 - q_2) K p_1.p_2 = 0.02 * (-10) * e^-1 * 9 along y; dt = 1/2.
    assert q.numpy() == pytest.approx(np.array([[1.5 * (1 + e), 0, 0], [1.5 * (1 + e), 10, 0]]), abs=1e-4)
    assert p.numpy() == pytest.approx(np.array([[3, -0.9 * e, 0], [3, 0.9 * e, 0]]), abs=1e-4)


def invert(model: ShapeModel, momenta: np.ndarray) -> tuple[float, float]:
    """Return the mean displacement of points (mm), and the maximum error after the backward map (mm)."""
    inside = np.argwhere(model.template > 0)
    start = inside[np.random.default_rng(1).choice(len(inside), 300)] * model.spacing + model.origin
    end = carry_forward(model, momenta, start)
    grid = grid_around(model)
    back = grid.at(backward_map(model, momenta, grid), torch.from_numpy(end.T.astype(np.float32))).numpy().T
    travelled, missed = (np.linalg.norm(v, axis=1) for v in (end - start, back - start))
    return float(travelled.mean()), float(missed.max())


def test_the_backward_map_inverts_the_flow(toy_model: ShapeModel) -> None:
    travelled, missed = invert(toy_model, toy_model.momenta[3])
    assert travelled > 2
    assert missed < 1


@pytest.mark.shared
@pytest.mark.parametrize("subject", [3, 17])
def test_the_real_model_gives_back_its_subjects(real_source: Source, shared_data: Path, subject: int) -> None:
    model = real_source.model
    if subject == 3:
        travelled, missed = invert(model, model.momenta[subject - 1])
        assert travelled > 2
        assert missed < 1
    path = shared_data / "heart-shape-model" / "labelmaps" / f"subject_{subject:02d}.nii.gz"
    kept = sitk.ReadImage(str(path))
    truth = sitk.GetArrayFromImage(kept)[::2, ::2, ::2]
    centres = voxel_centres(truth.shape, 2 * kept.GetSpacing()[0], np.array(kept.GetOrigin()[::-1]))
    grid = grid_around(model)
    made = sample_template(model, grid.at(backward_map(model, model.momenta[subject - 1], grid), centres)).numpy()
    for label in range(1, 7):
        a, b = made == label, truth == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.95, label


def test_fourteen_subjects_span_thirteen_modes_that_hold_each_of_them(toy_model: ShapeModel) -> None:
    space = MomentaSpace.of(toy_model, TRAINING_SUBJECTS)
    assert space.n_modes == 13
    modes = space.modes.reshape(13, -1).astype(float)
    overlap = modes @ modes.T
    assert np.abs(overlap - np.diag(np.diag(overlap))).max() < 1e-4 * overlap.max()
    coefficients = []
    for subject in TRAINING_SUBJECTS:
        wanted = toy_model.momenta[subject - 1]
        found = modes @ (wanted - space.mean).ravel() / np.diag(overlap)
        assert space.at(found) == pytest.approx(wanted, abs=1e-3)
        coefficients.append(found)
    # One unit of a mode is one standard deviation of the subjects.
    assert np.std(coefficients, axis=0, ddof=1) == pytest.approx(np.ones(13), abs=1e-3)


def test_drawn_coefficients_stay_within_three_standard_deviations() -> None:
    drawn = np.stack([draw_coefficients(np.random.default_rng(seed), 13) for seed in range(400)])
    assert np.abs(drawn).max() == 3
    # Spread U(0.6, 1.5): root mean square sqrt(1.17) = 1.08, a little less for the clipping.
    assert drawn.std() == pytest.approx(1.06, abs=0.06)


def test_new_hearts_hold_nothing_of_subjects_that_are_kept_for_tests(toy_model: ShapeModel) -> None:
    space = MomentaSpace.of(toy_model, TRAINING_SUBJECTS)
    basis = space.modes.reshape(13, -1).astype(float)

    def outside(momenta: np.ndarray) -> float:
        rest = (momenta - space.mean).ravel()
        return float(np.linalg.norm(rest - basis.T @ np.linalg.lstsq(basis.T, rest, rcond=None)[0]))

    for seed in range(40):
        assert outside(draw_momenta(np.random.default_rng(seed), toy_model, space)) < 1e-2
    assert all(outside(toy_model.momenta[s - 1]) > 5 for s in (*VALIDATION_SUBJECTS, *RESERVED_SUBJECTS))


def test_a_subject_is_scaled_by_a_tenth_at_most_and_without_modes_only_training_subjects_are_drawn(
    toy_model: ShapeModel,
) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        share = draw_shape(rng, toy_model, 17) / toy_model.momenta[16]
        assert np.ptp(share) < 1e-4
        assert 0.9 <= share.mean() <= 1.1
        drawn = draw_shape(rng, toy_model, None, frozenset({"modes"}))
        assert any(np.array_equal(drawn, toy_model.momenta[s - 1]) for s in TRAINING_SUBJECTS)


def test_a_source_survives_packing(toy: Source, tmp_path: Path) -> None:
    from heartseg.synthesis.source import load_source, pack_source

    pack_source(toy, tmp_path / "toy.npz")
    opened = load_source(tmp_path / "toy.npz")
    assert np.array_equal(opened.trunk, toy.trunk)
    assert opened.structures == toy.structures
    for field in dataclasses.fields(ShapeModel):
        assert np.array_equal(getattr(opened.model, field.name), getattr(toy.model, field.name)), field.name
    assert not list(tmp_path.glob("*.part"))


def test_a_missing_file_of_the_source_is_named(tmp_path: Path) -> None:
    from heartseg.synthesis.source import load_source

    with pytest.raises(
        FileNotFoundError, match=r"four_chamber_heart\.npz' is missing: give the folder that holds heart"
    ):
        load_source(tmp_path)


@pytest.mark.shared
def test_the_real_source_is_nineteen_subjects_and_a_trunk_with_a_heart(real_source: Source) -> None:
    assert isinstance(real_source, Source)
    assert real_source.model.momenta.shape == (19, 2520, 3)
    assert (real_source.model.kernel_width, real_source.model.steps) == (10.0, 10)
    assert "heart" in real_source.structures.values()
