"""The structures HeartSeg knows: label values, names, terminology codes, colours and plausible ranges.

The one source of truth for everything that names or colours a structure. SNOMED CT codes as used by 3D Slicer's
terminology; label values of MM-WHS for data conversion; adult ranges bound *plausibility*, not health.
"""

from __future__ import annotations

from dataclasses import dataclass

MYOCARDIAL_DENSITY_G_PER_ML = 1.05
"""Density of myocardium, g/mL, for mass from volume."""


@dataclass(frozen=True)
class Structure:
    """One anatomical structure.

    Attributes:
        label: value in HeartSeg's label maps, 1-7.
        key: short key (``"LV"``), used in files, settings and findings.
        name: name for people, lower case as in a sentence.
        snomed_code, snomed_meaning: SNOMED CT concept.
        mmwhs_label: value in the MM-WHS data set.
        color: red, green, blue, each 0-255.
        plausible: adult lower and upper limit outside which a finding is raised, in ``plausible_unit``.
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
    Structure(1, "LV", "left ventricle", "87878005", "Left ventricle", 500, (200, 40, 45), (40, 350), "mL"),
    Structure(2, "RV", "right ventricle", "53085002", "Right ventricle", 600, (45, 95, 185), (60, 400), "mL"),
    Structure(3, "LA", "left atrium", "82471001", "Left atrium", 420, (240, 140, 120), (25, 300), "mL"),
    Structure(4, "RA", "right atrium", "73829009", "Right atrium", 550, (110, 175, 230), (25, 350), "mL"),
    Structure(
        5,
        "MYO",
        "left ventricular myocardium",
        "49848007",
        "Left Ventricle Myocardium",
        205,
        (190, 150, 120),
        (50, 350),
        "g",
    ),
    Structure(6, "AO", "ascending aorta", "54247002", "Ascending aorta", 820, (250, 95, 160), (20, 60), "mm diameter"),
    Structure(7, "PA", "pulmonary artery", "81040000", "Pulmonary artery", 850, (0, 122, 171), (15, 45), "mm diameter"),
)

KEYS: tuple[str, ...] = tuple(s.key for s in STRUCTURES)

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
    """The structure with this key (any case) or label value; ``KeyError`` if there is none."""
    if isinstance(key_or_label, str):
        return _BY_KEY[key_or_label.upper()]
    return _BY_LABEL[int(key_or_label)]


def match_name(name: str) -> Structure | None:
    """The structure that a model's label name means, or ``None``.

    Case, underscores, hyphens and repeated spaces do not matter: ``"Left_Ventricle"`` is LV.
    """
    plain = " ".join(name.replace("_", " ").replace("-", " ").lower().split())
    for key, aliases in _ALIASES.items():
        if plain == key.lower() or plain in aliases:
            return _BY_KEY[key]
    return None
