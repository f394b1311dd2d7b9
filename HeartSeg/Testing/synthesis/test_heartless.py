"""Bodies without a heart: their content and size, and that they contain no heart."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.canvas import blank_canvas, draw_table
from heartseg.synthesis.heartless import HEART_TISSUES, KINDS, LEAST_VOXELS, SPACING, heartless_body
from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.scenes import HEARTLESS, make_heartless
from heartseg.synthesis.views import draw_finder_view, extract

SEEDS = range(16)
LARGEST = (240, 200, 240)


@pytest.fixture(scope="module")
def bodies() -> list[tuple[np.ndarray, dict[str, object]]]:
    """Return map and facts of a body for each of ``SEEDS``."""
    return [heartless_body(np.random.default_rng(seed)) for seed in SEEDS]


def test_the_same_seed_gives_the_same_body(bodies: list[tuple[np.ndarray, dict[str, object]]]) -> None:
    again, facts = heartless_body(np.random.default_rng(SEEDS[0]))
    assert np.array_equal(again, bodies[0][0])
    assert facts == bodies[0][1]
    assert not any(np.array_equal(again, other) for other, _ in bodies[1:])


def test_every_kind_and_both_endings_occur(bodies: list[tuple[np.ndarray, dict[str, object]]]) -> None:
    counts = Counter(str(facts["kind"]) for _, facts in bodies)
    assert set(counts) == set(KINDS)
    assert {facts["cut"] for _, facts in bodies} == {facts["table"] for _, facts in bodies} == {False, True}


def test_maps_hold_known_tissues_and_have_the_sizes_of_scans(
    bodies: list[tuple[np.ndarray, dict[str, object]]],
) -> None:
    for regions, facts in bodies:
        assert regions.dtype == np.uint8
        assert set(np.unique(regions)) <= {int(r) for r in Region} - {int(Region.UNSEEN)}
        assert all(LEAST_VOXELS <= n <= most for n, most in zip(regions.shape, LARGEST, strict=True))
        body = ~np.isin(regions, (Region.AIR, Region.TABLE))
        assert body.any(), facts


def test_bodies_of_people_have_skin_and_bones_and_no_tissue_of_a_heart(
    bodies: list[tuple[np.ndarray, dict[str, object]]],
) -> None:
    people = [(regions, facts) for regions, facts in bodies if facts["kind"] != "shapes"]
    for regions, facts in people:
        present = set(np.unique(regions).tolist())
        assert present >= {Region.FAT, Region.MUSCLE, Region.CORTICAL_BONE, Region.MARROW}, facts
        assert not present & set(HEART_TISSUES), facts
    assert sum((regions == Region.SKIN).any() for regions, _ in people) > len(people) / 2


def test_a_head_is_as_large_as_heads_are() -> None:
    for seed in range(60):
        regions, facts = heartless_body(np.random.default_rng(seed))
        if facts["kind"] == "head" and not facts["cut"]:
            break
    inside = np.isin(regions, (Region.SOFT_ORGAN, Region.SPINAL_CORD, Region.PANCREAS, Region.BLADDER))
    litres = inside.sum() * SPACING**3 / 1e6
    assert 0.8 < litres < 2.2  # an adult's cranium has 1.1 to 1.7; ours varies more, and the canal of the fluid counts


def test_heart_tissues_in_shapes_never_touch_one_another() -> None:
    from scipy.ndimage import binary_dilation

    seen = 0
    for seed in range(200):
        if np.random.default_rng(seed).choice(list(KINDS), p=list(KINDS.values())) != "shapes":
            continue
        regions, _ = heartless_body(np.random.default_rng(seed))
        present = [t for t in HEART_TISSUES if (regions == t).any()]
        seen += len(present) > 1
        for tissue in present:
            others = np.isin(regions, HEART_TISSUES) & (regions != tissue)
            assert not (binary_dilation(regions == tissue, iterations=2) & others).any(), seed
        if seen >= 4:
            return
    pytest.fail("no body with two heart tissues in 200 seeds")


def test_a_scene_without_a_heart_has_an_empty_target_everywhere() -> None:
    scene = make_heartless(3)
    assert scene.kind == HEARTLESS
    assert not scene.target.any()
    assert np.array_equal(scene.regions, make_heartless(3).regions)


@pytest.mark.parametrize("seed", [0, 3, 11, 12])
@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_the_finder_sees_a_body_and_is_told_that_nothing_is_there(seed: int, kind: str) -> None:
    scene, rng = make_heartless(seed), np.random.default_rng(seed)
    view = draw_finder_view(rng, scene)
    regions, target, seen = extract(scene, view)
    image = render(rng, regions, draw_appearance(rng, kind), view.spacing)
    assert set(target.unique().tolist()) <= {0, IGNORE}
    assert bool((target[seen] == 0).all())
    assert bool(image.isfinite().all())
    assert float(image[seen].std()) > 0


def test_a_canvas_paints_an_ellipsoid_of_the_volume_it_should_have() -> None:
    canvas = blank_canvas(np.random.default_rng(0), (80, 80, 80), SPACING, tilt_degrees=30)
    canvas.ellipsoid(Region.LIVER, (0, 0, 0), (20, 30, 40), rough=0, tilt=(0.4, -0.3, 0.2))
    volume = (canvas.regions == Region.LIVER).sum() * SPACING**3
    # voxels count if their centre is inside: a relative error of about (voxel / radius)^2, far below 1 %
    assert volume == pytest.approx(4 / 3 * np.pi * 20 * 30 * 40, rel=0.01)


def test_a_canvas_paints_a_tube_of_the_volume_it_should_have() -> None:
    canvas = blank_canvas(np.random.default_rng(0), (80, 80, 80), SPACING, tilt_degrees=30)
    canvas.tube(Region.IVC, [(-30, 0, 0), (30, 0, 0)], 10, rough=0)
    volume = (canvas.regions == Region.IVC).sum() * SPACING**3
    assert volume == pytest.approx(np.pi * 100 * 60 + 4 / 3 * np.pi * 1000, rel=0.02)


def test_a_covered_canvas_has_skin_over_fat_and_paints_within_the_body_only() -> None:
    canvas = blank_canvas(np.random.default_rng(0), (60, 60, 60), SPACING, tilt_degrees=0, shift=0)
    canvas.ellipsoid(Region.MUSCLE, (0, 0, 0), (30, 30, 30), rough=0)
    body = canvas.regions > 0
    covered = canvas.cover(skin=3.5, fat=8, uneven=0)
    line = [int(v) for v in covered.regions[30, 30] if v]
    order = [v for i, v in enumerate(line) if i == 0 or v != line[i - 1]]
    assert order == [Region.SKIN, Region.FAT, Region.MUSCLE, Region.FAT, Region.SKIN]
    covered.ellipsoid(Region.LIVER, (0, 0, 0), (60, 10, 60), rough=0)
    assert np.array_equal(covered.regions > 0, body)


def test_a_table_lies_behind_the_body_and_paints_nothing_of_it() -> None:
    canvas = blank_canvas(np.random.default_rng(0), (60, 80, 60), SPACING, tilt_degrees=0, shift=0)
    canvas.ellipsoid(Region.MUSCLE, (0, -20, 0), (30, 20, 30), rough=0)
    before = canvas.regions.copy()
    draw_table(np.random.default_rng(1), canvas.regions)
    table = canvas.regions == Region.TABLE
    assert table.any()
    assert np.array_equal(canvas.regions[~table], before[~table])
    assert np.argwhere(table[:, :, 30])[:, 1].min() >= np.argwhere(before)[:, 1].max()
