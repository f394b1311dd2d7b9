"""Preview picture of a result: three slices with contours, a 3D view, a legend with volumes, and findings."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from ..anatomy import Structure
from ..findings import Finding, Severity, merged_findings
from ..measure.boxes import LabelCrop, crop_labels
from ..result import Result
from ..volume.types import Volume
from ..wording import _
from .figure import saved_figure
from .measurements import MeasurementRow, measurements_table
from .render3d import render_surfaces
from .shading import shaded_projection
from .slices import (
    BACKGROUND,
    MUTED,
    PANEL,
    PIXEL_MM,
    PLANES,
    TEXT,
    Plane,
    annotate,
    aspect_of,
    panel,
    plane_points,
    sample_linear,
    vivid,
)
from .window import display_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 150
WIDTH_IN, HEIGHT_IN = 2000.01 / DPI, 1250.01 / DPI
_VIEW_IN = (880.01 / DPI, 656.01 / DPI)  # size of the view from the front, with the aspect of its panel
_FRONT_DPI = 100
MARGIN_MM = 22.0
SEVERITY_COLORS = {Severity.ERROR: "#ff6b6b", Severity.WARNING: "#ffc857", Severity.INFO: "#7fb8e6"}
FINDINGS_SHOWN = 4


def write_preview(
    volume: Volume,
    result: Result,
    surfaces: Sequence[tuple[Structure, str | Path]],
    path: str | Path,
) -> tuple[Finding, ...]:
    """Write the preview picture (PNG, 2000 x 1250 pixels).

    Shows axial, coronal and sagittal slices through the centre of the heart along world axes (an oblique scan is
    resampled), with the patient's right on the viewer's left, contours in the colours of the structures and a scale
    bar; the surfaces from the front; a legend with volumes, mass and diameters; and the most severe findings.

    Args:
        volume: the scan.
        result: result on the same grid; without a heart, the slices pass through the centre of the scan.
        surfaces: structures and their STL files, LPS, mm; if empty, the labels are shaded instead.
        path: PNG file to write.

    Returns:
        The finding ``preview-simplified`` (info) if the surfaces could not be rendered and the labels were shaded.

    Raises:
        DependencyError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    crop = crop_labels(result.labels, result.geometry)
    center, low, high = _region(volume, crop)
    window = display_window(volume, crop)
    with saved_figure(path, (WIDTH_IN, HEIGHT_IN), DPI, BACKGROUND, png=True) as figure:
        places = ((0.012, 0.475, 0.365, 0.435), (0.385, 0.475, 0.365, 0.435), (0.012, 0.02, 0.365, 0.435))
        for plane, place in zip(PLANES, places, strict=True):
            _draw_slice(panel(figure, place), plane, volume, result, crop, center, low, high, window)
        picture, findings = _picture_3d(result, surfaces)
        _draw_3d(panel(figure, (0.385, 0.02, 0.365, 0.435)), picture)
        _write_title(figure, volume, result, window)
        _write_legend(figure, measurements_table(result))
        _write_findings(figure, (*result.findings, *findings))
    return findings


def front_picture(result: Result, surfaces: Sequence[tuple[Structure, str | Path]]) -> bytes:
    """Render the heart from the front on white (PNG, 587 x 437 pixels); empty without labels.

    Args:
        result, surfaces: as for :func:`write_preview`.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    picture, _findings = _picture_3d(result, surfaces, (1.0, 1.0, 1.0))
    if picture is None:
        return b""
    stream = io.BytesIO()
    with saved_figure(stream, _VIEW_IN, _FRONT_DPI, png=True) as figure:
        axes = panel(figure, (0, 0, 1, 1))
        axes.set_facecolor("#ffffff")
        _draw_3d(axes, picture, ink="#222222")
    return stream.getvalue()


def _region(volume: Volume, crop: LabelCrop | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre of the slices (centroid of the heart) and bounds of the displayed region, LPS, mm."""
    if crop is None:
        corners = volume.geometry.corners()
        return volume.geometry.center(), corners.min(axis=0), corners.max(axis=0)
    index = np.array(ndimage.center_of_mass(crop.labels > 0))
    corners = crop.geometry.corners()
    return crop.geometry.index_to_world(index), corners.min(axis=0) - MARGIN_MM, corners.max(axis=0) + MARGIN_MM


def _draw_slice(
    axes: Axes,
    plane: Plane,
    volume: Volume,
    result: Result,
    crop: LabelCrop | None,
    center: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    window: tuple[float, float],
) -> None:
    """Draw one plane: the scan, contours, orientation letters and a scale bar."""
    world = plane_points(axes, plane, center, low, high)
    index = np.moveaxis(volume.geometry.world_to_index(world), -1, 0)
    grey = sample_linear(volume.array, index, outside=window[0])
    axes.imshow(grey, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear", aspect="equal")
    if crop is not None:
        inner = np.moveaxis(crop.geometry.world_to_index(world), -1, 0)
        for s in result.structures:
            mask = ndimage.map_coordinates(
                (crop.labels == s.label).astype(np.float32), inner, order=1, mode="constant", prefilter=False
            )
            mask = ndimage.gaussian_filter(mask, 0.6 * min(crop.geometry.spacing) / PIXEL_MM)
            if mask.max() > 0.5:
                color = tuple(c / 255 for c in s.color)
                axes.contourf(mask, levels=[0.5, 2.0], colors=[(*color, 0.16)])
                axes.contour(mask, levels=[0.5], colors=[vivid(color)], linewidths=1.5)
    annotate(axes, plane, center, world.shape[1], world.shape[0])


def _picture_3d(
    result: Result,
    surfaces: Sequence[tuple[Structure, str | Path]],
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[np.ndarray | None, tuple[Finding, ...]]:
    """Render the surfaces with VTK; without surfaces, or with a finding if that fails, shade the labels."""
    findings: tuple[Finding, ...] = ()
    if surfaces:
        picture, reason = render_surfaces(surfaces, (1460, 1088), background)
        if picture is not None:
            return picture, ()
        text = _(
            "The 3D view of the preview shows shaded labels because the surfaces could not be rendered: {reason}."
        ).format(reason=reason)
        findings = (Finding("preview-simplified", Severity.INFO, text, None, {"reason": reason}),)
    return shaded_projection(result.labels, result.geometry, result.structures), findings


def _draw_3d(axes: Axes, picture: np.ndarray | None, ink: str = TEXT) -> None:
    if picture is None:
        axes.text(0.5, 0.5, "no heart found", ha="center", va="center", color=MUTED, fontsize=14)
        return
    axes.imshow(picture, interpolation="bilinear", aspect="equal")
    axes.set_anchor("C")
    rows, columns = picture.shape[:2]
    aspect = aspect_of(axes)
    pad = 1.0 if abs(columns / rows - aspect) < 0.02 else 1.06
    height = max(rows, columns / aspect) * pad
    width = height * aspect
    axes.set_xlim(columns / 2 - width / 2, columns / 2 + width / 2)
    axes.set_ylim(rows / 2 + height / 2, rows / 2 - height / 2)
    style: dict[str, Any] = {"color": ink, "fontsize": 12, "fontweight": "bold", "transform": axes.transAxes}
    axes.text(0.015, 0.5, "R", ha="left", va="center", **style)
    axes.text(0.985, 0.5, "L", ha="right", va="center", **style)
    axes.text(
        0.015, 0.975, "3D, from the front", ha="left", va="top", color=MUTED, fontsize=9.5, transform=axes.transAxes
    )


def _write_title(figure: Any, volume: Volume, result: Result, window: tuple[float, float]) -> None:
    name = volume.name if len(volume.name) <= 60 else volume.name[:57] + "…"
    figure.text(0.012, 0.965, name, color=TEXT, fontsize=17, fontweight="bold", va="center", parse_math=False)
    model = result.provenance.model_label
    x, y, z = volume.geometry.spacing
    parts = [
        f"HeartSeg · {model}" if model else "HeartSeg",
        *([volume.modality] if volume.modality else []),
        f"{x:.2f} × {y:.2f} × {z:.2f} mm",
        f"window {window[0]:.0f} to {window[1]:.0f}",
    ]
    figure.text(0.012, 0.93, "  ·  ".join(parts), color=MUTED, fontsize=10.5, va="center", parse_math=False)
    figure.text(
        0.988, 0.955, "RESEARCH USE ONLY", color="#ffc857", fontsize=11, fontweight="bold", ha="right", va="center"
    )


def _text_panel(figure: Any, place: tuple[float, float, float, float]) -> Axes:
    """Add an empty panel for text; positions are fractions of its width and height."""
    axes = figure.add_axes(place)
    axes.set_facecolor(PANEL)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _write_legend(figure: Any, rows: Sequence[MeasurementRow]) -> None:
    axes = _text_panel(figure, (0.76, 0.475, 0.228, 0.435))
    step = 1.0 / (max(len(rows), 4) + 0.6)
    for number, row in enumerate(rows):
        y = 1.0 - step * (number + 0.8)
        found = row.volume_ml is not None
        color = vivid(tuple(c / 255 for c in row.color))
        axes.scatter([0.06], [y], s=110, marker="s", color=[(*color, 1.0 if found else 0.3)], linewidths=0)
        name = row.name.replace("left ventricular myocardium", "LV myocardium")
        axes.text(0.12, y, name, color=TEXT if found else MUTED, fontsize=11, va="center")
        volume = f"{row.volume_ml:.0f} mL" if row.volume_ml is not None else "not found"
        axes.text(
            0.96, y, volume, color=TEXT if found else MUTED, fontsize=12, fontweight="bold", ha="right", va="center"
        )
        more = f"{row.mass_g:.0f} g" if row.mass_g is not None else ""
        more = f"Ø {row.diameter_mm:.0f} mm" if row.diameter_mm is not None else more
        axes.text(0.96, y - 0.4 * step, more, color=MUTED, fontsize=9, ha="right", va="center")


def _write_findings(figure: Any, findings: Sequence[Finding]) -> None:
    axes = _text_panel(figure, (0.76, 0.02, 0.228, 0.435))
    ranked = merged_findings(findings)
    axes.text(
        0.04, 0.955, "Findings" if ranked else "No findings", color=TEXT, fontsize=12, fontweight="bold", va="top"
    )
    y, shown = 0.865, 0
    for finding in ranked[:FINDINGS_SHOWN]:
        lines = textwrap.wrap(finding.message, 38)
        lines = lines if len(lines) <= 5 else [*lines[:4], lines[4][:37] + "…"]
        height = 0.046 * len(lines)
        if y - height < 0.07:
            break
        color = SEVERITY_COLORS[finding.severity]
        axes.plot([0.045, 0.045], [y + 0.002, y - height + 0.004], color=color, linewidth=3, solid_capstyle="butt")
        axes.text(0.08, y, "\n".join(lines), color=TEXT, fontsize=9.2, va="top", linespacing=1.25, parse_math=False)
        y -= height + 0.035
        shown += 1
    if len(ranked) > shown:
        axes.text(0.04, 0.03, f"and {len(ranked) - shown} more in the report", color=MUTED, fontsize=9.2, va="bottom")
