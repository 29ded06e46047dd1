"""The real command in a subprocess: exit codes, messages, the organizers' spellings."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from brats_infer.network.loading import SHIPPED_WEIGHTS
from brats_infer.phantom.write import write_cohort
from tests.evaluate.small_cohort import write_cohort as write_maps
from tests.faults.privileges import without_capabilities
from tests.small_networks import random_network, sure_network, write_weights

ROOT = Path(__file__).parents[1]
SHAPE = (30, 34, 26)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`input` with two cases, and `weights`."""
    folder = tmp_path_factory.mktemp("cli")
    list(write_cohort(folder / "input", "gli", 2, seed=1, shape=SHAPE))
    (folder / "weights").mkdir()
    write_weights(folder / "weights", [sure_network(seed=5)])
    return folder


def brats_opt(*args: object, before: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """`python entrypoint.py …`, the same program as `brats-opt …`."""
    return subprocess.run(
        [*before, sys.executable, ROOT / "entrypoint.py", *(str(arg) for arg in args)],
        env={**os.environ, "BRATS_OPT_DEVICE": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


BOTH = ["BraTS-GLI-01000-000.nii.gz", "BraTS-GLI-01001-000.nii.gz"]


def test_without_a_command_it_infers_and_says_a_line_a_case(folder: Path, tmp_path: Path) -> None:
    done = brats_opt("--input", folder / "input", "--output", tmp_path, "--weights", folder / "weights")
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == BOTH
    lines = done.stderr.strip().splitlines()
    assert lines.pop(0).endswith(": 2 cases")
    assert [line.split(":")[0] for line in lines] == ["[1/2] BraTS-GLI-01000-000", "[2/2] BraTS-GLI-01001-000"]
    assert done.stdout == ""
    checked = brats_opt("check", "--input", folder / "input", "--output", tmp_path)
    assert checked.returncode == 0, checked.stdout


def test_mlcube_spellings_with_an_empty_parameters_file(folder: Path, tmp_path: Path) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.touch()
    done = brats_opt(
        "infer",
        f"--data_path={folder / 'input'}",
        f"--parameters_file={parameters}",
        f"--additional_files={folder / 'weights'}",
        f"--output_path={tmp_path / 'out'}",
        "-v",
    )
    assert done.returncode == 0, done.stderr
    assert "small-0.safetensors" in done.stderr, "not the shipped members"
    assert names(tmp_path / "out") == BOTH


def test_environment_gives_options_and_the_command_line_wins(folder: Path, tmp_path: Path) -> None:
    environment = {
        "BRATS_OPT_INPUT": str(folder / "input"),
        "BRATS_OPT_OUTPUT": str(tmp_path / "not here"),
        "BRATS_OPT_WEIGHTS": str(folder / "weights"),
    }
    assert brats_opt("--output", tmp_path / "here", **environment).returncode == 0
    assert names(tmp_path) == ["here"]
    environment["BRATS_OPT_WEIGHTS"] = str(SHIPPED_WEIGHTS)
    done = brats_opt("--output", tmp_path / "here", "--additional_files", folder / "weights", "-v", **environment)
    assert "small-0.safetensors" in done.stderr, "not those of the environment"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed: 3", "speed"),
        ("flips: perhaps", "flips"),
        ("component_probability: 2", "component_probability"),
        ("component_probability: .nan", "component_probability"),
        ("mode: quick", "mode"),
        ("task: atlas", "task"),
        ("[1, 2]", "the file"),
        ("!!map [1, 2]", "is not YAML ("),
        ("task: !!bool maybe", "is not YAML ("),
        ('dust: !!int ""', "is not YAML ("),
        ("mode: coarse-to-fine\nmode: sliding-window", "is not YAML (mode is given twice"),
        ("task: 2024-99-99", "is not YAML ("),
        ("task: !!int x", "is not YAML ("),
        ("[" * 3000, "is not YAML ("),
        ("a: b: c", "is not YAML ("),
        ("!!python/object/apply:os.system ['true']", "is not YAML ("),
    ],
)
def test_parameters_that_are_not_known_are_refused_by_name(
    folder: Path, tmp_path: Path, text: str, message: str
) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text(text)
    done = brats_opt("--input", folder / "input", "--output", tmp_path / "out", "--parameters_file", parameters)
    assert done.returncode == 2
    assert one_line(done).startswith(f"brats-opt: {parameters}: {message}")


def test_parameters_file_chooses_how_to_segment(folder: Path, tmp_path: Path) -> None:
    parameters, weights = tmp_path / "parameters.yaml", tmp_path / "weights"
    weights.mkdir()
    write_weights(weights, [random_network(seed=5)])  # unsure of its components
    parameters.write_text("mode: sliding-window\nflips: true\ncomponent_probability: 0.62\n")

    def maps(name: str, *options: object) -> dict[str, bytes]:
        output = tmp_path / name
        done = brats_opt("--input", folder / "input", "--output", output, "--weights", weights, *options)
        assert done.returncode == 0, done.stderr
        return {path.name: path.read_bytes() for path in output.iterdir()}

    chosen = {"--mode": ("sliding-window",), "--flips": (), "--component-probability": (0.62,)}
    expected = maps("options", *(word for option, values in chosen.items() for word in (option, *values)))
    assert maps("file", "--parameters_file", parameters) == expected
    for option in chosen:
        fewer = [word for other, values in chosen.items() if other != option for word in (other, *values)]
        assert maps(f"without{option}", *fewer) != expected, "else this test shows nothing"


def test_parameters_file_is_obeyed_where_the_command_line_is_silent(folder: Path, tmp_path: Path) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("on_error: blank\n")
    broken = Path(shutil.copytree(folder / "input", tmp_path / "input"))
    (broken / "BraTS-GLI-01000-000" / "BraTS-GLI-01000-000-t1c.nii.gz").unlink()
    common = ("--input", broken, "--weights", folder / "weights", "--parameters_file", parameters)
    blank = brats_opt(*common, "--output", tmp_path / "blank")
    assert (blank.returncode, names(tmp_path / "blank")) == (0, BOTH)
    assert "lacks t1c" in blank.stderr
    fail = brats_opt(*common, "--output", tmp_path / "fail", "--on-error", "fail")
    assert (fail.returncode, names(tmp_path / "fail")) == (3, BOTH[1:])


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a run that ended early: one line, no traceback."""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def test_exit_codes_and_messages(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    flipped = Path(shutil.copytree(folder / "weights", tmp_path / "flipped"))
    member = flipped / "small-0.safetensors"
    content = bytearray(member.read_bytes())
    content[-5] ^= 1
    member.write_bytes(content)
    good = ("--input", folder / "input", "--output", tmp_path / "out", "--weights", folder / "weights")
    endings = {
        ("--input", tmp_path / "empty", "--output", tmp_path / "out"): (4, "empty: holds no case"),
        ("--input", tmp_path / "absent", "--output", tmp_path / "out"): (2, "absent: is not a folder"),
        (*good, "--weights", flipped): (5, "small-0.safetensors"),
        (*good, "--weights", tmp_path / "empty"): (5, "manifest.json"),
        (*good, "--output", tmp_path / "file"): (6, "file: cannot be written"),
        (*good, "--output", folder / "input"): (2, "is the input folder"),
        (*good, "--probabilities", tmp_path / "out"): (2, "is the output folder: choose another --probabilities"),
        (*good, "--report", tmp_path / "out"): (2, "is the output folder: choose another --report"),
        (*good, "--report", tmp_path / "file"): (6, "choose another --report"),
        (*good, "--report", tmp_path / "new", "--probabilities", tmp_path / "new"): (
            2,
            "is the folder of the probabilities: choose another --report",
        ),
        (*good, "--device", "cuda:7"): (2, "--device cuda:7"),
        (*good, "--task", "men"): (5, "no member for the task men"),
    }
    for args, (code, message) in endings.items():
        done = brats_opt(*args)
        assert (done.returncode, message in one_line(done)) == (code, True), (args, done.stderr)
    assert not (tmp_path / "out").exists() or not names(tmp_path / "out")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--task", "atlas"), "Invalid value for '--task'"),
        (("--shard", "3/2"), "Invalid value for '--shard'"),
        (("--shard", "Auto"), "Invalid value for '--shard'"),
        (("--shard", "1_0/2_0"), "Invalid value for '--shard'"),
        (("--shard", "1/2/3"), "Invalid value for '--shard'"),
        (("--input", ""), "Invalid value for '--input' / '--data_path': is empty: name a file or folder"),
        (("--report", ""), "Invalid value for '--report': is empty"),
        (("--mode", "quick"), "Invalid value for '--mode'"),
        (("--nonsense",), "No such option '--nonsense'"),
        (("sing",), "unexpected extra argument (sing)"),
    ],
)
def test_wrong_usage_is_exit_code_2(folder: Path, tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    good = ("--input", folder / "input", "--output", tmp_path / "out", "--weights", folder / "weights")
    done = brats_opt(*good, *args)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


SECOND_TASK = {
    f"SLURM_ARRAY_TASK_{name}": n for name, n in {"ID": "4", "MIN": "0", "MAX": "4", "STEP": "4", "COUNT": "2"}.items()
}
"""The second of `--array=0,4`."""


def test_part_of_the_cases_is_taken_from_the_environment_and_said(folder: Path, tmp_path: Path) -> None:
    args = ("--input", folder / "input", "--weights", folder / "weights", "--output")
    done = brats_opt(*args, tmp_path / "slurm", **SECOND_TASK)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0].endswith(": 1 case, part 2/2 (SLURM_ARRAY_TASK_ID=4)")
    assert names(tmp_path / "slurm") == BOTH[1:]
    assert brats_opt(*args, tmp_path / "given", "--shard", "1/2", **SECOND_TASK).returncode == 0
    assert names(tmp_path / "given") == BOTH[:1]
    assert brats_opt(*args, tmp_path / "all", BRATS_OPT_SHARD="1/1", **SECOND_TASK).returncode == 0
    assert names(tmp_path / "all") == BOTH
    assert brats_opt(*args, tmp_path / "auto", "--shard=auto", BRATS_OPT_SHARD="1/1", **SECOND_TASK).returncode == 0
    assert names(tmp_path / "auto") == BOTH[1:]
    half = brats_opt(*args, tmp_path / "half", JOB_COMPLETION_INDEX="0")
    assert (half.returncode, "JOB_COMPLETIONS" in one_line(half)) == (2, True)


def test_part_without_a_case_is_no_error(folder: Path, tmp_path: Path) -> None:
    args = ("--input", folder / "input", "--weights", folder / "weights", "--output", tmp_path / "out")
    done = brats_opt(*args, "--shard", "3/3")
    assert (done.returncode, names(tmp_path / "out")) == (0, [])
    assert one_line(done).endswith(": 0 cases, part 3/3: there are fewer cases than parts")


def test_unknown_ids_ask_for_the_task(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "input" / "BraTS-GLI-01000-000").iterdir():
        (tmp_path / path.name.replace("BraTS-GLI-01000-000", "patient7")).symlink_to(path)
    done = brats_opt("--input", tmp_path, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "--task gli|ssa|men" in one_line(done)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_in_the_middle_leaves_only_whole_files(folder: Path, tmp_path: Path, number: int, code: int) -> None:
    list(write_cohort(tmp_path / "input", "gli", 30, seed=3, shape=SHAPE))
    command = [sys.executable, ROOT / "entrypoint.py", "--input", tmp_path / "input", "--output", tmp_path / "out"]
    command += ["--weights", folder / "weights", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not list((tmp_path / "out").glob("*.nii.gz")):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code, stderr
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    written = names(tmp_path / "out")
    assert 0 < len(written) < 30
    assert all(name.endswith("-000.nii.gz") for name in written)
    done = brats_opt("check", "--input", tmp_path / "input", "--output", tmp_path / "out")
    assert len(done.stdout.splitlines()) == 30 - len(written) + 1, "nothing but missing files"


@pytest.mark.parametrize("how", ["full", "closed"])
def test_log_that_cannot_be_written_costs_no_case(folder: Path, tmp_path: Path, how: str) -> None:
    args = ["--input", folder / "input", "--output", tmp_path, "--weights", folder / "weights", "--device", "cpu"]
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") as full, os.fdopen(writer, "w") as closed:
        log = full if how == "full" else closed
        done = subprocess.run([sys.executable, ROOT / "entrypoint.py", *args], stderr=log, timeout=120, check=False)
    assert (done.returncode, names(tmp_path)) == (0, BOTH)


@pytest.mark.parametrize("how", ["full", "closed"])
@pytest.mark.parametrize("command", ["info", "evaluate", "--help"])
def test_answer_that_cannot_be_written_is_exit_code_6(folder: Path, tmp_path: Path, how: str, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    options: list[object] = ["--weights", folder / "weights"] if command == "info" else []
    if command == "evaluate":
        predictions, references = write_maps(tmp_path)
        options = ["--predictions", predictions, "--references", references, "--task", "gli", "--jobs", "1"]
    program = [sys.executable, ROOT / "entrypoint.py", command, *map(str, options)]
    with Path("/dev/full").open("w") as full, os.fdopen(writer, "w") as closed:
        stdout = full if how == "full" else closed
        done = subprocess.run(program, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1].startswith("brats-opt: standard output: cannot be written (")
    assert "Traceback" not in done.stderr


def test_the_environment_that_makes_runs_tell_json_names_no_file_of_scores(tmp_path: Path) -> None:
    predictions, references = write_maps(tmp_path)
    options = ("--predictions", predictions, "--references", references, "--task", "gli", "--jobs", "1")
    done = brats_opt("evaluate", *options, before=("env", "-C", str(tmp_path)), BRATS_OPT_JSON="1")
    assert (done.returncode, (tmp_path / "1").exists()) == (0, False), done.stderr


def test_folder_that_cannot_be_looked_into_is_named(folder: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0)
    given = ("--input", folder / "input", "--output")
    endings = {
        (*given, tmp_path / "out", "--additional_files", closed / "in"): 5,
        (*given, tmp_path / "out", "--weights", closed / "in"): 5,
        ("check", *given, closed / "in"): 6,
    }
    for args, code in endings.items():
        done = brats_opt(*args, before=without_capabilities())
        assert (done.returncode, f"{closed}/in" in one_line(done)) == (code, True), done.stderr
    closed.chmod(0o700)


def test_every_command_can_show_where_it_went_wrong(tmp_path: Path) -> None:
    done = brats_opt("info", "--weights", tmp_path, "--debug")
    assert done.returncode == 5
    assert "Traceback" in done.stderr


def test_short_help_is_the_help() -> None:
    text = brats_opt("--help").stdout
    assert "Commands:" in text
    assert brats_opt("-h").stdout == text


def test_check_says_a_line_of_a_file_with_an_odd_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a\nb\x1b[31m\udcff.nii.gz").touch()
    done = brats_opt("check", "--input", folder / "input", "--output", tmp_path, PYTHONIOENCODING="utf-8")
    assert done.returncode == 6, done.stderr
    assert r"a b\x1b[31m\udcff.nii.gz: belongs to no case" in done.stdout


def test_json_log_is_an_object_a_line_to_its_end(folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(folder / "input", tmp_path / "input"))
    (broken / "BraTS-GLI-01000-000" / "BraTS-GLI-01000-000-t1c.nii.gz").unlink()
    options = ("--input", broken, "--output", tmp_path / "out", "--weights", folder / "weights", "--json")
    events = [json.loads(line) for line in brats_opt(*options).stderr.splitlines()]
    assert [event["event"] for event in events] == ["start", "case", "case"]
    assert events[0]["members"][0]["file"] == "small-0.safetensors"
    assert [(event["number"], event["status"]) for event in events[1:]] == [(1, "failed"), (2, "written")]
    assert set(events[2]["seconds"]) == {"read", "preprocess", "network", "clean", "write"}
    (fault,) = brats_opt(*options, "--weights", tmp_path).stderr.splitlines()
    assert (json.loads(fault)["event"], json.loads(fault)["level"]) == ("log", "error")


def test_quiet_run_says_only_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    options = ("--input", folder / "input", "--weights", folder / "weights")
    assert brats_opt(*options, "--output", tmp_path / "a", "--quiet").stderr == ""
    assert brats_opt(*options, "--output", tmp_path / "b", BRATS_OPT_QUIET="1").stderr == ""
    off = brats_opt(*options, "--output", tmp_path / "off", BRATS_OPT_QUIET="0", BRATS_OPT_JSON="false")
    assert (off.returncode, len(off.stderr.splitlines())) == (0, 3)
    broken = Path(shutil.copytree(folder / "input", tmp_path / "input"))
    (broken / "BraTS-GLI-01000-000" / "BraTS-GLI-01000-000-t1c.nii.gz").unlink()
    done = brats_opt(*options, "--input", broken, "--output", tmp_path / "c", "-q")
    assert "lacks t1c" in one_line(done)


def test_a_doubt_is_a_line_without_a_report_and_a_warning_in_json(folder: Path, tmp_path: Path) -> None:
    """Field report 17: only --report told it."""
    write_weights(tmp_path, [random_network(seed=5)])
    args = ("--input", folder / "input", "--output", tmp_path / "out", "--weights", tmp_path)
    lines = brats_opt(*args, "--quiet").stderr.splitlines()
    ids = [name.removesuffix(".nii.gz") for name in BOTH]
    doubt = "the networks are unsure of the map: its expected Dice is 0.28, below 0.73: look at the images"
    assert lines == [f"warning: {case_id}: {doubt}" for case_id in ids]
    events = [json.loads(line) for line in brats_opt(*args, "--json").stderr.splitlines()]
    cases = [event for event in events if event["event"] == "case"]
    assert [event["warnings"] for event in cases] == [[f"{case_id}: {doubt}"] for case_id in ids]
    assert all(set(event["expected_dice"]) == {"WT", "TC", "ET"} for event in cases)


def test_verbose_run_names_networks_device_and_stages(folder: Path, tmp_path: Path) -> None:
    options = ("--input", folder / "input", "--output", tmp_path, "--weights", folder / "weights", "-v")
    lines = brats_opt(*options).stderr.splitlines()
    assert lines[1:3] == ["device: cpu", next(line for line in lines if "small-0.safetensors, sha256" in line)]
    assert [part.split()[0] for part in lines[4].split(",")] == ["read", "preprocess", "network", "clean", "write"]


def test_help_lists_options_under_headings_with_examples() -> None:
    text = brats_opt("infer", "--help").stdout
    heads = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads == [
        "Files:",
        "How to segment:",
        "How to run:",
        "What to say, on stderr:",
        "As MLCube spells it:",
        "Other:",
    ]
    assert "brats-opt --input cases --output labels --report report" in text


def test_shell_completes_commands_and_options() -> None:
    def completed(words: str, number: int) -> str:
        done = brats_opt(_BRATS_OPT_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(number))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    script = brats_opt(_BRATS_OPT_COMPLETE="bash_source")
    assert (script.returncode, script.stderr) == (0, "")
    assert "_BRATS_OPT_COMPLETE=bash_complete" in script.stdout
    assert completed("brats-opt inf", 1).split() == ["plain,infer", "plain,info"]
    assert completed("brats-opt --mo", 1).split() == ["plain,--mode"], "of the command that is meant without one"
    assert completed("brats-opt infer --mode ", 3).split() == ["plain,coarse-to-fine", "plain,sliding-window"]


def test_info_says_what_runs_on_what(folder: Path) -> None:
    text = brats_opt("info", "--weights", folder / "weights").stdout
    assert "runs on  " in text
    assert "--task gli  adult glioma: 1 network" in text
    assert "--task men  meningioma: no network" in text


def test_info_lists_the_members_with_their_hashes(folder: Path) -> None:
    facts = json.loads(brats_opt("info", "--weights", folder / "weights", "--json").stdout)
    assert facts["members"][0]["file"] == "small-0.safetensors"
    text = brats_opt("info", "--weights", folder / "weights").stdout
    assert facts["members"][0]["sha256"] in text
    assert "learned from nothing" in text  # the manifest's words


def test_info_refuses_what_a_run_would(folder: Path, tmp_path: Path) -> None:
    weights = Path(shutil.copytree(folder / "weights", tmp_path / "weights"))
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest["members"][0]["normalisation"] = "guess"
    (weights / "manifest.json").write_text(json.dumps(manifest))
    done = brats_opt("info", "--weights", weights)
    assert (done.returncode, "unknown normalisation 'guess'" in one_line(done)) == (5, True)


def test_info_looks_at_members_of_other_challenges_too(folder: Path, tmp_path: Path) -> None:
    weights = Path(shutil.copytree(folder / "weights", tmp_path / "weights"))
    manifest = json.loads((weights / "manifest.json").read_text())
    manifest["members"][0]["task"] = "atlas"
    (weights / "manifest.json").write_text(json.dumps(manifest))
    assert "small-0.safetensors  is of the unknown task atlas" in brats_opt("info", "--weights", weights).stdout
    (weights / "small-0.safetensors").unlink()
    done = brats_opt("info", "--weights", weights)
    assert (done.returncode, "small-0.safetensors" in one_line(done)) == (5, True)
    (weights / "manifest.json").write_text(json.dumps({**manifest, "members": []}))
    assert "lists no network" in brats_opt("info", "--weights", weights).stdout


IS_TORCH_LOADED = """
import atexit, sys
from brats_infer.cli import main
atexit.register(lambda: print("torch" in sys.modules, file=sys.stderr))
main()
"""


@pytest.mark.parametrize("words", ["--help", "infer --help", "train --help", "info --help", "evaluate"])
def test_help_and_scores_do_not_wait_for_torch(words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", IS_TORCH_LOADED, *words.split()]
    if words == "evaluate":
        predictions, references = write_maps(tmp_path)
        command += ["--task", "gli", "--jobs", "1", "--predictions", str(predictions), "--references", str(references)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr.splitlines()[-1] == "False"


def test_phantom_writes_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        list(write_cohort(tmp_path / name, "ssa", 1, seed=4, shape=SHAPE))
    written = sorted((tmp_path / "a").glob("*/*"))
    assert len(written) == 5
    for path in written:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
