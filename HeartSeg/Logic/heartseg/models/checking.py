"""Model check: hashes, labels, weights and one small forward pass, reported as findings."""

from __future__ import annotations

import importlib.util
import pydoc
import time
from pathlib import Path

from ..errors import HeartSegError, ModelError
from ..findings import Finding, Severity, sorted_findings
from ..needs import import_torch
from ..wording import _
from .checkpoint import verify_hash
from .folder import ModelFolder
from .graph import LoadedGraph, load_installed
from .labels import LabelMap
from .loading import LoadedModel


def check_model(model: ModelFolder | str | Path, label_map: LabelMap | None = None) -> tuple[Finding, ...]:
    """Check a model and, if there is one, its finder.

    Returns at least one finding, most severe first. The model is usable if no finding is an error.

    Args:
        model: an opened model or the path of its folder.
        label_map: used to open a path, see :meth:`ModelFolder.open`.
    """
    try:
        folder = model if isinstance(model, ModelFolder) else ModelFolder.open(model, label_map)
    except HeartSegError as error:
        return (Finding("model-unreadable", Severity.ERROR, str(error)),)
    findings = [*_check_files(folder), *_check_labels(folder), *_check_network(folder)]
    try:
        finder = folder.open_finder()
    except HeartSegError as error:
        findings.append(Finding("model-finder", Severity.ERROR, str(error)))
    else:
        if finder is not None:
            findings += _check_network(finder, "finder: ")
    return sorted_findings(findings)


def _check_files(folder: ModelFolder) -> list[Finding]:
    findings = []
    for relative, expected in folder.hashes.items():
        try:
            verify_hash(folder.path / relative, expected)
        except ModelError as error:
            findings.append(Finding("model-hash", Severity.ERROR, str(error), values={"file": relative}))
    unlisted = [c.relative_to(folder.path).as_posix() for c in folder.checkpoints if folder.sha256(c) is None]
    if unlisted:
        message = _("no SHA-256 is known for {files}: damage to these files cannot be detected").format(
            files=", ".join(unlisted)
        )
        findings.append(Finding("model-unhashed", Severity.INFO, message, values={"files": unlisted}))
    return findings


def _check_labels(folder: ModelFolder) -> list[Finding]:
    findings = []
    try:
        folder.structure_lut()
    except ModelError as error:
        findings.append(Finding("model-labels", Severity.ERROR, str(error)))
    if folder.unmapped and folder.structures:
        message = _("labels that match no known structure become background: {labels}").format(
            labels=", ".join(folder.unmapped)
        )
        findings.append(Finding("model-unmapped", Severity.WARNING, message, values={"labels": list(folder.unmapped)}))
    if folder.card is None:
        message = _("'{name}' has no card: it runs over the whole image in stored axes, as in nnU-Net").format(
            name=folder.path.name
        )
        findings.append(Finding("model-without-card", Severity.INFO, message))
    return findings


def _check_network(folder: ModelFolder, prefix: str = "") -> list[Finding]:
    if folder.needs_fallback:
        if problem := _fallback_problem(folder):
            return [Finding("model-network", Severity.ERROR, prefix + problem)]
        message = _("{prefix}this model needs stock nnU-Net ({reason}): pip install 'heartseg[train]'").format(
            prefix=prefix, reason=folder.needs_fallback
        )
        return [Finding("model-needs-nnunet", Severity.WARNING, message)]
    try:
        model = load_installed(folder)
        return [_loads(model, prefix) if isinstance(model, LoadedGraph) else _try_forward(model, prefix)]
    except HeartSegError as error:
        return [Finding("model-network", Severity.ERROR, prefix + str(error))]


def _fallback_problem(folder: ModelFolder) -> str:
    """Reason why nnU-Net cannot run the model either, or ``""``."""
    if stage := folder.configuration_plan.raw.get("previous_stage"):
        return (
            f"'{folder.path.name}' is the second stage of a cascade and needs the prediction of '{stage}' as input: "
            "use the first stage, or a model of one stage"
        )
    name = folder.network.class_name
    package = name.partition(".")[0]
    if importlib.util.find_spec(package) is not None and pydoc.locate(name) is None:
        return f"the network class '{name}' does not exist in the installed {package}: install the version that has it"
    return ""


def _loads(model: LoadedGraph, prefix: str) -> Finding:
    """The finding on a model that was loaded without torch; it is not run here."""
    parameters = sum(w.size for w in model.networks[0].weights.values())
    message = _("{prefix}{networks} network(s) of {parameters:.2f} million parameters load for ONNX Runtime").format(
        prefix=prefix, networks=len(model.networks), parameters=parameters / 1e6
    )
    return Finding(
        "model-loads", Severity.INFO, message, values={"networks": len(model.networks), "parameters": parameters}
    )


def _try_forward(model: LoadedModel, prefix: str) -> Finding:
    torch = import_torch()
    folder = model.folder
    shape = smallest_patch(folder)
    zeros = torch.zeros((1, folder.num_input_channels, *shape))
    started = time.perf_counter()
    with torch.inference_mode():
        outputs = [network(zeros) for network in model.networks]
    seconds = time.perf_counter() - started
    expected = (1, folder.num_output_channels, *shape)
    for output, file in zip(outputs, folder.checkpoints, strict=True):
        if tuple(output.shape) != expected or not torch.isfinite(output).all():
            raise ModelError(
                _(
                    "the network of '{file}' returns shape {shape} or non-finite values for an input of zeros; "
                    "shape {expected} is expected: copy the model again"
                ).format(file=file, shape=tuple(output.shape), expected=expected)
            )
    parameters = sum(p.numel() for p in model.networks[0].parameters())
    message = _(
        "{prefix}{networks} network(s) of {parameters:.2f} million parameters load and run "
        "({seconds:.2f} s on zeros of {size})"
    ).format(
        prefix=prefix,
        networks=len(outputs),
        parameters=parameters / 1e6,
        seconds=seconds,
        size="x".join(map(str, shape)),
    )
    values = {"networks": len(outputs), "parameters": parameters, "seconds": seconds, "shape": list(shape)}
    return Finding("model-runs", Severity.INFO, message, values=values)


def smallest_patch(folder: ModelFolder) -> tuple[int, ...]:
    """Smallest input shape of the network, (z, y, x): two voxels at the coarsest stage, at most the patch size."""
    sizes = [2] * len(folder.patch_size)
    strides = folder.network.kwargs.get("strides")
    if not isinstance(strides, list):
        return folder.patch_size
    for stride in strides:
        steps = stride if isinstance(stride, list) else [stride] * len(sizes)
        sizes = [size * step for size, step in zip(sizes, steps, strict=True)]
    return tuple(min(size, patch) for size, patch in zip(sizes, folder.patch_size, strict=True))
