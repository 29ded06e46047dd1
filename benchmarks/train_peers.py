"""The training steps of MONAI and nnU-Net, and who takes part in `train.py`; its docstring says what they are."""

import contextlib
import io
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from train_steps import ChannelsLast, Compiled, Contender, Ours, Setting

from brats_infer.network.devices import autocast
from brats_infer.train.distributed import heads_of
from brats_infer.train.monitor.validation import ALONE

LEVELS_OF_REGIONS = ((1, 2, 3), (2, 3), (3,))  # a voxel's label for the peers: in how many nested regions it lies


class Monai:
    """The recipe segresnet of MONAI's auto3dseg."""

    def __init__(self, setting: Setting) -> None:
        from monai.data import CacheDataset, list_data_collate
        from monai.losses import DeepSupervisionLoss, DiceCELoss

        self.name = f"MONAI {version('monai')}"
        self.device, self.collate = setting.device, list_data_collate
        self.network = setting.network().to(memory_format=torch.channels_last_3d)
        self.heads = heads_of(self.network, ALONE)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=2e-4, weight_decay=1e-5)
        self.terms = DeepSupervisionLoss(DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=0, smooth_dr=1e-5))
        transforms = monai_transforms(setting.config.patch, setting.config.options.batch)
        transforms.set_random_state(0)
        case = {"image": setting.case.image[:4].float(), "label": setting.labels()}
        self.cases = CacheDataset([case], transforms, copy_cache=False, progress=False)

    def draw(self) -> dict[str, Tensor]:
        drawn: dict[str, Tensor] = self.collate(self.cases[0])
        return drawn

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        layout = {"memory_format": torch.channels_last_3d, "device": self.device}
        images, targets = (batch[key].as_subclass(Tensor).to(**layout) for key in ("image", "label"))
        with autocast(self.device):
            heads = self.heads(images)
        loss: Tensor = self.terms(heads, targets)
        return loss

    def step(self) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.draw())
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def monai_transforms(patch: tuple[int, int, int], count: int) -> Any:
    """As that recipe has them by default; the crops' places are found once and kept with the case."""
    from monai import transforms as t

    both, sides = ("image", "label"), {"sigma_x": (0.5, 1.0), "sigma_y": (0.5, 1.0), "sigma_z": (0.5, 1.0)}
    places = {"num_classes": 1 + len(LEVELS_OF_REGIONS)}
    bent: dict[str, Any] = {"rotate_range": [0.26] * 3, "scale_range": [0.2] * 3, "mode": ("bilinear", "nearest")}
    return t.Compose(
        [
            t.EnsureTyped(keys=both),
            t.SpatialPadd(keys=both, spatial_size=patch),
            t.ClassesToIndicesd(keys="label", indices_postfix="_places", max_samples_per_class=4096, **places),
            t.RandCropByLabelClassesd(
                keys=both,
                label_key="label",
                spatial_size=patch,
                num_samples=count,
                indices_key="label_places",
                **places,
            ),
            t.RandAffined(keys=both, prob=0.2, spatial_size=patch, cache_grid=True, padding_mode="border", **bent),
            t.RandGaussianSmoothd(keys="image", prob=0.2, **sides),
            t.RandScaleIntensityd(keys="image", prob=0.5, factors=0.3),
            t.RandShiftIntensityd(keys="image", prob=0.5, offsets=0.1),
            t.RandGaussianNoised(keys="image", prob=0.2, mean=0.0, std=0.1),
            *(t.RandFlipd(keys=both, prob=0.5, spatial_axis=axis) for axis in range(3)),
            t.Lambdad(keys="label", func=lambda x: torch.cat([x >= 1, x >= 2, x >= 3]).to(x.dtype)),
        ]
    )


class NnUNet:
    """nnU-Net's trainer, set up without a planned data set."""

    def __init__(self, setting: Setting) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it asks for folders that it does not need here
            from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
            from nnunetv2.utilities.label_handling.label_handling import LabelManager

        self.name = f"nnU-Net {version('nnunetv2')}"
        names = dict(zip(("WT", "TC", "ET"), LEVELS_OF_REGIONS, strict=True))
        self.trainer = trainer = nnUNetTrainer.__new__(nnUNetTrainer)
        trainer.device, trainer.is_ddp, trainer.is_cascaded = setting.device, False, False
        trainer.enable_deep_supervision, trainer.grad_scaler = True, None
        trainer.initial_lr, trainer.weight_decay, trainer.num_epochs = 1e-2, 3e-5, 1000
        trainer.oversample_foreground_percent = 0.33
        trainer._do_i_compile = lambda: False
        trainer.print_to_log_file = lambda *_, **__: None
        trainer.label_manager = LabelManager({"background": 0, **names}, regions_class_order=(1, 2, 3))
        trainer.configuration_manager = SimpleNamespace(
            patch_size=setting.config.patch,
            batch_size=setting.config.options.batch,
            batch_dice=False,
            use_mask_for_norm=[True] * 4,
            pool_op_kernel_sizes=[[1] * 3, [2] * 3, [2] * 3, [2] * 3],
        )
        trainer.network = InAutocast(heads_of(setting.network(), ALONE), setting.device)
        trainer.optimizer, _ = trainer.configure_optimizers()
        trainer.loss = InAutocast(trainer._build_loss(), setting.device)
        np.random.seed(0)  # noqa: NPY002 — its transforms draw from numpy's own generator
        self.loader = nnunet_loader(trainer, setting)

    def draw(self) -> dict[str, Any]:
        drawn: dict[str, Any] = next(self.loader)
        return drawn

    def loss(self, batch: dict[str, Any]) -> Tensor:
        device = self.trainer.device
        heads = self.trainer.network(batch["data"].to(device))
        loss: Tensor = self.trainer.loss(heads, [target.to(device) for target in batch["target"]])
        return loss

    def step(self) -> object:
        return self.trainer.train_step(self.draw())


class InAutocast(nn.Module):
    """A module in our precision, on every device."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.module, self.device = module, device

    def forward(self, *values: Any) -> Any:
        with autocast(self.device):
            return self.module(*values)


def nnunet_loader(trainer: Any, setting: Setting) -> Any:
    """nnU-Net's loader of a folder with the case as its preprocessing leaves it."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2 as Files

    image = setting.case.image[:4].float().numpy()
    labels = setting.labels().numpy().astype(np.int16)
    places = {levels: np.argwhere(np.isin(labels, levels))[:10_000] for levels in LEVELS_OF_REGIONS}
    labels[:, setting.case.image[4].numpy() == 0] = -1  # outside the brain
    parts = {}
    for volumes, name in ((image, ""), (labels, "_seg")):
        parts["blocks" + name], parts["chunks" + name] = comp_blosc2_params(
            volumes.shape, setting.config.patch, volumes.itemsize
        )
    folder = setting.folder / "nnunet"
    folder.mkdir()
    Files.save_case(image, labels, {"class_locations": places}, str(folder / "case"), **parts)
    rotation, flat, wide, axes = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    configuration, names = trainer.configuration_manager, trainer.label_manager
    transforms = trainer.get_training_transforms(
        configuration.patch_size,
        rotation,
        trainer._get_deep_supervision_scales(),
        axes,
        flat,
        use_mask_for_norm=configuration.use_mask_for_norm,
        foreground_labels=names.foreground_labels,
        regions=names.foreground_regions,
    )
    return nnUNetDataLoader(
        Files(str(folder)),
        configuration.batch_size,
        wide,
        configuration.patch_size,
        names,
        oversample_foreground_percent=trainer.oversample_foreground_percent,
        transforms=transforms,
    )


PEERS: dict[str, Callable[[Setting], Contender]] = {
    "nnunet": NnUNet,
    "monai": Monai,
    "compiled": Compiled,
    "channels-last": ChannelsLast,
}


def contenders_of(setting: Setting, peers: Sequence[str]) -> list[Contender]:
    """Ours first; says which peer is left out."""
    found: list[Contender] = [Ours(setting)]
    for peer in peers:
        try:
            found.append(PEERS[peer](setting))
        except ImportError as error:
            print(f"{peer} is left out ({error}): pip install --editable '.[bench]'")
    return found
