"""All ways in which organizers start the image give the same files."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from brats_infer.files.check import check_output
from tests.container.engine import IMAGE, ORGANIZERS, ROOT, SECONDS, contents, folders, run
from tests.sample import CASE, IMAGES, MIN_WT_DICE, wt_dice
from tests.small_networks import random_network, write_weights

CONFIG = yaml.safe_load((ROOT / "mlcube" / "container_config.yaml").read_text())
PARAMETERS = ROOT / "mlcube" / "workspace" / "parameters.yaml"


def organizers(*args: object) -> subprocess.CompletedProcess[str]:
    """A program of the organizers, from the environment that holds them."""
    tool, *rest = map(str, args)
    command = [str(Path(os.environ[ORGANIZERS]) / "bin" / tool), *rest]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_no_arguments_on_the_sample_case(output: Path) -> None:
    """As in 2025, options and all but the GPU, on a real tumor at full size."""
    options = ("--memory", "16G", "--shm-size", "4G")
    done = run(volumes=(f"{IMAGES}:/input:ro", f"{output}:/output:rw"), options=options)
    assert done.returncode == 0, done.stderr
    assert list(contents(output)) == [f"{CASE}.nii.gz"]
    assert check_output(IMAGES, output) == []
    assert wt_dice(output / f"{CASE}.nii.gz") > MIN_WT_DICE


def test_by_hand_for_a_challenge(small: Path, output: Path, expected: dict[str, bytes]) -> None:
    """Cases of another one's name, with the members of the one that is asked for."""
    done = run("--task", "ssa", volumes=folders(small, output))
    assert done.returncode == 0, done.stderr
    assert check_output(small, output, "ssa") == []
    assert contents(output) != expected


@pytest.mark.parametrize("parameters", [None, "", PARAMETERS.read_text()])
def test_mlcube_spellings(
    small: Path, output: Path, tmp_path: Path, expected: dict[str, bytes], parameters: str | None
) -> None:
    mounts, args = [f"{small}:/mlcube_io0", f"{output}:/mlcube_io3"], []
    if parameters is not None:
        (tmp_path / "parameters.yaml").write_text(parameters)
        mounts.append(f"{tmp_path}:/mlcube_io1")
        args.append("--parameters_file=/mlcube_io1/parameters.yaml")
    done = run("infer", "--data_path=/mlcube_io0", *args, "--output_path=/mlcube_io3", volumes=mounts)
    assert done.returncode == 0, done.stderr
    assert contents(output) == expected


@pytest.mark.parametrize("shipped", [True, False])
def test_weights_of_the_organizers_are_taken(
    small: Path, output: Path, tmp_path: Path, expected: dict[str, bytes], shipped: bool
) -> None:
    """With the newer spellings: --weights for additional files, and their mount."""
    weights = ROOT / "weights" if shipped else tmp_path / "weights"
    if not shipped:
        weights.mkdir()
        write_weights(weights, [random_network(seed=5)])
    mounts = (f"{small}:/mlcube_io0", f"{weights}:/mlcube_io1", f"{output}:/mlcube_io3")
    done = run("infer", "--data_path=/mlcube_io0", "--weights=/mlcube_io1", "--output_path=/mlcube_io3", volumes=mounts)
    assert done.returncode == 0, done.stderr
    assert check_output(small, output) == []
    assert (contents(output) == expected) == shipped


@pytest.mark.parametrize(("line", "key"), [("speed: 3", "speed"), ("flips: perhaps", "flips"), ("dust: x", "dust")])
def test_parameters_that_are_wrong_are_refused_by_name(
    small: Path, output: Path, tmp_path: Path, line: str, key: str
) -> None:
    (tmp_path / "parameters.yaml").write_text(line)
    volumes = (*folders(small, output), f"{tmp_path}:/mlcube_io1:ro")
    done = run("infer", "--parameters_file=/mlcube_io1/parameters.yaml", volumes=volumes)
    assert (done.returncode, contents(output)) == (2, {})
    assert f"parameters.yaml: {key}: " in done.stderr


def test_the_mlcube_runner_runs_it(
    small: Path, output: Path, tmp_path: Path, expected_on_all_cores: dict[str, bytes]
) -> None:
    done = organizers(
        *("mlcube", "run", f"--mlcube={ROOT / 'mlcube'}", "--task=infer", "--platform=docker", "--network=none"),
        *(f"--workspace={tmp_path / 'workspace'}", "-Pplatform.accelerator_count=0"),
        *(f"data_path={small}", f"output_path={output}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(output) == expected_on_all_cores
    assert (tmp_path / "workspace" / "parameters.yaml").read_text() == PARAMETERS.read_text()


@pytest.mark.parametrize("year", [2024, 2025])
def test_the_brats_orchestrator_runs_it_and_its_check_passes(
    small: Path, output: Path, expected_on_all_cores: dict[str, bytes], year: int
) -> None:
    done = organizers("python", ROOT / "tests" / "container" / "orchestrate.py", IMAGE, year, small, output)
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(output) == expected_on_all_cores
    assert "contains only zeros" not in done.stderr


def test_as_newer_medperf_runs_it(small: Path, output: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """`docker run` as its client puts it together from container_config.yaml: mounts, arguments, user, its /tmp."""
    task = CONFIG["tasks"]["infer"]
    sources = {"data_path": small, "parameters_file": PARAMETERS, "output_path": output}
    volumes = {**task["input_volumes"], **task["output_volumes"]}
    mounts = [f"{sources[name]}:{volume['mount_path']}" for name, volume in volumes.items()]
    user = ("--user", "1000:1000")
    output.chmod(0o777)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o777)
    done = run(*task["run_args"]["command"], volumes=(*mounts, f"{tmp_path / 'tmp'}:/tmp"), options=user)
    assert done.returncode == 0, done.stderr
    assert contents(output) == expected
