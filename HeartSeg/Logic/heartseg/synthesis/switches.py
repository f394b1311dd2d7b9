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


APPEARANCE_PARTS = {
    "mixing": "uneven contrast medium, perfusion, slow flow",
    "streaks": "streaks beside a dense superior vena cava, metal and calcium",
    "noise": "noise of the scanner",
    "slices": "thick slices",
    "motion": "doubled and blurred hearts, displaced slabs",
    "bias": "coil profile and other slow changes of brightness",
    "window": "8-bit pictures of a window",
    "ghosts": "displaced copies of what moves",
    "inflow": "blood that is brighter where it is fresh",
    "beam_hardening": "dark bands between dense things",
    "kernel": "overshoot of a sharp kernel, ringing",
}
"""Parts of the images of all versions."""

EFFECTS = {
    "layering": "dense contrast medium beside pale blood within one chamber",
    "clusters": "parts of different brightness within tissues",
    "late_enhancement": "scar below the endocardium, through the wall, within it; dark cores",
    "flow_voids": "dark jets in blood",
    "trabeculae": "trabeculae and papillary muscles that fill the cavities",
    "svc_streaks": "rays from a superior vena cava full of contrast medium",
    "pulsation": "blur and double borders of a beating heart",
    "lung_kernel": "sharp lung kernels and their noise",
    "low_dose": "noise in stripes of low-dose CT, more CT without contrast medium",
    "random_convolution": "shallow random convolutions of the whole image",
    "clipping": "upper end of the grey scale cut off or compressed",
}
"""Parts of the images of generator 0.6 alone (:mod:`~heartseg.synthesis.appearance.effects`)."""

VIEW_PARTS = {
    "stacks": "cine stacks of thick slices with gaps and shifts between breath-holds",
    "cuts": "fields of view that end above or below, within the heart",
}
"""Parts of what is seen, of generator 0.6 alone (:mod:`~heartseg.synthesis.limited_views`)."""

GENERATORS = ("0.5", "0.6")
"""Versions of the generator, oldest first. A version never changes once scans made by it are frozen."""
FROZEN, NEWEST = GENERATORS[0], GENERATORS[-1]
"""What the frozen and validation scans are made by, and what training uses."""


def check_generator(generator: str) -> str:
    """The generator; ``ValueError`` names an unknown one."""
    if generator not in GENERATORS:
        raise ValueError(f"generator is {generator!r}: must be one of {', '.join(GENERATORS)}")
    return generator


IMAGE_PARTS = (*APPEARANCE_PARTS, *EFFECTS, *VIEW_PARTS)
"""Everything that may be switched off in images."""


def check_parts(without: Iterable[str], known: Iterable[str] = ANATOMY_PARTS) -> frozenset[str]:
    """The names as a set; ``ValueError`` names an unknown one."""
    names, allowed = frozenset(without), frozenset(known)
    if names - allowed:
        raise ValueError(f"unknown part {sorted(names - allowed)[0]!r}: must be one of {', '.join(sorted(allowed))}")
    return names
