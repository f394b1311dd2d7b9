"""Files of marks: Slicer's markups, LPS and RAS, names, strokes; bad files give one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heartseg.errors import InputError, OutputError
from heartseg.marks import BACKGROUND, Mark, read_marks, write_marks


def markups(
    kind: str = "Fiducial",
    system: Any = "LPS",
    labels: tuple[str, ...] = ("RA",),
    positions: tuple[tuple[Any, ...], ...] = ((1.0, -2.0, 3.5),),
    **more: Any,
) -> dict[str, Any]:
    points = [{"label": t, "position": list(p)} for t, p in zip(labels, positions, strict=True)]
    return {"markups": [{"type": kind, "coordinateSystem": system, "controlPoints": points, **more}]}


def stored(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "marks.mrk.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("system", "expected"), [("LPS", (1, -2, 3.5)), ("RAS", (-1, 2, 3.5)), (0, (-1, 2, 3.5)), ("1", (1, -2, 3.5))]
)
def test_positions_are_lps_whatever_the_file_states(
    tmp_path: Path, system: str | int, expected: tuple[float, float, float]
) -> None:
    (mark,) = read_marks(stored(tmp_path, markups(system=system)))
    assert mark == Mark("RA", (expected,))


@pytest.mark.parametrize(
    ("text", "key", "positive"),
    [
        ("RA", "RA", True),
        ("ra-12", "RA", True),
        ("right atrium", "RA", True),
        ("Right_Ventricle-3", "RV", True),
        ("-RA", "RA", False),
        ("- RA-2", "RA", False),
        ("not MYO", "MYO", False),
        ("no aorta", "AO", False),
        ("background", BACKGROUND, True),
        ("BG-1", BACKGROUND, True),
    ],
)
def test_labels_name_structures(text: str, key: str, positive: bool) -> None:
    mark = Mark.of_text(text, [(0, 0, 0)])
    assert (mark.structure, mark.positive) == (key, positive)


def test_curves_are_strokes_and_points_without_a_position_are_left_out(tmp_path: Path) -> None:
    content = markups("Curve", labels=("LV", "LV"), positions=((0, 0, 0), (5, 0, 0)))
    content["markups"][0]["controlPoints"].append({"label": "x", "position": [9, 9, 9], "positionStatus": "undefined"})
    content["markups"] += markups(labels=("-PA", "AO"), positions=((1, 1, 1), (2, 2, 2)))["markups"]
    assert read_marks(stored(tmp_path, content)) == (
        Mark("LV", ((0, 0, 0), (5, 0, 0))),
        Mark("PA", ((1, 1, 1),), False),
        Mark("AO", ((2, 2, 2),)),
    )


def test_a_written_file_is_read_as_it_was(tmp_path: Path) -> None:
    marks = (
        Mark("RA", ((1.25, 2.5, -3.0),)),
        Mark("RV", ((0, 0, 0),), False),
        Mark("LV", ((0, 0, 0), (1, 2, 3), (4, 5, 6))),
        Mark(BACKGROUND, ((7, 8, 9),)),
    )
    assert read_marks(write_marks(marks, tmp_path / "m.mrk.json")) == marks
    with pytest.raises(OutputError):
        write_marks(marks, tmp_path / "none" / "m.mrk.json")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("no json", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "markups"),
        ({"markups": {}}, "markups"),
        ({"markups": []}, "no marks"),
        ({"markups": [3]}, "markups"),
        (markups(system="XYZ"), "XYZ"),
        (markups(coordinateUnits=["m", "m", "m"]), "mm"),
        (markups(kind="ROI"), "ROI"),
        (markups(controlPoints=None), "controlPoints"),
        (markups(controlPoints=["a"]), "controlPoints"),
        (markups(labels=("F-1",)), "F-1"),
        (markups(labels=("",)), "''"),
        (markups(labels=("-background",)), "-background"),
        (markups(positions=((0, 0),)), "position"),
        (markups(positions=(("a", 0, 0),)), "position"),
        (markups(positions=((float("nan"), 0, 0),)), "finite"),
        (markups(positions=((float("inf"), 0, 0),)), "finite"),
    ],
)
def test_a_bad_file_gives_one_line_that_names_the_thing(tmp_path: Path, content: object, named: str) -> None:
    with pytest.raises(InputError) as caught:
        read_marks(stored(tmp_path, content))
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.mrk.json", tmp_path):
        with pytest.raises(InputError, match=path.name):
            read_marks(path)
