"""The structures of HeartSeg: label values, names, terminology codes, colours and plausible ranges.

This is the only definition of names, codes and colours. SNOMED CT codes follow the terminology of 3D Slicer; MM-WHS
label values are used for data conversion. The ranges are *plausible* values in adults, not normal ranges.
"""

from __future__ import annotations

from dataclasses import dataclass

from .wording import _

MYOCARDIAL_DENSITY_G_PER_ML = 1.05
"""Density of myocardium, g/mL, to compute mass from volume."""


@dataclass(frozen=True)
class Structure:
    """One anatomical structure.

    Attributes:
        label: value in the label maps of HeartSeg, 1-7.
        key: short key (``"LV"``), used in files, settings and findings.
        name: display name in lower case.
        snomed_code, snomed_meaning: SNOMED CT concept.
        mmwhs_label: value in the MM-WHS data set.
        color: red, green and blue, 0-255.
        plausible: lower and upper limit in adults, in ``plausible_unit``; a value outside gives a finding.
        plausible_unit: ``"mL"``, ``"g"`` or ``"mm diameter"``.
    """

    label: int
    key: str
    name: str
    snomed_code: str
    snomed_meaning: str
    mmwhs_label: int
    color: tuple[int, int, int]
    plausible: tuple[float, float]
    plausible_unit: str


STRUCTURES: tuple[Structure, ...] = (
    Structure(1, "LV", _("left ventricle"), "87878005", "Left ventricle", 500, (200, 40, 45), (40, 350), "mL"),
    Structure(2, "RV", _("right ventricle"), "53085002", "Right ventricle", 600, (45, 95, 185), (60, 400), "mL"),
    Structure(3, "LA", _("left atrium"), "82471001", "Left atrium", 420, (240, 140, 120), (25, 300), "mL"),
    Structure(4, "RA", _("right atrium"), "73829009", "Right atrium", 550, (110, 175, 230), (25, 350), "mL"),
    Structure(
        5,
        "MYO",
        _("left ventricular myocardium"),
        "49848007",
        "Left Ventricle Myocardium",
        205,
        (190, 150, 120),
        (50, 350),
        "g",
    ),
    Structure(
        6, "AO", _("ascending aorta"), "54247002", "Ascending aorta", 820, (250, 95, 160), (20, 60), "mm diameter"
    ),
    Structure(
        7, "PA", _("pulmonary artery"), "81040000", "Pulmonary artery", 850, (0, 122, 171), (15, 45), "mm diameter"
    ),
)

KEYS: tuple[str, ...] = tuple(s.key for s in STRUCTURES)

MMWHS_LABELS: dict[int, str] = {s.mmwhs_label: s.key for s in STRUCTURES} | {421: "LA"}
"""Label value in the MM-WHS data set -> structure key.

The data set defines 420 as the left atrium; 421 occurs in some of its files by mistake and is read as 420.
"""

_BY_KEY = {s.key: s for s in STRUCTURES}
_BY_LABEL = {s.label: s for s in STRUCTURES}

_ALIASES: dict[str, tuple[str, ...]] = {
    "LV": ("left ventricle", "left ventricle blood cavity", "lv blood pool", "lv cavity", "heart ventricle left"),
    "RV": ("right ventricle", "right ventricle blood cavity", "rv blood pool", "rv cavity", "heart ventricle right"),
    "LA": ("left atrium", "left atrium blood cavity", "la cavity", "heart atrium left"),
    "RA": ("right atrium", "right atrium blood cavity", "ra cavity", "heart atrium right"),
    "MYO": (
        "myocardium",
        "left ventricular myocardium",
        "lv myocardium",
        "myocardium of the left ventricle",
        "heart myocardium",
        "myo",
        "lvm",
        "lv myo",
    ),
    "AO": ("ascending aorta", "aorta", "ao", "aa"),
    "PA": ("pulmonary artery", "pa"),
}


def structure(key_or_label: str | int) -> Structure:
    """Return the structure with a key (case-insensitive) or label value; raise ``KeyError`` if there is none."""
    if isinstance(key_or_label, str):
        return _BY_KEY[key_or_label.upper()]
    return _BY_LABEL[int(key_or_label)]


def match_name(name: str) -> Structure | None:
    """Return the structure that matches a label name, or ``None``.

    Ignores case, underscores, hyphens and repeated spaces: ``"Left_Ventricle"`` is LV.
    """
    plain = " ".join(name.replace("_", " ").replace("-", " ").lower().split())
    for key, aliases in _ALIASES.items():
        if plain == key.lower() or plain in aliases:
            return _BY_KEY[key]
    return None
