"""SNOMED CT terminology of the structures in the two formats of Slicer.

A segment stores an *entry* (one string with seven parts). Slicer's terminology selector reads a *context* (a JSON file
with categories and types). Both derive from :mod:`heartseg.anatomy`; this module does not require Slicer.
"""

from __future__ import annotations

from typing import Any

from ..anatomy import STRUCTURES, Structure

CONTEXT_NAME = "Segmentation category and type - HeartSeg"
REGION_CONTEXT_NAME = "Anatomic codes - DICOM master list"
CATEGORY = ("SCT", "123037004", "Anatomical Structure")
_SCHEMA = "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#"


def terminology_entry(structure: Structure) -> str:
    """Terminology entry: context, category, type, type modifier, region context, region, region modifier."""
    kind = ("SCT", structure.snomed_code, structure.snomed_meaning)
    parts = (CONTEXT_NAME, "^".join(CATEGORY), "^".join(kind), "^^", REGION_CONTEXT_NAME, "^^", "^^")
    return "~".join(parts)


def terminology_context() -> dict[str, Any]:
    """Terminology context with all structures and colours, JSON-ready; stored in ``Resources/HeartSeg.term.json``."""
    scheme, code, meaning = CATEGORY
    category = {
        "CodingSchemeDesignator": scheme,
        "CodeValue": code,
        "CodeMeaning": meaning,
        "showAnatomy": "false",
        "Type": [_type(structure) for structure in STRUCTURES],
    }
    return {
        "SegmentationCategoryTypeContextName": CONTEXT_NAME,
        "@schema": _SCHEMA,
        "SegmentationCodes": {"Category": [category]},
    }


def _type(structure: Structure) -> dict[str, Any]:
    return {
        "recommendedDisplayRGBValue": list(structure.color),
        "CodingSchemeDesignator": "SCT",
        "CodeValue": structure.snomed_code,
        "CodeMeaning": structure.snomed_meaning,
        "3dSlicerLabel": structure.name.replace(" ", "_"),
    }
