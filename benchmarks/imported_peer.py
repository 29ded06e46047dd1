"""nnU-Net's own predictor on cases, for `imported.py`; runs in an environment with nnunetv2.

    python benchmarks/imported_peer.py MODEL OUT CASE… [--mirrored] [--exact] [--probabilities]

MODEL is the folder with plans.json. A CASE is a folder of a case, and OUT gets `{case}.nii.gz`. The last line of stdout
is a JSON object with the [seconds, CPU seconds] of each case, from reading to writing. `--exact` sums in float32; by
itself nnU-Net sums in fp16.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

CONTRASTS = {"t1n": "t1n", "t1": "t1n", "t1c": "t1c", "t1ce": "t1c", "t1gd": "t1c", "t2w": "t2w", "t2": "t2w"}
CONTRASTS |= {"t2f": "t2f", "flair": "t2f"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("cases", type=Path, nargs="+")
    parser.add_argument("--mirrored", action="store_true")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--probabilities", action="store_true")
    given = parser.parse_args()
    if given.exact:
        torch.half = torch.float32
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(max(1, torch.get_num_threads()))
    predictor = nnUNetPredictor(use_mirroring=given.mirrored, device=torch.device("cpu"), allow_tqdm=False)
    folds = sorted(path.name.removeprefix("fold_") for path in given.model.glob("fold_*"))
    predictor.initialize_from_trained_model_folder(str(given.model), tuple(folds))
    names = predictor.dataset_json["channel_names"]
    order = [CONTRASTS[names[str(i)].lower()] for i in range(len(names))]
    seconds = {}
    for case in given.cases:
        files = [str(next(case.glob(f"*{contrast}.nii.gz"))) for contrast in order]
        began, used = time.perf_counter(), time.process_time()
        predictor.predict_from_files_sequential([files], [str(given.out / case.name)], given.probabilities)
        seconds[case.name] = [time.perf_counter() - began, time.process_time() - used]
    sys.stdout.write(json.dumps(seconds) + "\n")


if __name__ == "__main__":
    main()
