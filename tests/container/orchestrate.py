"""Runs the image as the BraTS orchestrator does, with its own check of the output; in its own environment.

orchestrate.py IMAGE YEAR INPUT OUTPUT: up to 2024 the MLCube command line, later plain Docker without arguments.
"""

import sys
from pathlib import Path

from brats.core.docker import run_container  # type: ignore[import-not-found]
from brats.utils.algorithm_config import AlgorithmData, MetaData, RunArgs  # type: ignore[import-not-found]

image, year, data, output = sys.argv[1:]
meta = MetaData(authors="", paper="", challenge="gli", challenge_manuscript="", rank="1st", year=int(year))
args = RunArgs(
    docker_image=image, input_name_schema="BraTS-GLI-{id:05d}-000", cpu_compatible=True, parameters_file=True
)
run_container(AlgorithmData(meta, args, None), Path(data), Path(output), cuda_devices="0", force_cpu=True)
