"""Check that two trees give bit-identical labels: the sample scan and the real scans of ``../shared``.

``python tools/compare_labels.py record before.json`` in one tree, ``... record after.json`` in the other, then
``python tools/compare_labels.py compare before.json after.json``. Hashes depend on the machine and its libraries:
record both on the same one. Only the public API is used, so that old trees can be recorded too (``PYTHONPATH``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "HeartSeg/Resources/SampleData/HeartSeg-synthetic-CTA.nii.gz"
SHARED = ROOT.parent / "shared/data"
REAL = (
    ("scans/ct_chest_arterial_windowed_uint8.nii.gz", "CT"),
    ("scans/ct_chest_arterial_hu.nii.gz", "CT"),
    ("scans/ct_chest_weak_contrast_3mm.nii.gz", "CT"),
    ("dicom/lung-dx-a0002", ""),
    ("scans/bivme_patient1_SAX_frame00_img.nii.gz", "MR"),
)
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "accurate": {"accurate": True},
    "center": {"heart_center": (0.0, 0.0, 0.0)},
    "center-accurate-map": {"heart_center": (5.0, 0.0, 0.0), "accurate": True, "confidence_map": True},
    "no-locate": {"locate": False, "confidence_map": True, "clean_up": False},
    "stored-axes": {"reorient": False, "confidence_map": True},
}
"""Settings tried on the sample scan: each way of running the network once."""


def record(out: Path, only: str = "") -> None:
    """Segment the scans whose key holds ``only``; hashes of labels and maps, findings and measures go to ``out``."""
    import heartseg

    runs = [(f"sample/{name}", SAMPLE, "CT", settings) for name, settings in VARIANTS.items()]
    runs += [(path, SHARED / path, modality, {}) for path, modality in REAL if (SHARED / path).exists()]
    found = {}
    for key, path, modality, settings in runs:
        if only in key:
            found[key] = _run(heartseg, path, modality, settings)
            out.write_text(json.dumps(found, indent=1) + "\n")


def _run(heartseg: Any, path: Path, modality: str, settings: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    volume = heartseg.read_volume(path, **({"modality": modality} if modality else {}))
    result = heartseg.segment(volume, settings=heartseg.Settings(**settings))
    seconds = time.perf_counter() - started
    percent = result.confidence_map
    print(f"{path.name} {settings}: {seconds:.1f} s", flush=True)
    return {
        "labels": hashlib.sha256(result.labels.tobytes()).hexdigest(),
        "map": None if percent is None else hashlib.sha256(percent.tobytes()).hexdigest(),
        "findings": sorted(f"{f.severity.value} {f.code} {f.structure or ''}" for f in result.findings),
        "measures": {f"{m.structure} {m.quantity} {m.unit}": m.value for m in result.measures},
    }


def compare(first: Path, second: Path) -> int:
    """Print what differs; 1 if labels or maps do."""
    a, b = (json.loads(p.read_text()) for p in (first, second))
    bad = 0
    for key in sorted(a.keys() & b.keys()):
        x, y = a.get(key, {}), b.get(key, {})
        other = [part for part in x.keys() | y.keys() if x.get(part) != y.get(part)]
        bad += bool({"labels", "map"} & set(other))
        print(f"{key:50} {'identical' if not other else 'DIFFERS: ' + ', '.join(sorted(other))}")
    return int(bad > 0)


def main() -> int:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record")
    one.add_argument("out", type=Path)
    one.add_argument("--only", default="", help="part of a key: the scans to segment")
    two = commands.add_parser("compare")
    two.add_argument("first", type=Path)
    two.add_argument("second", type=Path)
    args = parser.parse_args()
    if args.command == "record":
        record(args.out, args.only)
        return 0
    return compare(args.first, args.second)


if __name__ == "__main__":
    sys.exit(main())
