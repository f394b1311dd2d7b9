"""Short summary of a model for lists: structures, accuracy, licence and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..wording import _, listed
from .card import ModelCard
from .store import StoredModel


@dataclass(frozen=True)
class ModelSummary:
    """Summary of a model.

    Attributes:
        name: name that identifies the model.
        path: its folder.
        shipped: whether it is part of HeartSeg and cannot be removed.
        problem: error message if it cannot be used, else ``None``.
        version, description, licence: from the card; empty without a card.
        modalities: modalities in the card, e.g. ``("CT", "MR")``.
        structures: keys of the segmented structures.
        size_bytes: size of its files on disk.
        figures: one line per test in the card, with the number of cases.
        known_failures: known failure modes from the card.
    """

    name: str
    path: Path
    shipped: bool
    problem: str | None
    version: str = ""
    description: str = ""
    licence: str = ""
    modalities: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    size_bytes: int = 0
    figures: tuple[str, ...] = ()
    known_failures: tuple[str, ...] = ()

    @classmethod
    def of(cls, stored: StoredModel) -> ModelSummary:
        """Summarize a listed model, including one that cannot be opened."""
        size = size_on_disk(stored.path)
        if stored.folder is None:
            return cls(stored.name, stored.path, stored.shipped, stored.problem, size_bytes=size)
        card = stored.folder.card
        structures = tuple(dict.fromkeys(stored.folder.structures.values()))
        if card is None:
            return cls(stored.name, stored.path, stored.shipped, None, structures=structures, size_bytes=size)
        return cls(
            name=stored.name,
            path=stored.path,
            shipped=stored.shipped,
            problem=None,
            version=card.version,
            description=card.description,
            licence=card.licence,
            modalities=card.modalities,
            structures=structures,
            size_bytes=size,
            figures=figures_of(card),
            known_failures=card.known_failures,
        )

    @property
    def line(self) -> str:
        """One-line description for the model selector."""
        if self.problem:
            return _("Cannot be used: {problem}").format(problem=self.problem)
        return _("{structures} in {modality}; {figure}; {size}; {licence}").format(
            structures=self.structures or _("no known structure: map its labels"),
            modality=listed(self.modalities) if self.modalities else _("unknown modality"),
            figure=self.figures[0] if self.figures else _("no test figures"),
            size=size_text(self.size_bytes),
            licence=self.licence or _("licence not stated"),
        )


def size_on_disk(folder: Path) -> int:
    """Total size of the files below a folder in bytes; links are not followed."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())


def size_text(size: int) -> str:
    """Format a size in units of 10^6 or 10^9 bytes: ``"14.2 MB"``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def figures_of(card: ModelCard) -> tuple[str, ...]:
    """Format the results in ``tested_on``: ``"Dice 0.855 (SD 0.071, n = 24, frozen synthetic CTA)"``.

    The format of the entries is free; entries without a mean figure are skipped.
    """
    return tuple(line for entry in card.tested_on if (line := _figure(entry)))


def _figure(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return ""
    figures = entry.get("figures")
    mean = figures.get("mean") if isinstance(figures, Mapping) else None
    value, sd = (mean.get("mean"), mean.get("sd")) if isinstance(mean, Mapping) else (mean, None)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    metric = str(entry.get("metric") or "figure").partition(" ")[0].strip(",:")
    details = [f"SD {sd:.2f}"] if isinstance(sd, int | float) else []
    details += [f"n = {entry['n']}"] if "n" in entry else []
    details += [str(entry["data"])] if entry.get("data") else []
    return f"{metric} {value:.2f}" + (f" ({', '.join(details)})" if details else "")
