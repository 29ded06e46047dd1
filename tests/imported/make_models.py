"""Makes the nnU-Net models in `models/`, by nnU-Net's own code, and what its predictor says of a small case.

Run it in an environment of its own, as nnU-Net needs packages that clash with nothing but are many:
    python3.11 -m venv NN && NN/bin/pip install torch==2.13.0 nnunetv2==2.8.1
    NN/bin/python tests/imported/make_models.py
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "models"
WORK = Path(tempfile.mkdtemp())
for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ[name] = str(WORK)
(WORK / "Dataset137_BraTS" / "nnUNetPlans_3d_fullres").mkdir(parents=True)
(WORK / "Dataset137_BraTS" / "nnUNetPlans_3d_fullres" / "none.b2nd").touch()  # the trainer looks for its kind of files

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402, N813
import torch  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402

SHAPE = (30, 27, 25)  # (z, y, x), as SimpleITK gives arrays
CONTRASTS = ("t1n", "t1c", "t2w", "t2f")
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]}
PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
CUBE, TWO, ONE = [3, 3, 3], [2, 2, 2], [1, 1, 1]


def architecture(name: str, features: list[int], kernels: list, strides: list, counts: list, up: list, bias=True):
    counted = "n_conv_per_stage" if name == PLAIN else "n_blocks_per_stage"
    return {
        "network_class_name": name,
        "arch_kwargs": {
            "n_stages": len(features), "features_per_stage": features, "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": kernels, "strides": strides, counted: counts, "n_conv_per_stage_decoder": up,
            "conv_bias": bias, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }  # fmt: skip


def older(net: dict) -> dict:
    """The same as plans of nnU-Net before 2.4 said it."""
    given = net["arch_kwargs"]
    return {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": given["features_per_stage"][0],
        "n_conv_per_stage_encoder": given["n_conv_per_stage"],
        "n_conv_per_stage_decoder": given["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1, 1, 1], "pool_op_kernel_sizes": given["strides"],
        "conv_kernel_sizes": given["kernel_sizes"], "unet_max_num_features": max(given["features_per_stage"]),
    }  # fmt: skip


def plans_of(net: dict, patch: list[int], masked=True, transpose=(0, 1, 2), old=False) -> dict:
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": patch, "median_image_size_in_voxels": list(SHAPE), "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * 4, "use_mask_for_norm": [masked] * 4, "batch_dice": False,
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        **{f"resampling_fn_{what}_kwargs": resampling for what in ("data", "seg", "probabilities")},
        **(older(net) if old else {"architecture": net}),
    }  # fmt: skip
    back = [int(i) for i in np.argsort(transpose)]
    return {
        "dataset_name": "Dataset137_BraTS", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose), "transpose_backward": back, "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner", "configurations": {"3d_fullres": configuration},
        "original_median_spacing_after_transp": [1.0] * 3, "original_median_shape_after_transp": list(SHAPE),
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(4)},
    }  # fmt: skip


def dataset_of(channels: tuple[str, ...], labels: dict, order: list[int] | None) -> dict:
    content = {
        "channel_names": {str(i): name for i, name in enumerate(channels)}, "labels": labels, "numTraining": 4,
        "file_ending": ".nii.gz", "name": "BraTS",
    }  # fmt: skip
    return content | ({"regions_class_order": order} if order else {})


LABELS = {"background": 0, "NCR": 1, "ED": 2, "ET": 3}
MODELS = {
    "plain2-regions": (
        plans_of(architecture(PLAIN, [4, 6], [CUBE] * 2, [ONE, TWO], [2, 2], [2]), [16, 16, 16]),
        dataset_of(CONTRASTS, REGIONS, [2, 1, 3]), ["0", "1"],
    ),
    "flat4-labels": (
        plans_of(
            architecture(
                PLAIN, [4, 6, 6, 6], [[1, 3, 3], CUBE, CUBE, CUBE], [ONE, [1, 2, 2], TWO, [2, 1, 2]], [2, 1, 3, 2],
                [1, 2, 3], bias=False,
            ),
            [12, 16, 24], masked=False,
        ),
        dataset_of(("FLAIR", "T1", "T1ce", "T2"), LABELS, None), ["0"],
    ),
    "residual3-regions": (
        plans_of(architecture(RESIDUAL, [4, 6, 8], [CUBE] * 3, [ONE, TWO, TWO], [1, 2, 3], [1, 1]), [16, 20, 24],
                 transpose=(1, 2, 0)),
        dataset_of(
            ("T2", "T1", "FLAIR", "T1Gd"),
            {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}, [1, 2, 3],
        ), ["all"],
    ),
    "residual6-labels": (
        plans_of(
            architecture(
                RESIDUAL, [2, 2, 3, 3, 3, 3], [[1, 3, 3], *[CUBE] * 5],
                [ONE, [1, 2, 2], TWO, TWO, [2, 2, 1], [1, 2, 2]], [1] * 6, [1] * 5,
            ),
            [16, 32, 16],
        ),
        dataset_of(CONTRASTS, {"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3}, None), ["0"],
    ),
    "plain5-older": (
        plans_of(architecture(PLAIN, [2, 4, 4, 4, 4], [CUBE] * 5, [ONE, *[TWO] * 3, [1, 2, 2]], [2] * 5, [2] * 4),
                 [16, 32, 16], old=True),
        dataset_of(CONTRASTS, {"background": 0, "WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}, [1, 2, 3]), ["0"],
    ),
    "trained3-regions": (
        plans_of(architecture(PLAIN, [6, 8, 10], [CUBE] * 3, [ONE, TWO, TWO], [2] * 3, [2] * 2), [16, 16, 16]),
        dataset_of(CONTRASTS, REGIONS, [2, 1, 3]), ["0"],
    ),
}  # fmt: skip


def phantom(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(4, z, y, x) raw intensities of an ellipsoid with three nested balls, and its labels (z, y, x)."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1.15, 1.15, n) for n in SHAPE), indexing="ij"))
    brain = (grid**2).sum(axis=0) < 1
    centre = rng.uniform(-0.25, 0.25, 3)
    distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0))
    regions = [brain & (distance < radius) for radius in (0.6, 0.4, 0.25)]
    images = rng.normal(400, 40, (4, *SHAPE))
    for channel, region in zip((3, 2, 1), regions, strict=True):
        images[channel] += 300 * region
    images = np.where(brain, np.clip(images, 1, 2000), 0).round().astype(np.int16)
    images[:, brain & (np.abs(grid - 0.4).max(axis=0) < 0.06)] = 0  # a hole in the brain
    labels = np.zeros(SHAPE, np.uint8)
    for label, region in zip((2, 1, 3), regions, strict=True):
        labels[region] = label
    return images, labels


def randomise(network: torch.nn.Module, patch: list[int], seed: int) -> None:
    """Every parameter matters: norms are no identities, no two channels are alike, and no label is rare."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if ".norm" in name:
                parameter.copy_((1 if name.endswith("weight") else 0) + 0.3 * noise)
            elif parameter.ndim > 1:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(0.3 * noise)
        found = network(torch.randn((1, 4, *patch), generator=generator))
        logits = found[0] if isinstance(found, list | tuple) else found
        head = network.decoder.seg_layers[-1]
        spread = logits.std(dim=(0, 2, 3, 4))
        head.weight /= spread[:, None, None, None, None]
        head.bias.copy_((head.bias - logits.mean(dim=(0, 2, 3, 4))) / spread)


def train(trainer: nnUNetTrainer, steps: int = 250) -> None:
    """An epoch of nnU-Net's own training steps on phantoms."""
    rng = np.random.default_rng(7)
    trainer.set_deep_supervision_enabled(True)
    trainer.on_train_epoch_start()
    for _ in range(steps):
        images, labels = zip(*(phantom(rng) for _ in range(2)), strict=True)
        corner = [int(rng.integers(0, n - 15)) for n in SHAPE]
        at = (slice(None), slice(None), *(slice(c, c + 16) for c in corner))
        data = np.stack(images).astype(np.float32)
        brain = (data != 0).any(axis=1, keepdims=True)
        for case, mask in zip(data, brain, strict=True):
            for image in case:
                image[mask[0]] = (image[mask[0]] - image[mask[0]].mean()) / image[mask[0]].std()
        wanted = np.stack(labels)[:, None]
        regions = np.concatenate([np.isin(wanted, part) for part in ([1, 2, 3], [1, 3], [3])], axis=1)[at]
        targets = [torch.from_numpy(regions[:, :, :: 2**i, :: 2**i, :: 2**i].astype(np.float32)) for i in range(2)]
        trainer.train_step({"data": torch.from_numpy(data[at]), "target": targets})


def make(name: str, plans: dict, dataset: dict, folds: list[str]) -> Path:
    folder = FOLDER / name / "Dataset137_BraTS" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for i, fold in enumerate(folds):
        given = {**json.loads(json.dumps(plans)), "continue_training": False}
        trainer = nnUNetTrainer(given, "3d_fullres", fold, dataset, device=torch.device("cpu"))
        trainer.initialize()
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if name.startswith("trained"):
            train(trainer)
        else:
            randomise(trainer.network, trainer.configuration_manager.patch_size, len(name) + i)
        trainer.optimizer.state.clear()  # momentum: as large as the weights
        target = folder / f"fold_{fold}"
        target.mkdir()
        trainer.save_checkpoint(str(target / "checkpoint_final.pth"))
    return folder


def expected(folder: Path, plans: dict, dataset: dict, folds: list[str], case: np.ndarray) -> dict[str, np.ndarray]:
    """Labels (z, y, x) and every third probability (R, z, y, x), with and without mirroring, sums in float32."""
    aliases = {"t1n": 0, "t1": 0, "t1c": 1, "t1ce": 1, "t1gd": 1, "t2w": 2, "t2": 2, "t2f": 3, "flair": 3}
    order = [aliases[name.lower()] for name in dataset["channel_names"].values()]
    found = {}
    for mirrored in (False, True):
        predictor = nnUNetPredictor(use_mirroring=mirrored, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), tuple(folds))
        half, torch.half = torch.half, torch.float32  # the type of its sums
        try:
            labels, probabilities = predictor.predict_single_npy_array(
                case[order].astype(np.float32), {"spacing": [1.0, 1.0, 1.0]}, None, None, True
            )
        finally:
            torch.half = half
        suffix = "-mirrored" if mirrored else ""
        found[f"labels{suffix}"] = labels.astype(np.uint8)
        found[f"probabilities{suffix}"] = probabilities[:, ::3, ::3, ::3].astype(np.float32)
    return found


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    images, _ = phantom(np.random.default_rng(0))
    for contrast, image in zip(CONTRASTS, images, strict=True):
        volume = sitk.GetImageFromArray(image)
        volume.SetOrigin((0.0, -239.0, 0.0))
        (FOLDER / "BraTS-GLI-00001-000").mkdir(exist_ok=True)
        sitk.WriteImage(volume, str(FOLDER / "BraTS-GLI-00001-000" / f"BraTS-GLI-00001-000-{contrast}.nii.gz"), True)
    for name, (plans, dataset, folds) in MODELS.items():
        torch.manual_seed(0)
        folder = make(name, plans, dataset, folds)
        found = expected(folder, plans, dataset, folds, images)
        np.savez_compressed(FOLDER / name / "expected.npz", **found)
        shutil.rmtree(folder / "fold_x", ignore_errors=True)
        for log in (FOLDER / name).rglob("*.txt"):
            log.unlink()
        counts = {suffix: np.bincount(found[suffix].ravel()).tolist() for suffix in ("labels", "labels-mirrored")}
        sys.stderr.write(f"{name} {counts}\n")


if __name__ == "__main__":
    main()
