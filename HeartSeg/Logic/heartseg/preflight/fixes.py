"""Remedies that one step applies, and what the panel and the command line call them."""

from __future__ import annotations

PICK_FRAME = "pick-frame"
RESAMPLE = "resample"
HARDEN = "harden-transform"
AS_CT = "treat-as-ct"
AS_MR = "treat-as-mr"
STATE_MODALITY = "state-modality"
USE_CPU = "use-cpu"

RESAMPLED_MM = 1.5
"""Voxel size after :data:`RESAMPLE`, mm."""

FIXES = {
    PICK_FRAME: "Take one frame",
    RESAMPLE: "Resample to 1.5 mm",
    HARDEN: "Apply the transform to a copy",
    AS_CT: "It is CT",
    AS_MR: "It is MR",
    STATE_MODALITY: "Say whether it is CT or MR",
    USE_CPU: "Use the processor",
}
"""Key of a fix -> text of its button."""

OPTIONS = {
    PICK_FRAME: "--frame N; heartseg segment also takes --frame all",
    AS_CT: "--modality CT",
    AS_MR: "--modality MR",
    STATE_MODALITY: "--modality MR, or --modality CT",
    USE_CPU: "--device cpu",
}
"""Key of a fix -> the command-line option that applies it; the other fixes exist in Slicer only."""

CHOICES = {STATE_MODALITY: (AS_MR, AS_CT)}
"""Fix that the user must choose -> the fixes to choose from; the panel has a button for each."""
