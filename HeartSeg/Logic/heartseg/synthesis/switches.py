"""Names of the generator's parts that can be switched off, one at a time or together, for comparisons."""

from __future__ import annotations

from collections.abc import Iterable

ANATOMY_PARTS = {
    "modes": "new hearts along the shape model's modes; without it, only the subjects themselves",
    "chambers": "chamber-wise volume changes",
    "walls": "thinned, thick and dilated walls",
    "pose": "turns, size and elastic shape of the heart",
    "detail": "papillary muscles, trabeculae, valve leaflets",
    "devices": "leads, valves, stents, calcium, wires",
    "warp": "size and shape of the trunk",
    "organs": "organs switched off and on",
    "blobs": "random shapes",
}
"""Parts of hearts and surroundings."""


def check_parts(without: Iterable[str], known: Iterable[str] = ANATOMY_PARTS) -> frozenset[str]:
    """The names as a set; ``ValueError`` names an unknown one."""
    names, allowed = frozenset(without), frozenset(known)
    if names - allowed:
        raise ValueError(f"unknown part {sorted(names - allowed)[0]!r}: must be one of {', '.join(sorted(allowed))}")
    return names
