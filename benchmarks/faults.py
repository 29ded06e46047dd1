"""What another program does with the files of the fault list: a bad case between two good ones, and what is left.

    python benchmarks/faults.py nnunet [ROW …]  (pip install nnunetv2==2.8.1)
    python benchmarks/faults.py monai [ROW …]   (pip install monai==1.6.0)
    python benchmarks/faults.py orchestrator [ROW …]  (pip install brats==0.1.14)
    python benchmarks/faults.py brats-opt [ROW …]

Run from the root of the repository. nnU-Net predicts from files as `nnUNetv2_predict` does. MONAI runs the transforms
of the BraTS bundle's inference.json (LoadImaged, NormalizeIntensityd), its sliding window, and SaveImage. Both have a
network of one layer, which marks bright voxels. Of the BraTS orchestrator, which hands files on to containers, the
check of the input is called. Every run has a process of its own.
"""

import gzip
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.case_files import SRI24, edit_header, repack, unpacked, write_case, write_image
from tests.faults import anatomy

CASES = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-000")
BAD = CASES[1]
MODALITIES = ("t1n", "t1c", "t2w", "t2f")
SECONDS = 180
Paths = dict[str, Path]
Run = Callable[[list[Paths], Path], None]


def flip_unnoticed(path: Path) -> None:
    """A byte of voxels in a gzip stream without compression: only the checksum can tell."""
    repack(path, bytes(unpacked(path)), level=0)
    content = bytearray(path.read_bytes())
    content[20000] ^= 0xFF
    path.write_bytes(content)


def with_voxels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], object]:
    return lambda path: write_image(path, change(np.asarray(nib.load(path).dataobj)), SRI24)


def one_nan(data: np.ndarray) -> np.ndarray:
    out = data.astype(np.float32)
    out[16, 16, 16] = np.nan
    return out


def linked_away(path: Path) -> None:
    away = path.parents[2] / f"elsewhere-{path.name}"
    path.rename(away)
    path.symlink_to(away)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "1": ("a modality missing", Path.unlink),
    "6": ("truncated gzip", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
    "7": ("flipped byte, wrong checksum", flip_unnoticed),
    "8": (".nii named .nii.gz", lambda path: path.write_bytes(unpacked(path))),
    "9": ("header claims 32767^3 voxels", lambda path: edit_header(path, dim=[3, *[32767] * 3, 1, 1, 1, 1])),
    "10": ("gzip bomb", lambda path: path.write_bytes(path.read_bytes() + gzip.compress(bytes(2**26), 9) * 32)),
    "12": ("4-D with a single volume", with_voxels(lambda data: data[..., None])),
    "13": ("one NaN voxel", with_voxels(one_nan)),
    "14": ("a modality all zero", with_voxels(np.zeros_like)),
    "15": ("constant image", with_voxels(lambda data: np.full_like(data, 7))),
    "16": ("shapes differ", with_voxels(lambda data: data[:-1])),
    "17": ("affines differ", lambda path: edit_header(path, srow_x=[-1, 0, 0, 30], qoffset_x=30)),
    "18": ("qform and sform differ", lambda path: edit_header(path, qoffset_x=40)),
    "19": ("affine with NaN", lambda path: edit_header(path, srow_x=[np.nan] * 4)),
    "31": ("link out of the input folder", linked_away),
}


def nnunet(cases: list[Paths], output: Path) -> None:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "fault", "preprocessor_name": "DefaultPreprocessor", "batch_size": 1,
        "patch_size": [32, 32, 32], "architecture": {}, "spacing": [1.0, 1.0, 1.0], "batch_dice": False,
        "normalization_schemes": ["ZScoreNormalization"] * 4, "use_mask_for_norm": [True] * 4,
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape", "resampling_fn_seg_kwargs": resampling,
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
    }  # fmt: skip
    plans = PlansManager({
        "dataset_name": "Dataset001_Faults", "plans_name": "plans", "configurations": {"3d_fullres": configuration},
        "image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager", "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2], "foreground_intensity_properties_per_channel": {str(i): {} for i in range(4)},
    })  # fmt: skip
    regions = {"background": 0, "WT": [1, 2, 3], "TC": [1, 3], "ET": 3}
    dataset = {"channel_names": {str(i): m for i, m in enumerate(MODALITIES)}, "labels": regions}
    dataset |= {"regions_class_order": [2, 1, 3], "file_ending": ".nii.gz"}
    network = bright_voxels()
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    predictor.manual_initialization(
        network, plans, plans.get_configuration("3d_fullres"), [network.state_dict()], dataset, "nnUNetTrainer", None
    )
    files = [[str(paths[m]) for m in MODALITIES if m in paths and os.path.lexists(paths[m])] for paths in cases]
    targets = [str(output / case_id) for case_id in CASES]
    predictor.predict_from_files(files, targets, num_processes_preprocessing=1, num_processes_segmentation_export=1)


def monai(cases: list[Paths], output: Path) -> None:
    import torch
    from monai.data import DataLoader, Dataset
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, NormalizeIntensityd, SaveImage

    transforms = Compose(
        [
            LoadImaged(keys="image"),  # a list of files becomes the channels
            EnsureChannelFirstd(keys="image"),
            NormalizeIntensityd(keys="image", nonzero=True, channel_wise=True),
        ]
    )
    items = [{"image": [str(paths[m]) for m in MODALITIES]} for paths in cases]
    infer, network = SlidingWindowInferer(roi_size=(32, 32, 32), overlap=0.5), bright_voxels()
    for case_id, batch in zip(CASES, DataLoader(Dataset(items, transforms), batch_size=1), strict=True):
        regions = (torch.sigmoid(infer(batch["image"], network)) > 0.5)[0]
        labels = torch.where(regions[2], 3, torch.where(regions[1], 1, torch.where(regions[0], 2, 0)))
        SaveImage(output, output_dtype=np.uint8, separate_folder=False, output_postfix="", print_log=False)(
            labels[None]
        )
        (output / f"{case_id}-t1n.nii.gz").rename(output / f"{case_id}.nii.gz")


def orchestrator(cases: list[Paths], output: Path) -> None:
    from brats.utils.data_handling import input_sanity_check

    for case_id, paths in zip(CASES, cases, strict=True):
        input_sanity_check(**paths)
        (output / f"{case_id}.passed").touch()


def brats_opt(cases: list[Paths], output: Path) -> None:
    weights = anatomy.write_network(output.parent / "weights")
    args = ("--input", cases[0]["t1n"].parents[1], "--output", output, "--weights", weights, "--device", "cpu")
    os.execv(sys.executable, [sys.executable, "entrypoint.py", *map(str, args)])


RUNS: dict[str, Run] = {"nnunet": nnunet, "monai": monai, "orchestrator": orchestrator, "brats-opt": brats_opt}


def bright_voxels():  # type: ignore[no-untyped-def]
    """A network of one layer: WT where t2f is bright, TC where t2w is, ET where t1c is."""
    import torch

    network = torch.nn.Conv3d(4, 3, 1)
    with torch.no_grad():
        network.weight.zero_()
        for region, modality in enumerate(anatomy.RADII):
            network.weight[region, MODALITIES.index(modality)] = 8
        network.bias.fill_(-8)
    return network.eval()


def attempt(run: Run, cases: list[Paths], output: Path, log: Path) -> None:
    """In a process of its own: what it says goes into a file, and its last exception into another."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        run(cases, output)
    except BaseException as error:
        reason = " ".join(str(error).split())[:110]
        log.with_name("log.end").write_text(f"{type(error).__name__}: {reason}")


def tried(run: Run, damage: Callable[[Path], object] | None) -> str:
    """What is left after a run on three cases, the second one damaged."""
    root = Path(tempfile.mkdtemp())
    cases = [write_case(root / "input", case_id, image=anatomy.image) for case_id in CASES]
    if damage:
        damage(cases[1]["t2w"])
    (root / "output").mkdir()
    process = multiprocessing.get_context("fork").Process(
        target=attempt, args=(run, cases, root / "output", root / "log")
    )
    process.start()
    process.join(SECONDS)
    hung = process.is_alive()
    process.terminate()
    said = [f"hangs, ended after {SECONDS} s"] if hung else []
    if (end := root / "log.end").exists():
        said.append(end.read_text())
    for name, case_id in zip(("before", "it", "after"), CASES, strict=True):
        said.append(f"{name}: {found(root / 'output', case_id)}")
    shutil.rmtree(root)
    return "; ".join(said)


def found(output: Path, case_id: str) -> str:
    """What became of a case."""
    if (output / f"{case_id}.passed").exists():
        return "passed"
    path = output / f"{case_id}.nii.gz"
    if not path.exists():
        return "no file"
    labels = np.asarray(nib.load(path).dataobj)
    if labels.shape != anatomy.SHAPE:
        return f"a map of shape {labels.shape}"
    if not labels.any():
        return "an **empty map**"
    return f"a map, Dice {anatomy.overlap(labels, anatomy.truth()):.2f}"


def main() -> None:
    if not set(sys.argv[1:2]) & set(RUNS) or set(sys.argv[2:]) - set(DAMAGES):
        sys.exit(__doc__)
    run = RUNS[sys.argv[1]]
    print(f"| - | no fault | {tried(run, None)} |", flush=True)
    for row in sys.argv[2:] or DAMAGES:
        fault, damage = DAMAGES[row]
        print(f"| {row} | {fault} | {tried(run, damage)} |", flush=True)


if __name__ == "__main__":
    main()
