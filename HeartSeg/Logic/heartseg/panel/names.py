"""Names of structures in the language of the application; literal texts, which Slicer's translation tools find."""

from __future__ import annotations

from slicer.i18n import tr as _


def structure_name(key: str) -> str:
    """Return the translated name of a structure; without a translation, that of :mod:`heartseg.anatomy`."""
    return {
        "LV": _("left ventricle"),
        "RV": _("right ventricle"),
        "LA": _("left atrium"),
        "RA": _("right atrium"),
        "MYO": _("left ventricular myocardium"),
        "AO": _("ascending aorta"),
        "PA": _("pulmonary artery"),
    }[key]
