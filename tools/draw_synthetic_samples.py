"""Draw ``docs/images/synthetic-samples.png``: training views of drawn scenes with the contours of their labels.

``python -m heartseg.synthesis.scenes --data ../shared/data --out SCENES --last 20`` makes the scenes; then::

    PYTHONPATH=HeartSeg/Logic python tools/draw_synthetic_samples.py SCENES docs/images/synthetic-samples.png

Eight CT, eight MR and four free images, one a scene: every view is drawn as for training, only those whose middle
slice shows little of a heart are drawn again.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from heartseg.anatomy import STRUCTURES
from heartseg.synthesis.appearance import draw_appearance, render
from heartseg.synthesis.appearance.ct import PHASES
from heartseg.synthesis.appearance.mr import SEQUENCES
from heartseg.synthesis.regions import IGNORE
from heartseg.synthesis.scenes import Scene, load_scene
from heartseg.synthesis.views import draw_fine_view, extract

SIZE, SPACING = 96, 2.0
LOOKS = (
    *(("ct", phase) for phase in (*PHASES, "arterial", "triple_rule_out")),
    *(("mr", sequence) for sequence in (*SEQUENCES, "bssfp", "mra", "gre")),
    *(("free", None),) * 4,
)
AXES = (0, 0, 1, 0, 0, 2, 0, 1)
"""Slices across z, y or x, in turn."""
GREYS = 88
"""Grey levels of the file: a contact sheet needs no more."""


@dataclass(frozen=True)
class Tile:
    """One slice: image, target and what was seen, each (rows, columns), top and left first."""

    image: np.ndarray
    target: np.ndarray
    seen: np.ndarray
    title: str


def draw_tile(scene: Scene, number: int, kind: str, protocol: str | None) -> Tile:
    """The slice with the most of a heart in a view drawn as for training; a view without is drawn again."""
    rng, axis = np.random.default_rng([20, number]), AXES[number % len(AXES)]
    while True:
        view = draw_fine_view(rng, scene, SIZE, SPACING)
        regions, target, seen = extract(scene, view)
        heart = ((target > 0) & (target < IGNORE)).numpy()
        amount = heart.sum(tuple(a for a in range(3) if a != axis))
        if amount.max() > 700:
            break
    image = render(rng, regions, draw_appearance(rng, kind, protocol=protocol), SPACING).numpy()
    place = int(amount.argmax())
    slices = (np.take(v, place, axis) for v in (image, target.numpy(), seen.numpy()))
    a, t, s = (v if axis == 0 else v[::-1] for v in slices)
    name = (protocol or "free").replace("_", " ")
    return Tile(a, t, s, f"{'' if kind == 'free' else kind.upper() + ' '}{name}")


def draw_sheet(tiles: list[Tile], path: Path) -> None:
    """Rows of eight: CT, MR, free images and the colours' names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(12.0, 4.98), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(
        3, 8, gridspec_kw={"left": 0, "right": 1, "bottom": 0, "top": 0.955, "wspace": 0.03, "hspace": 0.12}
    )
    for axes in panels.ravel():
        axes.axis("off")
    for axes, tile in zip(panels.ravel(), tiles, strict=False):
        low, high = np.percentile(tile.image[tile.seen], (1, 99.5))
        axes.imshow(np.where(tile.seen, tile.image, low), cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
        for s in sorted(STRUCTURES, key=lambda s: s.key != "MYO"):  # the wall's contour under the cavity's
            inside = tile.target == s.label
            if inside.any():
                axes.contour(inside, [0.5], colors=[tuple(c / 255 for c in s.color)], linewidths=0.9)
        axes.set_title(tile.title, fontsize=8, pad=2)
    legend = panels[2, 4]
    for row, s in enumerate(STRUCTURES):
        legend.text(0.1, 0.9 - 0.13 * row, s.name, color=tuple(c / 255 for c in s.color), fontsize=10)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def _palette() -> list[int]:
    """Red, green, blue of each colour of the file: greys, and the structures' colours mixed with some of them."""
    greys = np.linspace(0, 255, GREYS)[:, None].repeat(3, 1)
    colors = np.array([s.color for s in STRUCTURES], float)
    mixed = [a * colors + (1 - a) * grey for a in (0.4, 0.7) for grey in np.linspace(0, 255, 6)]
    return [int(v) for v in np.concatenate([greys, colors, *mixed]).round().ravel()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/draw_synthetic_samples.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("scenes", type=Path, help="folder of scenes; the first 20 are shown")
    parser.add_argument("out", type=Path, help="a .png file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cards = sorted(args.scenes.glob("scene*.json"))[: len(LOOKS)]
    if len(cards) < len(LOOKS):
        parser.error(f"'{args.scenes}' holds {len(cards)} scenes: {len(LOOKS)} are shown")
    tiles = [draw_tile(load_scene(c), i, *look) for i, (c, look) in enumerate(zip(cards, LOOKS, strict=True))]
    draw_sheet(tiles, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
