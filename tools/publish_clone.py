"""Make a copy of the repository whose history holds no superseded weights and pictures: what Slicer's index clones.

::

    python tools/publish_clone.py OUT      # or: make publish-clone OUT=DIR

The history of HEAD is fetched into OUT, and every version of a binary file (weights, scans, pictures) that HEAD no
longer holds is removed from it with git-filter-repo. The files of HEAD stay byte-identical, which is checked; commits
get new hashes. Uncommitted changes are not part of it. OUT must not exist.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BINARY = (".pth", ".npz", ".npy", ".nii.gz", ".nrrd", ".png", ".jpg", ".jpeg", ".gif", ".pdf", ".zip")
LARGEST_MB = 50
"""Half of what Slicer's index allows, so that a new model of 14 MB fits twice before history must be filtered again."""


def git(folder: Path, *arguments: str) -> str:
    """Output of a git command in a folder; exits with git's own words where it fails."""
    run = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"git {' '.join(arguments[:2])} failed in {folder}: {run.stderr.strip()}")
    return run.stdout


def superseded(folder: Path) -> list[str]:
    """Hashes of the binary files in HEAD's history that HEAD does not hold."""
    held = {line.split()[2] for line in git(folder, "ls-tree", "-r", "HEAD").splitlines()}
    listed = (line.partition(" ") for line in git(folder, "rev-list", "--objects", "HEAD").splitlines())
    return sorted({name for name, _, path in listed if path.lower().endswith(BINARY) and name not in held})


def publish(source: Path, out: Path) -> Path:
    """Write the filtered copy of ``source`` to ``out``, on branch main, and return ``out``."""
    if out.exists():
        raise SystemExit(f"{out} exists already: choose another folder, or remove it")
    if git(source, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise SystemExit(f"{source} is a shallow clone without its history: run git fetch --unshallow first")
    out.mkdir(parents=True)
    git(out, "init", "-q", "-b", "main")
    git(out, "fetch", "-q", "--no-tags", str(source.resolve()), "HEAD:refs/heads/fetched")
    git(out, "reset", "-q", "--hard", "fetched")
    git(out, "branch", "-q", "-D", "fetched")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
        listed.write("\n".join(superseded(out)))
        listed.flush()
        command = [sys.executable, "-m", "git_filter_repo", "--force", "--quiet", "--refs", "main"]
        subprocess.run([*command, "--strip-blobs-with-ids", listed.name], cwd=out, check=True, capture_output=True)
    shutil.rmtree(out / ".git" / "filter-repo")  # its notes
    git(out, "reflog", "expire", "--expire=now", "--all")
    git(out, "gc", "-q", "--prune=now")
    wanted, made = (git(folder, "rev-parse", "HEAD^{tree}") for folder in (source, out))
    if wanted != made or git(out, "status", "--porcelain"):
        raise SystemExit(f"the files of {out} are not those of HEAD: do not publish it")
    return out


def size_mb(folder: Path) -> float:
    """MB (10**6 bytes) of all files, ``.git`` included, as ExtensionsIndex's check_repository_size counts them."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink()) / 1e6


def main(arguments: list[str] | None = None) -> int:
    """Publish the repository of this file; 0 when the copy is small enough."""
    parser = argparse.ArgumentParser(prog="python tools/publish_clone.py", description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    out = publish(Path(__file__).resolve().parents[1], parser.parse_args(arguments).out)
    size = size_mb(out)
    print(f"{out}: {size:.1f} MB, {LARGEST_MB - size:.1f} MB below the limit of {LARGEST_MB} MB")
    return int(size > LARGEST_MB)


if __name__ == "__main__":
    sys.exit(main())
