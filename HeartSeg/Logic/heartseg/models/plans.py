"""One configuration of ``plans.json``, resolved and checked as in nnU-Net v2."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from ..wording import _

NETWORK_ROOTS = ("dynamic_network_architectures.", "heartseg.networks.")
"""Allowed import roots of network classes; all others are refused."""

TRUSTED_PACKAGES = "HEARTSEG_TRUSTED_PACKAGES"
"""Environment variable with additional packages for network classes, separated by commas."""

FALLBACK_ROOTS = ("nnunetv2.",)
"""Import roots of network classes that need stock nnU-Net."""

NATIVE_NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
"""Classes of ``dynamic_network_architectures.architectures.unet`` that need torch only (no timm, no einops)."""

NATIVE_NORMALIZATIONS = (
    "CTNormalization",
    "ZScoreNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
NATIVE_RESAMPLING = ("resample_data_or_seg_to_shape", "resample_torch_simple", "resample_torch_fornnunet")

_UNET = "dynamic_network_architectures.architectures.unet"


@dataclass(frozen=True)
class NetworkPlan:
    """Network class and arguments of a configuration.

    Attributes:
        class_name: full import path of the class.
        kwargs: keyword arguments as in the file, with classes given by name.
        requires_import: names of the arguments whose value is a class name.
    """

    class_name: str
    kwargs: Mapping[str, Any]
    requires_import: tuple[str, ...]

    @property
    def is_native(self) -> bool:
        """Whether the class can be built without nnunetv2, timm and torchvision."""
        root, _dot, name = self.class_name.rpartition(".")
        return root.startswith("heartseg.networks") or (root == _UNET and name in NATIVE_NETWORKS)


@dataclass(frozen=True)
class Configuration:
    """One configuration of a plans file.

    Attributes:
        name: e.g. ``"3d_fullres"``.
        patch_size: voxels, (z, y, x) after ``transpose_forward``.
        spacing: mm, (z, y, x) after ``transpose_forward``.
        transpose_forward, transpose_backward: axis permutations from and to the stored (z, y, x).
        normalization_schemes, use_mask_for_norm: one entry per channel.
        network: see :class:`NetworkPlan`.
        resampling_data, resampling_probabilities: function name and keyword arguments.
        raw: the configuration as in the file, with inheritance resolved.
    """

    name: str
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    transpose_forward: tuple[int, ...]
    transpose_backward: tuple[int, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    network: NetworkPlan
    resampling_data: tuple[str, dict[str, Any]]
    resampling_probabilities: tuple[str, dict[str, Any]]
    raw: Mapping[str, Any]


def configuration_names(plans: Mapping[str, Any], source: str) -> tuple[str, ...]:
    """Names of the configurations in a plans file."""
    found = plans.get("configurations")
    if not isinstance(found, dict) or not found:
        raise ModelError(_("'{source}' has no 'configurations': use a plans file of nnU-Net v2").format(source=source))
    return tuple(found)


def read_configuration(plans: Mapping[str, Any], name: str, source: str) -> Configuration:
    """Read a configuration; ``ModelError`` names the key of ``source`` that is missing or wrong."""
    raw = _resolve(plans, name, source)
    where = f"configuration '{name}' in '{source}'"
    patch = _numbers(raw, "patch_size", int, where)
    spacing = _numbers(raw, "spacing", float, where)
    if len(spacing) != len(patch):
        raise ModelError(
            _("'spacing' of {where} has {spacing} entries, 'patch_size' {patch}: they must agree").format(
                where=where, spacing=len(spacing), patch=len(patch)
            )
        )
    forward, backward = (_axes(plans, f"transpose_{way}", source) for way in ("forward", "backward"))
    schemes = _need(raw, "normalization_schemes", list, where)
    masks = raw.get("use_mask_for_norm", [False] * len(schemes))
    return Configuration(
        name=name,
        patch_size=tuple(int(v) for v in patch),
        spacing=spacing,
        transpose_forward=forward,
        transpose_backward=backward,
        normalization_schemes=tuple(str(s) for s in schemes),
        use_mask_for_norm=tuple(bool(m) for m in masks),
        network=_network(raw, len(patch), where),
        resampling_data=_resampling(raw, "resampling_fn_data"),
        resampling_probabilities=_resampling(raw, "resampling_fn_probabilities"),
        raw=raw,
    )


MOST_STAGES = 16
"""Limit of resolution stages: each halves the patch, and 2^16 voxels are more than any patch has."""


def fallback_reason(configuration: Configuration, plans: Mapping[str, Any], regions: bool) -> str | None:
    """Phrase that states why a configuration needs stock nnU-Net; ``None`` if HeartSeg can run it."""
    raw, network = configuration.raw, configuration.network
    preprocessor = raw.get("preprocessor_name", "DefaultPreprocessor")
    manager = plans.get("label_manager") or "LabelManager"
    exotic = [s for s in configuration.normalization_schemes if s not in NATIVE_NORMALIZATIONS]
    resampling = {configuration.resampling_data[0], configuration.resampling_probabilities[0]} - set(NATIVE_RESAMPLING)
    reasons = (
        (
            bool(raw.get("previous_stage")),
            _("it is the second stage of a cascade (after '{stage}')").format(stage=raw.get("previous_stage")),
        ),
        (regions, _("it was trained on overlapping regions")),
        (
            not network.is_native,
            _("its network '{class_name}' needs packages other than torch").format(class_name=network.class_name),
        ),
        (
            preprocessor != "DefaultPreprocessor",
            _("it uses the preprocessor '{preprocessor}'").format(preprocessor=preprocessor),
        ),
        (manager != "LabelManager", _("it uses the label manager '{manager}'").format(manager=manager)),
        (bool(exotic), _("it uses the normalisation '{exotic}'").format(exotic=", ".join(exotic))),
        (bool(resampling), _("it uses the resampling '{resampling}'").format(resampling=", ".join(sorted(resampling)))),
    )
    return next((phrase for applies, phrase in reasons if applies), None)


def _need(content: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    if key not in content:
        raise ModelError(
            _("{where} has no '{key}': copy plans.json again from the training folder").format(where=where, key=key)
        )
    if not isinstance(content[key], kind):
        raise ModelError(
            _("'{key}' of {where} is {content:.60}, unlike in nnU-Net v2: copy plans.json again").format(
                key=key, where=where, content=repr(content[key])
            )
        )
    return content[key]


def _numbers(content: Mapping[str, Any], key: str, kind: type, where: str) -> tuple[float, ...]:
    values = _need(content, key, list, where)
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < 1e5 for v in values)
    if len(values) not in (2, 3) or not numeric or (kind is int and any(v != int(v) for v in values)):
        raise ModelError(
            _("'{key}' of {where} is {values:.60}: it must be 3 (or 2) positive numbers").format(
                key=key, where=where, values=repr(values)
            )
        )
    return tuple(float(v) for v in values)


def _axes(plans: Mapping[str, Any], key: str, source: str) -> tuple[int, ...]:
    axes = plans.get(key, [0, 1, 2])
    if not isinstance(axes, list) or sorted(axes) not in ([0, 1, 2], [0, 1]):
        raise ModelError(
            _("'{key}' in '{source}' is {axes:.60}: it must be a permutation of 0, 1, 2").format(
                key=key, source=source, axes=repr(axes)
            )
        )
    return tuple(axes)


def _resolve(plans: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    """Return the configuration with inherited entries."""
    names = configuration_names(plans, source)
    chain: list[str] = []
    resolved: dict[str, Any] = {}
    following: Any = name
    while following is not None:
        if following not in names:
            raise ModelError(
                _("configuration {following!r} does not exist in '{source}': choose from {names}").format(
                    following=following, source=source, names=", ".join(names)
                )
            )
        if following in chain:
            raise ModelError(
                _("configurations in '{source}' inherit circularly: {following}").format(
                    source=source, following=" -> ".join([*chain, following])
                )
            )
        chain.append(following)
        own = _need(plans["configurations"], following, dict, f"'{source}'")
        resolved = {**own, **resolved}
        following = own.get("inherits_from")
    return resolved


def network_roots() -> tuple[str, ...]:
    """Allowed import roots of network classes, including the packages that the user trusts."""
    trusted = os.environ.get(TRUSTED_PACKAGES, "").split(",")
    return (*NETWORK_ROOTS, *(f"{name.strip()}." for name in trusted if name.strip()))


def _resampling(raw: Mapping[str, Any], key: str) -> tuple[str, dict[str, Any]]:
    return str(raw.get(key, "resample_data_or_seg_to_shape")), dict(raw.get(f"{key}_kwargs") or {})


def _network(raw: Mapping[str, Any], dimensions: int, where: str) -> NetworkPlan:
    architecture = raw.get("architecture") or _architecture_of_old_plans(raw, dimensions, where)
    if not isinstance(architecture, dict):
        raise ModelError(
            _("'architecture' of {where} is {architecture:.60}: it must be an object").format(
                where=where, architecture=repr(architecture)
            )
        )
    class_name = _need(architecture, "network_class_name", str, where)
    kwargs = _need(architecture, "arch_kwargs", dict, where)
    names = tuple(_need(architecture, "_kw_requires_import", list, where))
    module, _dot, name = class_name.rpartition(".")
    if module.startswith("dynamic_network_architectures.") and name in NATIVE_NETWORKS:
        class_name = f"{_UNET}.{name}"  # these classes moved between versions; nnU-Net also finds them by name
    if not class_name.startswith(network_roots() + FALLBACK_ROOTS):
        raise ModelError(
            _(
                "the network class '{class_name}' of {where} is refused: use a class from {known}, or add a "
                "trusted package to {packages}"
            ).format(
                class_name=class_name,
                where=where,
                known=" or ".join(r + "*" for r in network_roots()),
                packages=TRUSTED_PACKAGES,
            )
        )
    stages = kwargs.get("n_stages", 1)
    if not isinstance(stages, int) or not 1 <= stages <= MOST_STAGES:
        raise ModelError(
            _("'n_stages' of {where} is {stages:.60}: it must be 1 to {most}").format(
                where=where, stages=repr(stages), most=MOST_STAGES
            )
        )
    for key in names:
        value = kwargs.get(key)
        if value is not None and not (isinstance(value, str) and value.startswith("torch.nn.")):
            raise ModelError(
                _("'{key}' of {where} is {value:.60}: use a class from torch.nn.*").format(
                    key=key, where=where, value=repr(value)
                )
            )
    return NetworkPlan(class_name, kwargs, names)


def _architecture_of_old_plans(raw: Mapping[str, Any], dimensions: int, where: str) -> dict[str, Any]:
    """Create the ``architecture`` entry missing from plans written before nnU-Net 2.4, as nnU-Net does."""
    name = _need(raw, "UNet_class_name", str, where)
    if name not in ("PlainConvUNet", "ResidualEncoderUNet"):
        raise ModelError(
            _(
                "'UNet_class_name' of {where} is {name!r}, but old plans are supported for PlainConvUNet and "
                "ResidualEncoderUNet only: plan the data set again with a current nnU-Net"
            ).format(where=where, name=name)
        )
    encoder = _need(raw, "n_conv_per_stage_encoder", list, where)
    base, most = (_need(raw, key, int, where) for key in ("UNet_base_num_features", "unet_max_num_features"))
    kwargs = {
        "n_stages": len(encoder),
        "features_per_stage": [min(base * 2**i, most) for i in range(len(encoder))],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": _need(raw, "conv_kernel_sizes", list, where),
        "strides": _need(raw, "pool_op_kernel_sizes", list, where),
        "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": encoder,
        "n_conv_per_stage_decoder": _need(raw, "n_conv_per_stage_decoder", list, where),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    imports = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    return {"network_class_name": f"{_UNET}.{name}", "arch_kwargs": kwargs, "_kw_requires_import": imports}
