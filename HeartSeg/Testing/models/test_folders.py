"""Opening model folders: content, errors, and models that need stock nnU-Net."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heartseg.errors import ModelError, SettingsError
from heartseg.models.folder import ModelFolder
from heartseg.models.labels import parse_label_map
from tiny_models import make_tiny_model_folder

SHIPPED = Path(__file__).resolve().parents[3] / "Models" / "HeartSeg-Default"


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def edit_configuration(folder: Path, **changes: Any) -> None:
    edit(folder / "plans.json", lambda p: p["configurations"]["3d_fullres"].update(changes))


def test_all_properties_for_inference_are_read(tmp_path: Path) -> None:
    path = make_tiny_model_folder(
        tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres",
        normalization="CTNormalization",
        patch=(16, 32, 48),
        spacing=(3.0, 1.0, 1.5),
        transpose_forward=(2, 0, 1),
        anisotropic=True,
        folds=(0, 3),
    )
    model = ModelFolder.open(path)
    assert model.configuration == "3d_fullres"
    assert model.folds == ("0", "3")
    assert model.patch_size == (16, 32, 48)
    assert model.spacing == (3.0, 1.0, 1.5)
    assert model.transpose_forward == (2, 0, 1)
    assert model.transpose_backward == (1, 2, 0)
    assert model.normalization_schemes == ("CTNormalization",)
    assert model.use_mask_for_norm == (False,)
    assert model.foreground_intensity_properties_per_channel["0"]["std"] == 200
    assert model.channel_names == ("CT",)
    assert (model.num_input_channels, model.num_output_channels) == (1, 4)
    assert model.labels == ("background", "LV", "RV", "MYO")
    assert model.resampling_data[0] == "resample_data_or_seg_to_shape"
    assert model.resampling_probabilities[1]["order"] == 1
    assert model.needs_fallback is None
    assert model.card is None
    np.testing.assert_array_equal(model.structure_lut(), np.array([0, 1, 2, 5], np.uint8))


def test_the_parent_folder_of_one_model_is_accepted(cardless: Path) -> None:
    assert ModelFolder.open(cardless.parent).path == cardless


def test_the_parent_folder_of_two_models_is_refused_with_their_names(cardless: Path) -> None:
    make_tiny_model_folder(cardless.parent / "other__3d_lowres")
    with pytest.raises(ModelError, match=r"2 models.*nnUNetTrainer__.*, other__3d_lowres"):
        ModelFolder.open(cardless.parent)


def test_the_best_checkpoint_replaces_a_missing_final_checkpoint(cardless: Path) -> None:
    (cardless / "fold_0" / "checkpoint_final.pth").rename(cardless / "fold_0" / "checkpoint_best.pth")
    assert ModelFolder.open(cardless).checkpoints[0].name == "checkpoint_best.pth"


def test_fold_all_is_used_only_without_numbered_folds(tmp_path: Path) -> None:
    both = make_tiny_model_folder(tmp_path / "a__3d_fullres", folds=("all", 1))
    only = make_tiny_model_folder(tmp_path / "b__3d_fullres", folds=("all",))
    assert ModelFolder.open(both).folds == ("1",)
    assert ModelFolder.open(only).folds == ("all",)


def test_the_checkpoint_determines_the_configuration_if_the_folder_name_does_not(cardless: Path) -> None:
    renamed = cardless.rename(cardless.with_name("heart"))
    assert ModelFolder.open(renamed).configuration == "3d_fullres"


def test_an_inherited_configuration_is_resolved(cardless: Path) -> None:
    path = cardless.rename(cardless.with_name("x__small"))
    edit(
        path / "plans.json",
        lambda p: p["configurations"].update(small={"inherits_from": "3d_fullres", "patch_size": [16, 16, 16]}),
    )
    model = ModelFolder.open(path)
    assert (model.configuration, model.patch_size, model.spacing) == ("small", (16, 16, 16), (1.5, 1.5, 1.5))


def test_circular_inheritance_of_configurations_is_refused(cardless: Path) -> None:
    edit_configuration(cardless, inherits_from="2d")
    edit(cardless / "plans.json", lambda p: p["configurations"]["2d"].update(inherits_from="3d_fullres"))
    with pytest.raises(ModelError, match="3d_fullres -> 2d -> 3d_fullres"):
        ModelFolder.open(cardless)


def test_plans_without_an_architecture_entry_are_converted(cardless: Path) -> None:
    def to_old(plans: dict[str, Any]) -> None:
        c = plans["configurations"]["3d_fullres"]
        kwargs = c.pop("architecture")["arch_kwargs"]
        c.update(
            UNet_class_name="PlainConvUNet",
            UNet_base_num_features=8,
            unet_max_num_features=320,
            n_conv_per_stage_encoder=kwargs["n_conv_per_stage"],
            n_conv_per_stage_decoder=kwargs["n_conv_per_stage_decoder"],
            num_pool_per_axis=[2, 2, 2],
            pool_op_kernel_sizes=kwargs["strides"],
            conv_kernel_sizes=kwargs["kernel_sizes"],
        )

    expected = ModelFolder.open(cardless).network
    edit(cardless / "plans.json", to_old)
    found = ModelFolder.open(cardless).network
    assert found.class_name == expected.class_name
    assert dict(found.kwargs) == dict(expected.kwargs)


@pytest.mark.parametrize("missing", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
def test_a_missing_file_is_reported(cardless: Path, missing: str) -> None:
    (cardless / missing).unlink()
    with pytest.raises(ModelError, match=missing.rpartition("/")[2]) as error:
        ModelFolder.open(cardless)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_reported_with_the_expected_layout(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.*plans\.json.*dataset\.json.*fold_"):
        ModelFolder.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "files",
    [
        ("plans.pkl", "fold_0/model_final_checkpoint.model", "fold_0/model_final_checkpoint.model.pkl"),
        ("nnUNetTrainerV2__nnUNetPlansv2.1/plans.pkl", "nnUNetTrainerV2__nnUNetPlansv2.1/fold_0/model_best.model"),
        ("fold_all/model_final_checkpoint.model",),
    ],
)
def test_a_model_of_nnunet_v1_is_named_with_the_way_out(tmp_path: Path, files: tuple[str, ...]) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=r"nnU-Net v1 .*nnUNetv2_convert_old_nnUNet_dataset"):
        ModelFolder.open(tmp_path)


def test_corrupt_plans_are_reported_with_the_position(cardless: Path) -> None:
    (cardless / "plans.json").write_text('{"configurations": {,}}')
    with pytest.raises(ModelError, match=r"plans\.json'.*line 1, column 21"):
        ModelFolder.open(cardless)


@pytest.mark.parametrize("key", ["patch_size", "spacing", "normalization_schemes"])
def test_a_missing_key_of_the_configuration_is_reported(cardless: Path, key: str) -> None:
    edit(cardless / "plans.json", lambda p: p["configurations"]["3d_fullres"].pop(key))
    with pytest.raises(ModelError, match=f"'3d_fullres'.*'{key}'"):
        ModelFolder.open(cardless)


@pytest.mark.parametrize("value", [[0, 1, 1], [-1, 1, 1], [1, 1], "1", [float("nan"), 1, 1], [True, 1, 1]])
def test_an_invalid_spacing_is_refused(cardless: Path, value: object) -> None:
    edit_configuration(cardless, spacing=value)
    with pytest.raises(ModelError, match=r"'spacing'.*'3d_fullres'"):
        ModelFolder.open(cardless)


def test_ct_normalisation_without_intensity_statistics_is_refused(cardless: Path) -> None:
    edit_configuration(cardless, normalization_schemes=["CTNormalization"])
    edit(cardless / "plans.json", lambda p: p.pop("foreground_intensity_properties_per_channel"))
    with pytest.raises(ModelError, match="mean, std, percentile_00_5, percentile_99_5"):
        ModelFolder.open(cardless)


def test_a_model_with_two_input_channels_is_refused(tmp_path: Path) -> None:
    path = make_tiny_model_folder(
        tmp_path / "m__3d_fullres", dataset_changes={"channel_names": {"0": "CT", "1": "PET"}}
    )
    with pytest.raises(ModelError, match=r"2 .*\(CT, PET\)"):
        ModelFolder.open(path)


def change_network(folder: Path, **changes: Any) -> None:
    edit(folder / "plans.json", lambda p: p["configurations"]["3d_fullres"]["architecture"].update(changes))


@pytest.mark.parametrize("name", ["os.system", "torch.nn.Module", "heartsegx.networks.Net", "nothing"])
def test_a_network_class_outside_the_allowed_packages_is_refused(cardless: Path, name: str) -> None:
    change_network(cardless, network_class_name=name)
    with pytest.raises(ModelError, match=f"'{name}'"):
        ModelFolder.open(cardless)


@pytest.mark.parametrize("value", ["os.system", "torch.load", "torch.nnx.Conv3d", ["torch.nn.Conv3d"]])
def test_an_argument_that_names_a_class_outside_torch_nn_is_refused(cardless: Path, value: str | list[str]) -> None:
    change_network(cardless, arch_kwargs={"conv_op": value})
    change_network(cardless, _kw_requires_import=["conv_op"])
    with pytest.raises(ModelError, match=r"'conv_op'.*torch\.nn"):
        ModelFolder.open(cardless)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"previous_stage": "3d_lowres"}, "'3d_lowres'"),
        ({"preprocessor_name": "MyPreprocessor"}, "'MyPreprocessor'"),
        ({"normalization_schemes": ["MyNorm"]}, "'MyNorm'"),
        ({"resampling_fn_data": "no_resampling_hack"}, "'no_resampling_hack'"),
    ],
)
def test_an_unsupported_configuration_needs_stock_nnunet(cardless: Path, changes: dict[str, Any], reason: str) -> None:
    edit_configuration(cardless, **changes)
    assert reason in (ModelFolder.open(cardless).needs_fallback or "")


def test_a_network_that_needs_other_packages_than_torch_needs_stock_nnunet(cardless: Path) -> None:
    change_network(cardless, network_class_name="dynamic_network_architectures.architectures.primus.Primus")
    assert "Primus'" in (ModelFolder.open(cardless).needs_fallback or "")


def test_a_custom_label_manager_needs_stock_nnunet(cardless: Path) -> None:
    edit(cardless / "plans.json", lambda p: p.update(label_manager="Mine"))
    assert "'Mine'" in (ModelFolder.open(cardless).needs_fallback or "")


def test_region_based_training_needs_stock_nnunet_and_keeps_its_label_values(cardless: Path) -> None:
    edit(
        cardless / "dataset.json",
        lambda d: d.update(labels={"background": 0, "whole heart": [1, 2], "LV": 2}, regions_class_order=[1, 2]),
    )
    model = ModelFolder.open(cardless)
    assert model.needs_fallback is not None
    assert model.labels == ("whole heart", "LV")
    assert model.structure_lut().tolist() == [0, 0, 1]
    assert model.unmapped == ("whole heart",)


def test_a_class_that_moved_between_versions_is_found_by_name(cardless: Path) -> None:
    old_home = "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"
    change_network(cardless, network_class_name=old_home)
    assert ModelFolder.open(cardless).needs_fallback is None


def set_labels(folder: Path, **labels: int) -> None:
    edit(folder / "dataset.json", lambda d: d.update(labels={"background": 0, **labels}))


def test_labels_are_matched_by_name_and_unmatched_labels_are_listed(cardless: Path) -> None:
    set_labels(cardless, Right_Ventricle=1, left_ventricle_blood_cavity=2, lung=3)
    model = ModelFolder.open(cardless)
    assert model.structure_lut().tolist() == [0, 2, 1, 0]
    assert model.unmapped == ("lung",)


def test_a_label_map_overrides_label_names(cardless: Path) -> None:
    model = ModelFolder.open(cardless, {1: "PA", 3: "ao"})
    assert model.structure_lut().tolist() == [0, 7, 0, 6]
    assert model.unmapped == ("RV",)
    assert ModelFolder.open(cardless, ((1, "PA"),)).structure_lut().tolist() == [0, 7, 0, 0]


def test_the_card_overrides_label_names(carded: Path) -> None:
    edit(carded / "heartseg.json", lambda c: c.update(labels={"1": "RA"}))
    assert ModelFolder.open(carded).structure_lut().tolist() == [0, 4, 0, 0]


def test_an_error_without_known_labels_lists_the_labels_and_the_option(cardless: Path) -> None:
    set_labels(cardless, liver=1, spleen=2)
    model = ModelFolder.open(cardless)
    with pytest.raises(ModelError) as error:
        model.structure_lut()
    assert "1=liver, 2=spleen" in str(error.value)
    assert '--labels "1=LV,2=MYO"' in str(error.value)


def test_a_label_map_with_unknown_labels_or_structures_is_refused(cardless: Path) -> None:
    with pytest.raises(ModelError, match=r"label 9 .*1=LV, 2=RV, 3=MYO"):
        ModelFolder.open(cardless, {9: "LV"})
    with pytest.raises(ModelError, match=r"'XX' .*label 1"):
        ModelFolder.open(cardless, {1: "XX"})


def test_output_channels_follow_label_values_without_the_ignore_label(cardless: Path) -> None:
    edit(cardless / "dataset.json", lambda d: d.update(labels={"MYO": 2, "background": 0, "LV": 1, "ignore": 3}))
    model = ModelFolder.open(cardless)
    assert model.labels == ("background", "LV", "MYO")
    assert model.heads.ignore == 3
    assert model.num_output_channels == 3


@pytest.mark.parametrize(
    "labels", [{"0": "background", "1": "LV"}, {"background": 0}, [], {"background": 0, "LV": "a"}]
)
def test_invalid_labels_are_refused(cardless: Path, labels: object) -> None:
    edit(cardless / "dataset.json", lambda d: d.update(labels=labels))
    with pytest.raises(ModelError, match="'labels'"):
        ModelFolder.open(cardless)


def test_a_label_map_is_parsed() -> None:
    assert parse_label_map("1=LV, 2=myo;3=RV") == {1: "LV", 2: "MYO", 3: "RV"}


@pytest.mark.parametrize("text", ["", "LV=1", "1=XX", "0=LV", "1", "1=LV,1=RV", "-1=LV", "1=LV,"])
def test_an_invalid_label_map_is_refused_with_a_one_line_message(text: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_label_map(text)
    assert "\n" not in str(error.value)


def test_opening_a_model_imports_neither_torch_nor_nnunetv2(carded: Path) -> None:
    code = (
        "import sys; from heartseg.models import find_model;"
        f"m = find_model({str(carded)!r}); m.structure_lut();"
        "sys.exit(','.join(n for n in ('torch', 'nnunetv2', 'SimpleITK', 'scipy') if n in sys.modules) or 0)"
    )
    root = Path(__file__).parents[2] / "Logic"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_the_shipped_model_passes_the_check() -> None:
    from heartseg.findings import Severity
    from heartseg.models.checking import check_model

    findings = check_model(SHIPPED)
    assert not [f.message for f in findings if f.severity is Severity.ERROR]
