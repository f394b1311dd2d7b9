"""Draw ``docs/images/effect-*.png``: an image without and with each part that recipe 0.6 of the generator adds.

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

from heartseg.anatomy import STRUCTURES
from heartseg.synthesis.appearance import Appearance, draw_appearance, render
from heartseg.synthesis.appearance.effects import ALL
from heartseg.synthesis.limited_views import as_stack_view, cut_view, with_long_axis
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import Scene, load_scene
from heartseg.synthesis.views import View, extract

SIZE, SPACING = 112, 1.5
GREYS = 48


@dataclass(frozen=True)
class Example:
    """How one part is shown: kind and protocol of the image, axis across the slice, number of the scene, seed."""

    kind: str
    protocol: str | None
    axis: int = 0
    scene: int = 0
    seed: int = 1


EXAMPLES = {
    "layering": Example("ct", "arterial", seed=4),
    "clusters": Example("ct", "triple_rule_out"),
    "late_enhancement": Example("mr", "late_enhancement", seed=2),
    "flow_voids": Example("mr", "bssfp"),
    "trabeculae": Example("mr", "bssfp"),
    "svc_streaks": Example("ct", "arterial", axis=1),
    "pulsation": Example("ct", "triple_rule_out", axis=1),
    "lung_kernel": Example("ct", "triple_rule_out"),
    "low_dose": Example("ct", "non_contrast"),
    "random_convolution": Example("ct", "triple_rule_out"),
    "clipping": Example("ct", "arterial"),
    "stacks": Example("mr", "bssfp", axis=1),
    "cuts": Example("ct", "triple_rule_out", axis=1),
}
PLAIN = frozenset({"window", "slices", "motion", "streaks", "ghosts", "inflow", "bias"})


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
    """A slice through the heart's middle, or the one with most of the right atrium for what shows there."""
    regions, target, seen = extract(scene, view)
    image = render(np.random.default_rng(example.seed), regions, look, SPACING).numpy()
    axis = example.axis
    right = (target == 4).numpy().sum(tuple(a for a in range(3) if a != axis))
    place = int(right.argmax()) if right.max() > 50 and axis == 0 else SIZE // 2
    parts = (np.take(v, place, axis) for v in (image, target.numpy(), seen.numpy()))
    return Tile(*(v if axis == 0 else v[::-1] for v in parts))


def pair(name: str, scenes: list[Scene]) -> tuple[Tile, Tile]:
    """The same scene without and with a part."""
    example = EXAMPLES[name]
    scene = scenes[example.scene]
    rng = np.random.default_rng(example.seed)
    look = draw_appearance(rng, example.kind, protocol=example.protocol, without=PLAIN)
    view = centred(scene)
    before = slice_of(scene, view, look, example)
    if name == "stacks":
        other = as_stack_view(np.random.default_rng(example.seed), view, scene)
        return before, slice_of(scene, other, replace(look, stack=other.stack), example)
    if name == "cuts":
        return before, slice_of(scene, cut_view(np.random.default_rng(example.seed), view, scene), look, example)
    kind = next(k for k in ALL if k.name == name)
    effect = None
    while effect is None:
        effect = kind.draw(rng, look)
    return before, slice_of(scene, view, replace(look, effects=(effect,)), example)


def draw(tiles: tuple[Tile, Tile], path: Path) -> None:
    """Both slices side by side, each in its own grey scale, with contours of the labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(4.0, 2.0), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, gridspec_kw={"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": 0.02})
    for axes, tile in zip(panels, tiles, strict=True):
        axes.axis("off")
        low, high = np.percentile(tile.image[tile.seen], (1, 99.7))
        axes.imshow(np.where(tile.seen, tile.image, low), cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
        for s in sorted(STRUCTURES, key=lambda s: s.key != "MYO"):
            inside = (tile.target == s.label) & (tile.target != IGNORE)
            if inside.any():
                axes.contour(inside, [0.5], colors=[tuple(c / 255 for c in s.color)], linewidths=0.6)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    picture.quantize(GREYS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/draw_effects.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("scenes", type=Path, help="folder of scenes; the first is shown")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    parser.add_argument("--only", nargs="+", choices=sorted(EXAMPLES), help="these parts alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scenes = [with_long_axis(load_scene(c)) for c in sorted(args.scenes.glob("scene*.json"))[:1]]
    for name in args.only or EXAMPLES:
        path = args.out / f"effect-{name.replace('_', '-')}.png"
        draw(pair(name, scenes), path)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
