"""``review.csv``: the verdict of a person on each case, which is kept when the other files are made again."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import InputError, writing
from ..formats import REVIEW_FILE
from ..tables import read_table, write_table

VERDICTS = ("accept", "reject", "")
COLUMNS = ("case", "verdict", "comment", "time", "result")


@dataclass(frozen=True)
class Review:
    """What a person says about a case.

    Attributes:
        verdict: ``"accept"``, ``"reject"`` or ``""`` for none yet.
        comment: free text.
        time: when it was given, ISO 8601.
        result: when the result was made that it applies to; another result needs another verdict.
    """

    verdict: str = ""
    comment: str = ""
    time: str = ""
    result: str = ""


def read_reviews(folder: Path) -> dict[str, Review]:
    """Read the reviews of a cohort: case -> review; empty if there are none.

    Raises:
        InputError: the file cannot be read.
    """
    path = folder / REVIEW_FILE
    try:
        rows = read_table(path)
        found = {row["case"]: Review(*(row.get(column, "") for column in COLUMNS[1:])) for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}): save it as CSV in UTF-8, or move it away") from error
    wrong = next((f"{name}: {r.verdict!r}" for name, r in found.items() if r.verdict not in VERDICTS), "")
    if wrong:
        raise InputError(f"{str(path)!r} has the verdict {wrong}: use accept, reject, or leave it empty")
    return found


def record_review(folder: Path, case: str, review: Review) -> dict[str, Review]:
    """Add or replace the review of a case; returns all of them.

    Raises:
        InputError: as :func:`read_reviews`.
        OutputError: the file cannot be written; it is unchanged.
    """
    reviews = {**read_reviews(folder), case: review}
    write_reviews(folder, reviews)
    return reviews


def write_reviews(folder: Path, reviews: Mapping[str, Review]) -> None:
    """Write the reviews; raises ``OutputError``."""
    path = folder / REVIEW_FILE
    with writing(path):
        write_table(path, COLUMNS, ({"case": name, **asdict(review)} for name, review in reviews.items()))
