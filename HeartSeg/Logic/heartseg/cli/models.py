"""``heartseg models``: list, inspect, check, install, map and remove models."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HeartSegError, ModelError, one_line
from ..findings import Severity
from ..models.checking import check_model
from ..models.download import Rules, facts_of, forget, install_from, is_address
from ..models.install import remove_model, set_labels
from ..models.labels import map_text, parse_label_map, suggest_labels, suggested_map
from ..models.store import StoredModel, find_model, list_models, search_folders, user_folder
from ..models.summary import ModelSummary, figures_of, size_on_disk, size_text
from ..progress import Reporter
from .exits import stop_token
from .progress import ProgressBar

if TYPE_CHECKING:
    from ..models.folder import ModelFolder

_LABELS_HELP = 'structures of the labels of the model, e.g. "1=LV,2=RV,3=MYO"'
_MODEL_HELP = "name of an installed model, or a folder (default: the default model)"
_EXAMPLES = """\
examples:
  heartseg models list
  heartseg models info HeartSeg-Default
  heartseg models check ~/nnUNet_results/Dataset027_ACDC/nnUNetTrainer__nnUNetPlans__3d_fullres
  heartseg models install my_model.zip --name MyHeart
  heartseg models install https://example.org/my_model.zip --sha256 HASH
  heartseg models install nnUNetTrainer__nnUNetPlans__3d_fullres --labels "1=RV,2=MYO,3=LV"
  heartseg models map MyHeart --labels "500=LV,600=RV"
  heartseg models remove MyHeart
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add the subcommand; the parsed arguments have :func:`run` as ``run``."""
    raw = argparse.RawDescriptionHelpFormatter
    summary = "list, inspect, check, install, map and remove models"
    parser = subparsers.add_parser(
        "models",
        help=summary,
        description=f"{summary.capitalize()}. Models are nnU-Net v2 folders, with or without a card (heartseg.json).",
        epilog=_EXAMPLES,
        formatter_class=raw,
    )
    actions = parser.add_subparsers(dest="models_action", metavar="ACTION", required=True)

    def action(name: str, text: str, handler: Any, example: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=raw,
        )
        sub.add_argument("--json", action="store_true", help="print JSON instead of text")
        sub.set_defaults(run=run, models_handler=handler)
        return sub

    action("list", "list the installed models in search order", _list, "heartseg models list --json")

    info = action("info", "show the properties of a model", _info, "heartseg models info HeartSeg-Default")
    info.add_argument("model", nargs="?", metavar="MODEL", help=_MODEL_HELP)
    info.add_argument("--labels", metavar="MAP", type=_label_map, help=_LABELS_HELP)

    check = action(
        "check",
        "check hashes and labels, load the weights and run the network once (exit code 2 if the model cannot be used)",
        _check,
        'heartseg models check ./my_model --labels "1=LV,2=MYO"',
    )
    check.add_argument("model", nargs="?", metavar="MODEL", help=_MODEL_HELP)
    check.add_argument("--labels", metavar="MAP", type=_label_map, help=_LABELS_HELP)

    install = action(
        "install",
        "check a model and copy it to your model folder, after downloading it if the source is a URL",
        _install,
        'heartseg models install my_model.zip --name MyHeart --labels "1=LV,2=RV"',
    )
    install.add_argument(
        "source",
        metavar="SOURCE",
        help="model folder, a .zip file that contains one, or the https URL of such a file, followed by #sha256=... if "
        "the hash is known; an interrupted download is resumed",
    )
    install.add_argument("--name", help="name of the installed model (default: from the card, else from the source)")
    install.add_argument(
        "--labels", "--map", metavar="MAP", type=_label_map, help=f"{_LABELS_HELP}; stored in the model card"
    )
    install.add_argument("--overwrite", action="store_true", help="replace an installed model of the same name")
    install.add_argument("--sha256", metavar="HASH", help="expected SHA-256 of the .zip file, from its publisher")
    install.add_argument("--allow-http", action="store_true", help="allow downloads from an unencrypted URL")

    mapping = action(
        "map",
        "show the labels of a model with suggested structures, or set the structures (stored in its card)",
        _map,
        'heartseg models map MyHeart --labels "500=LV,600=RV,420=LA,550=RA,205=MYO,820=AO,850=PA"',
    )
    mapping.add_argument("model", metavar="NAME", help="name of the installed model")
    mapping.add_argument("--labels", "--map", metavar="MAP", type=_label_map, help=_LABELS_HELP)

    action("folder", "print your model folder", _folder, "heartseg models folder")

    forgets = action(
        "forget",
        "delete an unfinished download",
        _forget,
        "heartseg models forget https://example.org/my_model.zip",
    )
    forgets.add_argument("address", metavar="URL", help="URL of the download")

    remove = action("remove", "delete a model from your model folder", _remove, "heartseg models remove MyHeart")
    remove.add_argument("model", metavar="NAME", help="name of the installed model")
    return parser


def run(args: argparse.Namespace) -> int:
    """Run the action; return the exit code. Errors are raised as ``HeartSegError``."""
    return int(args.models_handler(args))


def describe(model: ModelFolder) -> dict[str, Any]:
    """JSON-serializable description of a model."""
    card = model.card
    facts: dict[str, Any] = {
        "name": model.name,
        "version": card.version if card else None,
        "path": str(model.path),
        "description": card.description if card else "nnU-Net v2 folder without a card",
        "intended_use": card.intended_use if card else "",
        "modalities": list(card.modalities) if card else [],
        "licence": card.licence if card else "",
        "citation": list(card.citation) if card else [],
        "known_failures": list(card.known_failures) if card else [],
        "trained_on": card.trained_on if card else {},
        "tested_on": list(card.tested_on) if card else [],
        "figures": list(figures_of(card)) if card else [],
        "orientation": card.orientation if card else None,
        "finder": card.finder if card else None,
        "configuration": model.configuration,
        "folds": list(model.folds),
        "network": model.network.class_name,
        "patch_size_zyx": list(model.patch_size),
        "spacing_zyx_mm": list(model.spacing),
        "transpose_forward": list(model.transpose_forward),
        "normalization": list(model.normalization_schemes),
        "labels": {str(value): name for value, name in model.heads.foreground().items()},
        "structures": {str(value): key for value, key in model.structures.items()},
        "unmapped": list(model.unmapped),
        "suggested": {str(value): key for value, key in suggested_map(model.heads).items()},
        "needs_nnunetv2": model.needs_fallback,
        "size_bytes": size_on_disk(model.path),
    }
    return facts


def _list(args: argparse.Namespace) -> int:
    models = list_models()
    if args.json:
        _print_json([_listed(m) for m in models])
        return 0
    if not models:
        print("No model is installed. Searched:")
        print("\n".join(f"  {p}" for p in search_folders()))
        print("Install one with: heartseg models install FOLDER_OR_ZIP")
        return 0
    width = max(len(m.name) for m in models)
    version_width = max(len(_version(m)) for m in models)
    for m in models:
        lines = zip((m.name, ""), _lines(m, version_width), strict=False)
        print("\n".join(f"{start:<{width}}  {text}" for start, text in lines))
    return 0


def _version(model: StoredModel) -> str:
    """Version in the card; empty for a model that cannot be opened."""
    card = model.folder.card if model.folder else None
    return card.version if card else "no card" if model.folder else ""


def _lines(model: StoredModel, version_width: int) -> tuple[str, ...]:
    """One or two lines on a model; a broken one does not hide the others."""
    try:
        return _facts_in_lines(model, version_width)
    except Exception as error:  # whatever a damaged folder causes
        return (f"cannot be used: {model.problem or one_line(error)}",)


def _facts_in_lines(model: StoredModel, version_width: int) -> tuple[str, str]:
    if model.folder is None:
        raise ModelError(model.problem or "it cannot be opened")
    facts = describe(model.folder)
    spacing = " x ".join(f"{v:g}" for v in model.folder.spacing)
    kind = "shipped" if model.shipped else "user"
    names = ", ".join(dict.fromkeys(model.folder.structures.values())) or "no known structure (use --labels)"
    size = size_text(facts["size_bytes"])
    summary = ModelSummary.of(model)
    details = [*summary.figures[:1], f"licence: {summary.licence or 'not stated'}"]
    first = f"{_version(model):<{version_width}}  {kind:<7}  {names}; {spacing} mm; {size}"
    return first, "; ".join(details)


def _listed(model: StoredModel) -> dict[str, Any]:
    problem, facts = model.problem, {"path": str(model.path)}
    try:
        facts = describe(model.folder) if model.folder else facts
    except Exception as error:  # whatever a damaged folder causes
        problem = one_line(error)
    return {**facts, "name": model.name, "shipped": model.shipped, "problem": problem}


def _info(args: argparse.Namespace) -> int:
    facts = describe(find_model(args.model, args.labels))
    if args.json:
        _print_json(facts)
        return 0
    for key, value in facts.items():
        if value in (None, "", [], {}):
            continue
        entries = value if isinstance(value, list) and isinstance(value[0], (dict, str)) else [value]
        for number, entry in enumerate(entries):
            print(f"{'' if number else key.replace('_', ' ') + ':':<20}{_as_text(entry)}")
    return 0


def _check(args: argparse.Namespace) -> int:
    findings = check_model(find_model(args.model, args.labels))
    usable = all(f.severity is not Severity.ERROR for f in findings)
    if args.json:
        _print_json({"usable": usable, "findings": [f.to_dict() for f in findings]})
    else:
        for finding in findings:
            print(f"{finding.severity.value:<8}{finding.message}")
        print("The model can be used." if usable else "The model cannot be used.")
    return 0 if usable else HeartSegError.exit_code


def _install(args: argparse.Namespace) -> int:
    rules = Rules(allow_http=args.allow_http)
    source = args.source if is_address(args.source) else Path(args.source)
    with ProgressBar() as bar:
        reporter = Reporter(bar, stop_token())
        installed = install_from(source, args.name, args.labels, args.overwrite, args.sha256, rules, reporter)
    model = installed.model
    if args.json:
        _print_json({**describe(model), "verification": facts_of(installed)})
        return 0
    structures = ", ".join(f"{value}={key}" for value, key in model.structures.items())
    print(f"Installed '{model.path.name}' in {model.path} ({structures})")
    if installed.sha256:
        print(installed.note)
    if model.unmapped:
        print(f"Labels that become background: {', '.join(model.unmapped)}")
    if model.needs_fallback:
        print(f"The model needs stock nnU-Net ({model.needs_fallback}): pip install 'heartseg[train]'")
    return 0


def _map(args: argparse.Namespace) -> int:
    model = set_labels(args.model, args.labels) if args.labels else find_model(args.model)
    suggestions = suggest_labels(model.heads)
    if args.json:
        rows = [
            {
                "value": s.value,
                "name": s.name,
                "structure": model.structures.get(s.value),
                "suggested": s.key,
                "why": s.why,
            }
            for s in suggestions
        ]
        _print_json({"model": model.path.name, "labels": rows})
        return 0
    width = max(len(s.name) for s in suggestions)
    for s in suggestions:
        now = model.structures.get(s.value, "background")
        suggestion = f"  suggested: {s.key} ({s.why})" if s.key and s.key != now else ""
        print(f"{s.value:>5}  {s.name:<{width}}  {now}{suggestion}")
    suggested = suggested_map(model.heads)
    if suggested and suggested != dict(model.structures):
        print(f'To apply the suggestions: heartseg models map {args.model} --labels "{map_text(suggested)}"')
    return 0


def _folder(args: argparse.Namespace) -> int:
    folder = user_folder()
    if args.json:
        _print_json({"folder": str(folder), "exists": folder.is_dir()})
    else:
        print(folder)
    return 0


def _forget(args: argparse.Namespace) -> int:
    deleted = forget(args.address)
    if args.json:
        _print_json({"deleted": deleted})
    else:
        print("The unfinished download was deleted." if deleted else "There is no unfinished download of this URL.")
    return 0


def _remove(args: argparse.Namespace) -> int:
    path = remove_model(args.model)
    if args.json:
        _print_json({"removed": str(path)})
    else:
        print(f"Removed {path}")
    return 0


def _label_map(text: str) -> dict[int, str]:
    try:
        return parse_label_map(text)
    except HeartSegError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={_as_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_as_text(v) for v in value)
    return str(value)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))
