"""All results of a batch as one table and one page to judge them."""

from .cases import CohortCase, read_cohort
from .judging import Cohort, JudgedCase, judge
from .page import write_cohort_page
from .review import Review, read_reviews, record_review
from .table import write_cohort_table

__all__ = [
    "Cohort",
    "CohortCase",
    "JudgedCase",
    "Review",
    "judge",
    "read_cohort",
    "read_reviews",
    "record_review",
    "write_cohort_page",
    "write_cohort_table",
]
