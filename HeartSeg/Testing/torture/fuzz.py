"""Property-based fuzzing of every reader: valid files, damaged by hypothesis, are read by a child process.

Properties: no crash, no hang, only HeartSeg's own exceptions; and a file that lacks part of its voxels is never read as
if it were complete. (A changed byte inside the voxels of an uncompressed file cannot be detected and is not counted.)
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture.child import Child, Outcome
from volume import dicom_files as dicom

HEADER_BYTES = 600
NUMBERS = (b"0", b"-1", b"1e30", b"nan", b"99999999999", b"", b"%s%n", b"1000000000", b"\xff\xfe")


@dataclass(frozen=True)
class Spoiling:
    """Damage of one file.

    Attributes:
        seed: name of the valid scan.
        kind: ``flip``, ``cut``, ``insert``, ``number``, ``zero`` or ``repeat``.
        place: relative position of the damage in the file (or in its header).
        header: whether the position is in the first :data:`HEADER_BYTES`.
        amount: number of bytes, or index of the replacement.
    """

    seed: str
    kind: str
    place: float
    header: bool
    amount: int


def make_seeds(folder: Path) -> dict[str, Path]:
    """Write a small valid scan in every format that HeartSeg reads; returns name -> file or folder."""
    import SimpleITK as sitk

    scan = dicom.phantom(replace(dicom.GRID, shape=(12, 10, 11), spacing=(8.0, 8.0, 8.0)))
    image = sitk.GetImageFromArray(scan.array)
    image.SetSpacing(scan.geometry.spacing)
    seeds = {}
    for name in ("a.nii", "b.nii.gz", "c.nrrd", "d.mha", "e.nhdr", "f.mhd"):
        place = folder / name.replace(".", "_")
        place.mkdir(parents=True)
        sitk.WriteImage(image, str(place / name), name in ("b.nii.gz", "c.nrrd", "f.mhd"))
        seeds[name] = place / name
    planes = dicom.planes(scan)
    seeds["classic"] = dicom.write_classic(folder / "classic", planes)
    dicom.save(dicom.enhanced(planes), folder / "enhanced" / "one.dcm")
    dicom.save(dicom.enhanced(planes), folder / "packed" / "one.dcm", dicom.RLELossless)
    return {**seeds, "enhanced": folder / "enhanced", "packed": folder / "packed"}


def spoilings(names: list[str]) -> st.SearchStrategy[Spoiling]:
    """Strategy for the damage of a file."""
    return st.builds(
        Spoiling,
        st.sampled_from(names),
        st.sampled_from(["flip", "cut", "insert", "number", "zero", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.booleans(),
        st.integers(1, 64),
    )


def spoil(content: bytes, how: Spoiling) -> bytes:
    """Return the damaged bytes of a file."""
    place = int(how.place * (min(HEADER_BYTES, len(content)) if how.header else len(content)))
    if how.kind == "cut":
        return content[:place]
    if how.kind == "insert":
        return content[:place] + bytes([how.amount * 3 % 256]) * how.amount + content[place:]
    if how.kind == "zero":
        return content[:place] + bytes(how.amount) + content[place + how.amount :]
    if how.kind == "repeat":
        return content[: place + how.amount] + content[place:]
    if how.kind == "number":
        digits = [k for k, byte in enumerate(content[:HEADER_BYTES]) if 48 <= byte <= 57] or [place]
        k = digits[int(how.place * len(digits))]
        return content[:k] + NUMBERS[how.amount % len(NUMBERS)] + content[k + 1 :]
    rng = np.random.default_rng(how.amount)
    out = bytearray(content)
    for k in range(min(how.amount, 8)):
        at = min(len(out) - 1, place + 3 * k)
        out[at] ^= int(rng.integers(1, 256))
    return bytes(out)


def spoilt_copy(source: Path, how: Spoiling, folder: Path) -> tuple[Path, bool]:
    """Make a damaged copy of a scan in a separate folder; returns it, and whether voxels are missing."""
    shutil.rmtree(folder, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, folder)
        files = sorted(folder.iterdir())
        target, scan = files[how.amount % len(files)], folder
    else:
        shutil.copytree(source.parent, folder)
        files = sorted(folder.iterdir())
        target, scan = files[how.amount % len(files)], folder / source.name
    content = target.read_bytes()
    spoilt = spoil(content, how)
    target.write_bytes(spoilt)
    return scan, how.kind == "cut" and len(spoilt) < len(content)


def run(examples: int, start: int = 0) -> tuple[Counter[str], list[str]]:
    """Fuzz all readers; returns counts of the outcomes and a line for each failure.

    Args:
        examples: number of damaged files.
        start: seed of the random choices.
    """
    counts: Counter[str] = Counter()
    faults: list[str] = []
    child = Child()
    with tempfile.TemporaryDirectory() as name:
        seeds = make_seeds(Path(name, "seeds"))
        sound = {key: child.read(path) for key, path in seeds.items()}
        assert {outcome.outcome for outcome in sound.values()} == {"read"}, sound

        @seed(start)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(spoilings(sorted(seeds)))
        def attempt(how: Spoiling) -> None:
            scan, short = spoilt_copy(seeds[how.seed], how, Path(name, "spoilt"))
            outcome = child.read(scan)
            verdict = judged(outcome, sound[how.seed], short)
            counts[verdict] += 1
            if verdict not in ("read", "refused", "warned"):
                faults.append(f"{verdict}: {how}: {outcome.message}")

        try:
            attempt()
        finally:
            child.close()
    return counts, faults


def judged(outcome: Outcome, sound: Outcome, short: bool) -> str:
    """Return ``silent`` if a file without part of its voxels was read with different content and without a warning."""
    if outcome.outcome != "read":
        return outcome.outcome
    if set(outcome.warnings) - set(sound.warnings):
        return "warned"
    different = (outcome.voxels, outcome.grid) != (sound.voxels, sound.grid)
    return "silent" if short and different else "read"
