"""Draw ``docs/images/effect-*.png``: an image without and with each part that generator 0.6 of the generator adds.

``python -m heartseg.synthesis.scenes --data ../shared/data --out SCENES --last 3`` makes the scenes; then::

    PYTHONPATH=HeartSeg/Logic python tools/draw_effects.py SCENES docs/images

The contours are those of the labels. The rest of the image is the same on both sides.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from heartseg.anatomy import STRUCTURES
from heartseg.synthesis.appearance import Appearance, draw_appearance, render
from heartseg.synthesis.appearance.effects import Effect
from heartseg.synthesis.appearance.effects.clipping import Clipping
from heartseg.synthesis.appearance.effects.clusters import Clusters
from heartseg.synthesis.appearance.effects.enhancement import LateEnhancement
from heartseg.synthesis.appearance.effects.flow_voids import FlowVoids
from heartseg.synthesis.appearance.effects.layering import Layer, Layering
from heartseg.synthesis.appearance.effects.low_dose import LowDose
from heartseg.synthesis.appearance.effects.lung_kernel import LungKernel
from heartseg.synthesis.appearance.effects.pulsation import Pulsation
from heartseg.synthesis.appearance.effects.random_convolution import RandomConvolution
from heartseg.synthesis.appearance.effects.svc_streaks import VenaCavaStreaks
from heartseg.synthesis.appearance.effects.trabeculae import Trabeculae
from heartseg.synthesis.limited_views import as_stack_view, cut_view, with_long_axis
from heartseg.synthesis.regions import IGNORE, Region
from heartseg.synthesis.scenes import Scene, load_scene
from heartseg.synthesis.views import View, extract

SIZE, SPACING = 112, 1.5
COLOURS = 96
PLAIN = frozenset({"window", "slices", "motion", "streaks", "ghosts", "inflow", "bias", "mixing"})
"""Parts that would hide what is shown."""
RA, RV, LV = int(Region.RA_BLOOD), int(Region.RV_BLOOD), int(Region.LV_BLOOD)
_TURNS = np.linspace(0, 2 * np.pi, 12, endpoint=False)
JETS = FlowVoids(
    np.full(12, 28.0),
    np.full(12, 4.5),
    np.stack([0 * _TURNS, np.cos(_TURNS), np.sin(_TURNS)], 1),
    np.array([LV, RV, RA] * 4),
    np.full(12, 0.85),
)
RAYS = VenaCavaStreaks(
    np.linspace(0.2, 5.8, 9),
    np.deg2rad(np.linspace(2, 6, 9)),
    np.array([300.0, -250, 200, -300, 350, -200, 150, -250, 300]),
    0.03,
    70.0,
    30.0,
)
_SPREAD = np.where(np.isin(np.arange(256), [int(Region.AIR), int(Region.LUNG)]), 0, 90)
PARTS_OF_TISSUE = Clusters(
    (-0.6, 0.5), (np.random.default_rng(1).uniform(-1, 1, (3, 256)) * _SPREAD).astype(np.float32), 20.0
)
SUNK = Layering((Layer((RA, RV), np.array([0, 0.9, 0.4]), 0.2, 3.0, 5.0, 700.0, 50.0),))
DENSE = Layering((Layer((RA, RV), np.array([0, 0.9, 0.4]), -2.5, 6.0, 5.0, 2500.0, 300.0),))


@dataclass(frozen=True)
class Example:
    """How one part is shown: kind and protocol of the image, the part's parameters or how to draw them, the slice.

    ``axis`` is the one across the slice, ``label`` the structure that the slice goes through the most of,
    ``before`` an effect on both sides.
    """

    kind: str
    protocol: str
    effect: Effect | type[Effect] | None
    axis: int = 0
    label: int = 1
    seed: int = 1
    before: Effect | None = None


EXAMPLES = {
    "layering": Example("ct", "arterial", SUNK, label=4),
    "clusters": Example("ct", "triple_rule_out", PARTS_OF_TISSUE),
    "late_enhancement": Example("mr", "late_enhancement", LateEnhancement(0.2, 1.0, -0.1, 35.0, 1.0, 0.0), seed=2),
    "flow_voids": Example("mr", "bssfp", JETS),
    "trabeculae": Example("mr", "bssfp", Trabeculae((LV, RV), 6.0, 0.6, 4.5, 1.0)),
    "svc_streaks": Example("ct", "arterial", RAYS, label=7),
    "pulsation": Example("ct", "triple_rule_out", Pulsation((0.1, 0.1, 0.1), 2, 0.0, False, 0.0)),
    "lung_kernel": Example("ct", "triple_rule_out", LungKernel(2.0, 1.2, 90.0)),
    "low_dose": Example("ct", "non_contrast", LowDose(60.0, 12.0)),
    "random_convolution": Example("ct", "triple_rule_out", RandomConvolution, seed=3),
    "clipping": Example("ct", "arterial", Clipping(450.0, True, 0.0), label=4, before=DENSE),
    "stacks": Example("mr", "bssfp", None, axis=1),
    "cuts": Example("ct", "triple_rule_out", None, axis=1),
}


@dataclass(frozen=True)
class Tile:
    """One slice, rows from the top: image, target and what was seen."""

    image: np.ndarray
    target: np.ndarray
    seen: np.ndarray


def centred(scene: Scene) -> View:
    """The heart in the middle, nothing turned."""
    place, ends = np.array(scene.heart_centre), np.full(3, float(SIZE))
    return View(place, SIZE, SPACING, np.eye(3), np.ones(3), np.zeros(3), ends)


def slice_of(scene: Scene, view: View, look: Appearance, example: Example) -> Tile:
    """The slice of the centred heart that holds the most of the example's structure."""
    whole = extract(scene, centred(scene))[1].numpy() == example.label
    place = int(whole.sum(tuple(a for a in range(3) if a != example.axis)).argmax())
    regions, target, seen = extract(scene, view)
    image = render(np.random.default_rng(example.seed), regions, look, SPACING).numpy()
    parts = (np.take(v, place, example.axis) for v in (image, target.numpy(), seen.numpy()))
    return Tile(*(v if example.axis == 0 else v[::-1] for v in parts))


def pair(name: str, scene: Scene) -> tuple[Tile, Tile]:
    """The same scene without and with a part."""
    example = EXAMPLES[name]
    rng = np.random.default_rng(example.seed)
    look = draw_appearance(rng, example.kind, protocol=example.protocol, without=PLAIN)
    look = replace(look, gamma=1.0, noise=min(look.noise, 15.0) if look.kind == "ct" else look.noise * 0.5)
    common = () if example.before is None else (example.before,)
    look = replace(look, effects=common)
    view, with_it = centred(scene), look
    if name == "stacks":
        view = as_stack_view(np.random.default_rng(1), view, scene)
        with_it = replace(look, stack=view.stack)
    elif name == "cuts":
        view = cut_view(np.random.default_rng(1), view, scene)
    else:
        with_it = replace(look, effects=(*common, _effect(example, rng, look)))
    return slice_of(scene, centred(scene), look, example), slice_of(scene, view, with_it, example)


def _effect(example: Example, rng: np.random.Generator, look: Appearance) -> Effect:
    """The example's effect, drawn until there is one where only its class is given."""
    if isinstance(example.effect, Effect):
        return example.effect
    assert example.effect is not None
    while (drawn := example.effect.draw(rng, look)) is None:
        pass
    return drawn


def draw(tiles: tuple[Tile, Tile], path: Path) -> None:
    """Both slices side by side, each in its own grey scale, with contours of the labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0, 2.0), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, gridspec_kw={"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": 0.02})
    for axes, tile in zip(panels, tiles, strict=True):
        axes.axis("off")
        low, high = np.percentile(tile.image[tile.seen], (15 if tile.image.min() < -500 else 1, 99))
        axes.imshow(np.where(tile.seen, tile.image, low), cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
        for s in sorted(STRUCTURES, key=lambda s: s.key != "MYO"):
            inside = (tile.target == s.label) & (tile.target != IGNORE)
            if inside.any():
                axes.contour(inside, [0.5], colors=[tuple(c / 255 for c in s.color)], linewidths=0.6)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    picture.quantize(palette=_palette(), dither=Image.Dither.NONE).save(path, optimize=True)


def _palette() -> Image.Image:
    """Greys, and the structures' colours pure and mixed with some greys."""
    greys = np.linspace(0, 255, COLOURS - 32)[:, None].repeat(3, 1)
    colours = np.array([s.color for s in STRUCTURES], float)
    mixed = [0.6 * colours + 0.4 * grey for grey in np.linspace(0, 255, 3)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([int(v) for v in np.concatenate([greys, colours, *mixed]).round().ravel()])
    return palette


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/draw_effects.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("scenes", type=Path, help="folder of scenes; the first is shown")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--only", nargs="+", choices=sorted(EXAMPLES), help="these parts alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scene = with_long_axis(load_scene(sorted(args.scenes.glob("scene*.json"))[0]))
    for name in args.only or EXAMPLES:
        path = args.out / f"effect-{name.replace('_', '-')}.png"
        draw(pair(name, scene), path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
