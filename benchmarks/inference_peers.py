"""MONAI and nnU-Net as contenders of `inference.py`, with our network; its docstring says how each is run."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from inference_contenders import TASK, Answer, Contender, Job
from numpy.typing import NDArray
from torch import Tensor, nn

from brats_infer.files.cases import Case
from brats_infer.files.search.find import find_cases
from brats_infer.image.crop import CROP_MARGIN
from brats_infer.network.loading import pick_device
from brats_infer.network.windows import nested
from brats_infer.tasks import MODALITIES
from model.checkpoint import load_member, read_manifest
from model.unet import UNet

OVERLAP = 0.5


class Margins(nn.Module):
    """A member as peers can run it: normalised images in, each region's probability above its threshold out.

    What is averaged over windows is then the same as ours, and both of what peers do next, a threshold at 0 and one
    at 0.5 of a sigmoid, mean our thresholds.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        thresholds = torch.tensor([region.threshold for region in TASK.regions])
        self.register_buffer("thresholds", thresholds.view(1, -1, 1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = images
        if self.network.config.foreground:
            x = torch.cat((x, (x != 0).any(1, keepdim=True).to(x.dtype)), 1)  # (B, 4, ...) -> (B, 5, ...)
        found = torch.sigmoid(self.network(x))
        margins: Tensor = (nested(found) if self.network.config.disjoint else found) - self.thresholds
        return margins


class Peer(ABC):
    """What all have: the cases, and the one member of the weights folder."""

    def __init__(self, job: Job) -> None:
        [member] = read_manifest(job.weights)
        self.window, self.device, self.output = member.window, pick_device(job.device), job.output
        self.cases = find_cases(job.input, TASK.name)
        self.network = Margins(load_member(job.weights, member)).to(self.device).eval()

    @abstractmethod
    def segment(self) -> None:
        """Every case, read to written."""

    def run(self) -> Answer:
        began = time.perf_counter()
        self.segment()
        return Answer(time.perf_counter() - began)


class Monai(Peer):
    """`sliding_window_inference` on the whole volume, between the transforms of MONAI's BraTS bundle."""

    def __init__(self, job: Job) -> None:
        from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, NormalizeIntensityd, SaveImage

        super().__init__(job)
        self.transforms = Compose(
            [
                LoadImaged(keys="image"),  # a list of files becomes the channels
                EnsureChannelFirstd(keys="image"),
                NormalizeIntensityd(keys="image", nonzero=True, channel_wise=True),
            ]
        )
        self.save = SaveImage(separate_folder=False, output_postfix="", print_log=False)

    def segment(self) -> None:
        for case in self.cases:
            self.one(case)

    @torch.inference_mode()
    def one(self, case: Case) -> None:
        labels = self.labels(self.transforms({"image": [str(path) for path in case.paths.values()]})["image"])
        target = self.output / case.output_name
        self.save(labels.cpu(), filename=target.with_name(case.id))

    def labels(self, image: Tensor) -> Tensor:
        """(4, X, Y, Z) -> (1, X, Y, Z) uint8, as MONAI's own tensors, which know where they lie."""
        from monai.inferers import sliding_window_inference

        margins = sliding_window_inference(
            image[None].to(self.device),
            self.window,
            sw_batch_size=1,
            predictor=self.network,
            overlap=OVERLAP,
            mode="gaussian",
        )[0]
        labels = torch.zeros_like(margins[:1], dtype=torch.uint8)
        for region, margin in zip(TASK.regions, margins, strict=True):
            labels[0][margin >= 0] = region.label
        return labels


class MonaiCropped(Monai):
    """The same on the brain with as much around it as ours has, so that the windows lie alike."""

    def labels(self, image: Tensor) -> Tensor:
        from monai.transforms import CropForeground

        crop = CropForeground(select_fn=lambda x: x != 0, margin=CROP_MARGIN, allow_smaller=True)
        cropped = crop(image)
        labels = super().labels(cropped)
        labels.applied_operations = cropped.applied_operations  # type: ignore[attr-defined]
        whole: Tensor = crop.inverse(labels)
        return whole


class NnUnet(Peer):
    """`nnUNetPredictor` on files, without processes for reading and writing: starting them takes it longer."""

    def __init__(self, job: Job) -> None:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        super().__init__(job)
        plans = PlansManager(nnunet_plans(self.window, brain_zscore()))
        regions = {region.name: list(region.labels) for region in TASK.regions}
        dataset = {
            "channel_names": {str(i): modality.name for i, modality in enumerate(MODALITIES)},
            "labels": {"background": 0, **regions},
            "regions_class_order": [region.label for region in TASK.regions],
            "file_ending": ".nii.gz",
        }
        self.predictor = nnUNetPredictor(
            tile_step_size=1 - OVERLAP, use_gaussian=True, use_mirroring=job.flips, device=self.device, allow_tqdm=False
        )
        configuration, parameters = plans.get_configuration("3d_fullres"), [self.network.state_dict()]
        self.predictor.manual_initialization(
            self.network, plans, configuration, parameters, dataset, "nnUNetTrainer", (0, 1, 2)
        )

    def segment(self) -> None:
        files = [[str(path) for path in case.paths.values()] for case in self.cases]
        self.predictor.predict_from_files_sequential(files, [str(self.output / case.id) for case in self.cases])


def brain_zscore() -> str:
    """The name of a normalisation that nnU-Net then knows: its own, over the voxels of each modality that are not 0.

    Its own takes those that are not 0 in any modality, which is another input where one of them is 0 in the brain.
    """
    from nnunetv2.preprocessing.normalization import default_normalization_schemes as schemes

    class BrainZScore(schemes.ZScoreNormalization):  # type: ignore[misc] # nnU-Net has no types
        def run(self, image: NDArray[np.float32], seg: object = None) -> NDArray[np.float32]:
            normalised: NDArray[np.float32] = super().run(image, (image != 0).astype(np.int8) - 1)
            return normalised

    schemes.BrainZScore = BrainZScore
    return BrainZScore.__name__


def nnunet_plans(window: tuple[int, int, int], normalisation: str) -> dict[str, Any]:
    """Of a data set on the challenges' grid. SimpleITK's first axis is our last one: turned back, as the network is."""
    count = len(MODALITIES)
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration: dict[str, Any] = {
        "data_identifier": "inference",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 1,
        "patch_size": list(window),
        "architecture": {},
        "spacing": [1.0, 1.0, 1.0],
        "batch_dice": False,
        "normalization_schemes": [normalisation] * count,
        "use_mask_for_norm": [True] * count,
    }
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{what}_kwargs"] = resampling
    return {
        "dataset_name": "Dataset001_Inference",
        "plans_name": "plans",
        "configurations": {"3d_fullres": configuration},
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": [2, 1, 0],
        "transpose_backward": [2, 1, 0],
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(count)},
    }


PEERS: dict[str, Callable[[Job], Contender]] = {"monai": Monai, "monai-cropped": MonaiCropped, "nnunet": NnUnet}
