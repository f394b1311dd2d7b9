"""Names of the parts of the generator that can be switched off for comparisons, alone or together."""

from __future__ import annotations

from collections.abc import Iterable

ANATOMY_PARTS = {
    "modes": "new hearts along the modes of the shape model; without it, only the subjects of the model",
    "chambers": "volume changes of each chamber",
    "walls": "thinned, thickened and dilated walls",
    "pose": "rotation, size and elastic deformation of the heart",
    "detail": "papillary muscles, trabeculae, valve leaflets",
    "devices": "leads, valves, stents, calcium, wires",
    "warp": "size and shape of the trunk",
    "organs": "omitted and replaced organs",
    "blobs": "random shapes",
}
"""Parts of hearts and surroundings."""


APPEARANCE_PARTS = {
    "mixing": "uneven contrast medium, perfusion, slow flow",
    "streaks": "streaks beside a dense superior vena cava, metal and calcium",
    "noise": "scanner noise",
    "slices": "thick slices",
    "motion": "doubled and blurred hearts, displaced slabs",
    "bias": "coil profile and other slow brightness variations",
    "window": "windowed 8-bit images",
    "ghosts": "displaced copies of moving tissue",
    "inflow": "brighter blood where it flows in",
    "beam_hardening": "dark bands between dense structures",
    "kernel": "overshoot of a sharp kernel, ringing",
}
"""Parts of the images of all generator versions."""

EFFECTS = {
    "layering": "dense contrast medium beside unenhanced blood within one chamber",
    "clusters": "parts of different brightness within tissues",
    "late_enhancement": "subendocardial, transmural and midwall scar; dark cores",
    "flow_voids": "dark jets in blood",
    "trabeculae": "trabeculae and papillary muscles that fill the cavities",
    "svc_streaks": "rays from a superior vena cava full of contrast medium",
    "pulsation": "blur and double borders of a beating heart",
    "lung_kernel": "sharp lung kernels and their noise",
    "low_dose": "streak noise of low-dose CT, more CT without contrast medium",
    "random_convolution": "shallow random convolutions of the whole image",
    "clipping": "clipped or compressed upper end of the grey scale",
}
"""Parts of the images of generator 0.6 only (:mod:`~heartseg.synthesis.appearance.effects`)."""

VIEW_PARTS = {
    "stacks": "cine stacks of thick slices with gaps and shifts between breath-holds",
    "cuts": "fields of view that end within the heart, above or below",
}
"""Parts of the field of view, of generator 0.6 only (:mod:`~heartseg.synthesis.limited_views`)."""

GENERATORS = ("0.5", "0.6")
"""Versions of the generator, oldest first. A version never changes after scans made with it are frozen."""
FROZEN, NEWEST = GENERATORS[0], GENERATORS[-1]
"""Versions that make the frozen and validation scans, and the training scans."""


def check_generator(generator: str) -> str:
    """Return the generator version; raises ``ValueError`` if it is unknown."""
    if generator not in GENERATORS:
        raise ValueError(f"generator {generator!r} does not exist: choose one of {', '.join(GENERATORS)}")
    return generator


IMAGE_PARTS = (*APPEARANCE_PARTS, *EFFECTS, *VIEW_PARTS)
"""All parts that can be switched off in images."""


def check_parts(without: Iterable[str], known: Iterable[str] = ANATOMY_PARTS) -> frozenset[str]:
    """Return the names as a set; raises ``ValueError`` for an unknown name."""
    names, allowed = frozenset(without), frozenset(known)
    if names - allowed:
        raise ValueError(
            f"part {sorted(names - allowed)[0]!r} does not exist: choose from {', '.join(sorted(allowed))}"
        )
    return names
