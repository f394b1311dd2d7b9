"""The catalogue entry ``HeartSeg.json``, the top-level CMakeLists.txt, icon, screenshots and licence.

The entry's keys are those of Slicer's schema v1.0.1, which allows no others; what is asked of CMakeLists.txt is what
ExtensionsIndex's ``check_description_files.py`` reads from it with regular expressions.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from .tree import EXTENSION, Problem, Rule, Tree, cmake_value

ENTRY = f"{EXTENSION}.json"
TOP = "CMakeLists.txt"
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
KEYS: dict[str, type] = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
REQUIRED = {"$schema": SCHEMA, "category": "Cardiac", "tier": 1}
DEPENDENCIES = ["PyTorch"]
ICON_PIXELS = 128
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel of each PNG colour type."""


def entry(tree: Tree) -> dict[str, Any]:
    """The catalogue entry; empty where it is missing or no JSON object."""
    try:
        read = json.loads(tree.text(ENTRY) or "{}")
    except json.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}


def catalogue_entry(tree: Tree) -> list[Problem]:
    """The schema's keys and types, and the values that are ours."""
    if not entry(tree):
        return [Problem(f"{ENTRY} is missing or no JSON object", f"write {ENTRY} at the repository's top")]
    found = []
    for key, value in entry(tree).items():
        if key not in KEYS:
            found.append(Problem(f"{ENTRY} has the key '{key}', which the schema does not know", "take it out"))
        elif type(value) is not KEYS[key]:
            found.append(Problem(f"{ENTRY}: '{key}' is {value!r}", f"make it a {KEYS[key].__name__}"))
    for key, wanted in REQUIRED.items():
        if entry(tree).get(key) != wanted:
            found.append(Problem(f"{ENTRY}: '{key}' is {entry(tree).get(key)!r}", f"set it to {wanted!r}"))
    return found


def repository_address(tree: Tree) -> list[Problem]:
    """An https address of a repository called Slicer..., the same as the homepage; no such prefix on the extension."""
    if not entry(tree):
        return []  # catalogue-entry says so
    url = entry(tree).get("scm_url")
    address = urlsplit(url if isinstance(url, str) else "")
    name = PurePosixPath(address.path).name.removesuffix(".git")
    found = []
    if address.scheme not in ("https", "git") or not name.startswith("Slicer"):
        found.append(
            Problem(
                f"{ENTRY}: 'scm_url' is {url!r}", f"give an https address of a repository such as Slicer{EXTENSION}"
            )
        )
    homepage = cmake_value(tree.text(TOP), "EXTENSION_HOMEPAGE") or ""
    if str(url).removesuffix(".git") != homepage.partition("#")[0]:
        found.append(Problem(f"EXTENSION_HOMEPAGE is '{homepage}'", f"make it the 'scm_url' of {ENTRY}, {url!r}"))
    return found


def dependencies(tree: Tree) -> list[Problem]:
    """The entry and CMake name the same extensions."""
    said = entry(tree).get("build_dependencies")
    built = cmake_value(tree.text(TOP), "EXTENSION_DEPENDS")
    found = []
    if entry(tree) and said != DEPENDENCIES:
        found.append(Problem(f"{ENTRY}: 'build_dependencies' is {said!r}", f"set it to {json.dumps(DEPENDENCIES)}"))
    if (built or "").split() != DEPENDENCIES:
        found.append(Problem(f"{TOP}: EXTENSION_DEPENDS is {built!r}", f'set it to "{" ".join(DEPENDENCIES)}"'))
    return found


def project_name(tree: Tree) -> list[Problem]:
    """The first match of the Extension Manager's regular expression (in comments too) is the extension's name."""
    found = re.search(r"project\s*\(\s*([^\s\)\n\r]+)", tree.text(TOP), re.IGNORECASE)
    name = found.group(1).strip("\"'") if found else None
    if name == EXTENSION:
        return []
    return [Problem(f"the first project(...) in {TOP} is {name!r}", f"let project({EXTENSION}) come first")]


def category(tree: Tree) -> list[Problem]:
    """CMake names the category of the entry."""
    built = cmake_value(tree.text(TOP), "EXTENSION_CATEGORY")
    if built == REQUIRED["category"]:
        return []
    return [Problem(f"{TOP}: EXTENSION_CATEGORY is {built!r}", f'set it to "{REQUIRED["category"]}"')]


def icon_address(tree: Tree) -> list[Problem]:
    """A literal https address of a PNG that lies in this tree."""
    return _address_problems(
        tree, "EXTENSION_ICONURL", [cmake_value(tree.text(TOP), "EXTENSION_ICONURL") or ""], (".png",)
    )


def screenshot_addresses(tree: Tree) -> list[Problem]:
    """One or more such addresses, separated by blanks."""
    addresses = (cmake_value(tree.text(TOP), "EXTENSION_SCREENSHOTURLS") or "").split(" ")
    return _address_problems(tree, "EXTENSION_SCREENSHOTURLS", addresses, (".png", ".jpg", ".jpeg", ".gif"))


def icon_file(tree: Tree) -> list[Problem]:
    """The icon decodes and measures 128 x 128."""
    path = _path_in_tree(cmake_value(tree.text(TOP), "EXTENSION_ICONURL") or "")
    path = path if tree.has(path) else f"{EXTENSION}/Resources/Icons/{EXTENSION}.png"
    mend = f"save a PNG of {ICON_PIXELS} x {ICON_PIXELS} pixels there"
    if not tree.has(path):
        return [Problem(f"there is no icon {path}", mend)]
    try:
        size = png_size((tree.root / path).read_bytes())
    except ValueError as error:
        return [Problem(f"the icon {path} cannot be read ({error})", mend)]
    if size != (ICON_PIXELS, ICON_PIXELS):
        return [Problem(f"the icon {path} has {size[0]} x {size[1]} pixels", mend)]
    return []


def licence(tree: Tree) -> list[Problem]:
    """LICENSE.txt at the top holds the licence that README.md names."""
    found = []
    if "Apache License" not in tree.text("LICENSE.txt"):
        found.append(Problem("LICENSE.txt is missing or not the Apache License", "put the licence's text there"))
    if not re.search(r"Apache[- ](License )?2\.0", tree.text("README.md")):
        found.append(Problem("README.md does not name the licence", "name it (Apache-2.0) and link LICENSE.txt"))
    return found


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG whose chunks and pixels are whole.

    Raises:
        ValueError: it is no PNG, damaged, or interlaced (which an icon need not be).
    """
    if not data.startswith(_SIGNATURE):
        raise ValueError("no PNG")
    header, pixels, position, end = b"", b"", len(_SIGNATURE), False
    while position < len(data) and not end:
        length, kind = struct.unpack_from(">I4s", data, position) if position + 8 <= len(data) else (0, b"")
        body = data[position + 8 : position + 8 + length]
        checksum = data[position + 8 + length : position + 12 + length]
        if len(checksum) != 4 or zlib.crc32(kind + body) != int.from_bytes(checksum, "big"):
            raise ValueError("damaged")
        header = body if kind == b"IHDR" else header
        pixels += body if kind == b"IDAT" else b""
        end, position = kind == b"IEND", position + 12 + length
    if len(header) != 13 or not end:
        raise ValueError("cut off")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if interlaced or colour not in _CHANNELS:
        raise ValueError("interlaced or of an unknown colour type")
    try:
        unpacked = len(zlib.decompress(pixels))
    except zlib.error as error:
        raise ValueError("damaged pixels") from error
    if unpacked != height * (1 + (width * depth * _CHANNELS[colour] + 7) // 8):
        raise ValueError("too few or too many pixels")
    return width, height


def _address_problems(tree: Tree, variable: str, addresses: list[str], suffixes: tuple[str, ...]) -> list[Problem]:
    found = []
    for address in addresses:
        literal = re.fullmatch(r"https://[^\s;,$]+", address) and address.endswith(suffixes)
        if not literal:
            found.append(
                Problem(
                    f"{TOP}: {variable} holds '{address}'",
                    f"write literal https addresses that end in {' or '.join(suffixes)}, one blank between two",
                )
            )
        elif not tree.has(_path_in_tree(address)):
            found.append(Problem(f"{variable} names {_path_in_tree(address)}, which is not in this tree", "commit it"))
    return found


def _path_in_tree(address: str) -> str:
    """Path of a file in the repository by its address on raw.githubusercontent.com (owner/repository/branch/path)."""
    return "/".join(urlsplit(address).path.split("/")[4:])


RULES = (
    Rule("catalogue-entry", f"{ENTRY} holds the schema's keys: category Cardiac, tier 1", catalogue_entry),
    Rule(
        "repository-address", "the repository is called Slicer..., as homepage and entry say alike", repository_address
    ),
    Rule("dependencies", "build_dependencies and EXTENSION_DEPENDS are PyTorch", dependencies),
    Rule("project-name", f"the first project(...) in {TOP} is {EXTENSION}", project_name),
    Rule("category", "EXTENSION_CATEGORY is the entry's", category),
    Rule("icon-address", "EXTENSION_ICONURL is a literal https address of a PNG in this tree", icon_address),
    Rule("icon-file", "the icon is a whole PNG of 128 x 128 pixels", icon_file),
    Rule("screenshots", "EXTENSION_SCREENSHOTURLS are addresses of pictures in this tree", screenshot_addresses),
    Rule("licence", "LICENSE.txt is there and README.md names it", licence),
)
