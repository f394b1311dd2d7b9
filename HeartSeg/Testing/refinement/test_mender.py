"""Properties of mending: marks are obeyed, nothing changes elsewhere, right marks help, no islands, undo and redo."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from heartseg.errors import InputError
from heartseg.marks import BACKGROUND, Mark
from heartseg.refinement import METHOD, Mender, Prior
from heartseg.refinement.mender import squared_distance, voxels_of
from heartseg.refinement.topology import without_new_islands
from heartseg.volume import Geometry
from refinement.conftest import RA, RV, Case, make_case

CASE = make_case()
LOW, HIGH = np.zeros(3, int), np.array(CASE.geometry.shape) - 1
index_in_scan = st.tuples(*(st.integers(int(a), int(b)) for a, b in zip(LOW, HIGH, strict=True)))
keys = st.sampled_from(("LV", "RV", "LA", "RA", "MYO", "AO", "PA", BACKGROUND))


@st.composite
def any_mark(draw: st.DrawFn) -> Mark:
    points = tuple(CASE.world(*draw(index_in_scan)) for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))))
    key = draw(keys)
    return Mark(key, points, key == BACKGROUND or draw(st.booleans()))


def obeyed(labels: np.ndarray, marks: list[Mark], geometry: Geometry) -> bool:
    """Whether labels obey marks; a later one overrules at its own voxels."""
    last = {tuple(v): (m.label, m.positive) for m in marks for v in voxels_of(m, geometry).tolist()}
    return all(bool(labels[at] == label) is positive for at, (label, positive) in last.items())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(any_mark(), min_size=1, max_size=4))
def test_every_mark_is_obeyed_and_nothing_changes_outside_of_its_region(marks: list[Mark]) -> None:
    mender = CASE.mender()
    for done, mark in enumerate(marks, 1):
        before = mender.labels.copy()
        change = mender.add(mark)
        outside = np.ones(before.shape, bool)
        outside[change.box] = False
        assert np.array_equal(mender.labels[outside], before[outside])
        assert obeyed(mender.labels, marks[:done], CASE.geometry)
        far = (
            squared_distance(before.shape, change.placed.voxels, CASE.geometry.spacing[::-1])
            > (METHOD.region_mm / 2 + 4) ** 2 * 3
        )
        assert np.array_equal(mender.labels[far], before[far])
    assert mender.labels.dtype == np.uint8
    assert mender.labels.max() <= 7


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("border", [12, 16, 20, 24])
def test_right_marks_never_cost_more_than_half_a_percent(case: Case, border: int, anywhere: bool) -> None:
    """Marks in the middle of the largest error, one after the other, or each of some at any wrong voxel alone."""
    case = replace(case, labels=np.where(case.truth > 0, np.where(np.indices(case.truth.shape)[2] < border, RA, RV), 0))
    mender, rng = case.mender(), np.random.default_rng(border)
    names = {0: BACKGROUND, RA: "RA", RV: "RV"}
    for _ in range(8 if anywhere else 5):
        wrong = mender.labels != case.truth
        if anywhere:
            at = rng.choice(np.flatnonzero(wrong))
        else:
            at = ndimage.distance_transform_edt(wrong, sampling=case.geometry.spacing[::-1]).argmax()
        index = tuple(int(v) for v in np.unravel_index(at, wrong.shape))
        before = np.mean([case.dice(mender.labels, label) for label in (RA, RV)])
        mender.add(Mark(names[int(case.truth[index])], (case.world(*index),)))
        after = np.mean([case.dice(mender.labels, label) for label in (RA, RV)])
        assert after >= before - 0.005
        if anywhere:
            mender.undo()


def test_one_mark_in_the_middle_of_the_error_mends_half_of_it(case: Case) -> None:
    mender = case.mender()
    mender.add(Mark("RA", (case.world(15, 23, 25),)))
    missing = 1 - case.dice(case.labels)
    assert 1 - case.dice(mender.labels) < missing / 2
    assert (mender.labels > 0).sum() == (case.labels > 0).sum()  # the background is not eaten


def test_a_negative_mark_takes_the_next_most_probable_structure(case: Case) -> None:
    mender = case.mender()
    mender.add(Mark("RV", (case.world(15, 23, 25),), positive=False))
    assert mender.labels[15, 23, 25] == RA
    assert case.dice(mender.labels) > case.dice(case.labels) + 0.05
    mender.add(Mark("RA", (case.world(15, 23, 25),), positive=False))  # neither RV nor RA
    assert mender.labels[15, 23, 25] not in (RV, RA)


def test_a_mark_where_the_label_is_right_changes_nothing_and_holds_it(case: Case) -> None:
    mender = case.mender()
    assert mender.add(Mark("RV", (case.world(15, 23, 24),))).voxels == 0
    mender.add(Mark("RA", (case.world(15, 23, 22),)))
    assert mender.labels[15, 23, 24] == RV
    assert mender.labels[15, 23, 22] == RA


def test_a_stroke_is_obeyed_along_its_whole_length_and_reaches_farther_than_a_point(case: Case) -> None:
    point, stroke = case.mender(), case.mender()
    small = point.add(Mark("RA", (case.world(15, 23, 25),)))
    large = stroke.add(Mark("RA", (case.world(15, 12, 25), case.world(15, 36, 25))))
    assert (stroke.labels[15, 12:37, 25] == RA).all()
    assert large.voxels > small.voxels


def test_undo_and_redo_restore_the_labels_bit_by_bit(case: Case) -> None:
    mender, states = case.mender(), [case.labels.copy()]
    for index in ((15, 23, 25), (10, 20, 27), (20, 30, 22)):
        mender.add(Mark("RA", (case.world(*index),)))
        states.append(mender.labels.copy())
    for state in states[-2::-1]:
        assert mender.undo() is not None
        assert np.array_equal(mender.labels, state)
    assert mender.undo() is None and mender.marks == ()
    for state in states[1:]:
        assert mender.redo() is not None
        assert np.array_equal(mender.labels, state)
    assert mender.redo() is None
    mender.undo()
    mender.add(Mark("RA", (case.world(12, 23, 25),)))
    assert mender.redo() is None  # a new mark forgets what was taken back


def test_the_same_marks_give_the_same_labels_again(case: Case) -> None:
    marks = [Mark("RA", (case.world(15, 23, 25),)), Mark("RV", (case.world(15, 23, 34),))]
    first, second = case.mender(), case.mender()
    for mark in marks:
        first.add(mark)
    for mark in first.marks:
        second.add(mark)
    assert np.array_equal(first.labels, second.labels)


def test_a_turned_scan_is_mended_the_same_way() -> None:
    turned = make_case((0, 1, 0, -1, 0, 0, 0, 0, 1))
    mender = Mender(turned.labels, turned.geometry, Prior.unknown())
    straight = Mender(CASE.labels, CASE.geometry, Prior.unknown())
    mender.add(Mark("RA", (turned.world(15, 23, 25),)))
    straight.add(Mark("RA", (CASE.world(15, 23, 25),)))
    assert np.array_equal(mender.labels, straight.labels)


def test_a_mark_outside_of_the_scan_is_refused_and_changes_nothing(case: Case) -> None:
    mender = case.mender()
    with pytest.raises(InputError, match="outside"):
        mender.add(Mark("RA", ((500.0, 0.0, 0.0),)))
    assert mender.marks == () and np.array_equal(mender.labels, case.labels)


def test_held_marks_of_an_earlier_mend_stay_obeyed(case: Case) -> None:
    mender = case.mender()
    mender.hold([Mark("RV", (case.world(15, 23, 27),))])
    assert np.array_equal(mender.labels, case.labels)
    mender.add(Mark("RA", (case.world(15, 23, 25),)))
    assert mender.labels[15, 23, 27] == RV


def test_a_change_leaves_no_island_and_no_crumbs() -> None:
    before = np.zeros((9, 9, 20), np.uint8)
    before[3:6, 3:6, 2:18] = 1
    before[4, 4, 2:6] = 2
    after = before.copy()
    after[4, 4, 6:10] = 2  # grows from what was there
    after[4, 4, 15] = 2  # loose
    after[3:6, 3:6, 12] = 3  # cuts off a short end, x 13 to 17, and has no mark
    kept = np.zeros(before.shape, bool)
    assert np.array_equal(without_new_islands(before, after, kept)[4, 4], [0, 0, *[2] * 8, *[1] * 8, 0, 0])
    kept[4, 4, 12] = kept[4, 4, 15] = True
    with_marks = without_new_islands(before, after, kept)
    assert with_marks[4, 4, 15] == 2 and (with_marks[3:6, 3:6, 12] == 3).all()
    assert ndimage.label(with_marks == 1)[1] == 1  # the end that was cut off is not left alone


def test_voxels_of_a_stroke_are_a_chain(case: Case) -> None:
    voxels = voxels_of(Mark("RA", (case.world(2, 3, 4), case.world(20, 30, 9), case.world(20, 5, 40))), case.geometry)
    assert np.abs(np.diff(voxels, axis=0)).max() == 1
    assert len(np.unique(voxels, axis=0)) == len(voxels)
    assert tuple(voxels[0]) == (2, 3, 4) and tuple(voxels[-1]) == (20, 5, 40)


def test_an_earlier_mark_holds_its_voxel_against_a_network_that_is_sure_and_far_pieces_do_not_flip() -> None:
    geometry = Geometry((16, 16, 24), (1.0, 1.0, 1.0))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[5:11, 5:11, 4:10] = labels[5:11, 5:11, 13:19] = RV  # two pieces, 3 mm apart
    chances = np.full((8, *geometry.shape), 1e-3, np.float32)
    chances[0, labels == 0] = chances[RA, labels == RV] = 0.99
    mender = Mender(labels, geometry, Prior(chances, geometry, "sure"))
    mender.add(Mark("RV", ((7.0, 8.0, 8.0),)))
    mender.add(Mark("RA", ((6.0, 8.0, 8.0),)))
    assert mender.labels[8, 8, 7] == RV and mender.labels[8, 8, 6] == RA
    assert (mender.labels[5:11, 5:11, 13:19] == RV).all()


def painted(labels: np.ndarray, label: int, *box: slice) -> np.ndarray:
    labels = labels.copy()
    labels[box] = label
    return labels


def test_an_edit_stays_when_earlier_marks_go_and_keeps_its_place_among_those_that_stay(case: Case) -> None:
    first, second = (Mark("RA", (case.world(15, 23, x),)) for x in (25, 27))
    mender = case.mender()
    mender.add(first)
    mender.add(second)
    middle = (slice(14, 17), slice(22, 25), slice(25, 28))  # over both marks
    edited = painted(mender.labels, RV, *middle)
    assert mender.edit(edited)
    assert not mender.edit(edited)
    third = mender.add(Mark("RA", (case.world(15, 30, 25),))).placed.mark
    assert mender.labels[15, 23, 25] == RV  # no mark before the edit holds a voxel against it
    assert mender.undo() == third and np.array_equal(mender.labels, edited)
    mender.obey([second])
    assert mender.marks == (second,) and (mender.labels[middle] == RV).all()
    alone = case.mender()
    alone.add(second)
    assert np.array_equal(mender.labels, painted(alone.labels, RV, *middle))
    mender.obey([])
    assert mender.marks == () and np.array_equal(mender.labels, painted(case.labels, RV, *middle))


def test_a_redone_mark_overrules_an_edit_that_it_came_after(case: Case) -> None:
    mender = case.mender()
    mender.edit(painted(case.labels, RV, slice(15, 16), slice(23, 24), slice(18, 20)))
    mender.add(Mark("RA", (case.world(15, 23, 19),)))
    after = mender.labels.copy()
    assert after[15, 23, 19] == RA
    mender.undo()
    assert mender.labels[15, 23, 19] == RV
    mender.redo()
    assert np.array_equal(mender.labels, after)


def test_a_held_mark_is_not_forced_on_labels_that_were_changed_since(case: Case) -> None:
    mark = Mark("RA", (case.world(15, 23, 25),))
    mender = case.mender()  # the label there is RV
    mender.hold([mark])
    mender.add(Mark("RV", (case.world(15, 23, 27),)))  # right already
    assert np.array_equal(mender.labels, case.labels)
    assert [placed.mark for placed in mender.held] == [mark]


def test_thick_slices_do_not_make_a_mark_reach_farther_than_their_edge() -> None:
    geometry = Geometry((9, 40, 40), (1.5, 1.5, 8.0))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[4:, 15:25, 15:25] = RV
    x, y, z = (float(v) for v in geometry.index_to_world(np.array([3, 20, 20])))
    change = Mender(labels, geometry, Prior.unknown()).add(Mark("RV", ((x, y, z),)))
    assert change.placed.reach_mm == pytest.approx(METHOD.reach * (8.0 - (8.0 - 1.5) / 2))


def test_a_mark_is_as_strong_as_its_place_needs(case: Case) -> None:
    near, far = (case.mender().add(Mark("RA", (case.world(15, 23, x),))).placed for x in (21, 29))
    assert METHOD.weakest < near.strength < far.strength <= METHOD.strength
