"""Findings as a reader sees them."""

from __future__ import annotations

from heartseg.findings import Finding, Severity, merged_findings
from heartseg.inference.run_findings import doubtful_findings


def cut(structure: str, side: str) -> Finding:
    return Finding("cut-by-border", Severity.WARNING, f"The {structure} is cut", structure, {"sides": [side]})


def test_what_holds_for_three_structures_is_said_once_with_the_sides_of_each() -> None:
    thick = Finding("slices-thick", Severity.WARNING, "Slices are thick")
    missing = Finding("structure-missing", Severity.ERROR, "The left atrium was not found", "LA")
    cuts = [cut("LV", "left"), thick, cut("RV", "right"), cut("MYO", "inferior"), missing]
    first, merged, last = merged_findings(cuts)
    assert first is missing and last is thick
    assert (merged.code, merged.severity, merged.structure) == ("cut-by-border", Severity.WARNING, None)
    assert merged.message == (
        "3 structures reach borders of the scan, so that parts of them may be outside and measures too small: "
        "LV (left), RV (right), MYO (inferior)."
    )
    assert merged.values == {"LV": {"sides": ["left"]}, "RV": {"sides": ["right"]}, "MYO": {"sides": ["inferior"]}}


def test_two_structures_and_other_codes_keep_their_own_lines() -> None:
    two = [cut("LV", "left"), cut("RV", "right")]
    assert merged_findings(two) == tuple(two)
    different = [Finding("volume-implausible", Severity.WARNING, f"{k} is large", k) for k in ("LV", "RV", "LA")]
    assert merged_findings(different) == tuple(different)


def test_doubts_about_several_structures_keep_their_numbers() -> None:
    limits = dict.fromkeys(("LV", "RV", "LA"), 0.95)
    (merged,) = merged_findings(doubtful_findings({"LV": 0.874, "RV": 0.751, "LA": 0.724}, limits))
    assert "LV 0.87 (usual: over 0.95), RV 0.75 (usual: over 0.95), LA 0.72 (usual: over 0.95)" in merged.message
    assert merged.message.startswith("The network is unsure of 3 structures")
