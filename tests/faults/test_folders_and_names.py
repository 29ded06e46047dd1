"""Rows 1 to 5 and 31 to 34: what lies in the input folder, and under which names."""

import shutil
from pathlib import Path

import pytest

from brats_infer.files.cases import is_safe_id
from brats_infer.files.labels import read_labels
from tests.case_files import NAMES_2021
from tests.faults.bench import GOOD, PROGRAM, Bench, assert_refused, assert_told
from tests.faults.privileges import without_capabilities


def test_01_modality_missing(bench: Bench) -> None:
    bench.spoil("lacks t2w (found", lambda path: path.unlink())
    bench.spoil("lacks t1n", lambda path: path.unlink(), modality="t1n")
    bench.bad = {case_id: (case_id, reason) for case_id, (_, reason) in bench.bad.items()}
    for case_id, ended in zip(bench.bad, bench.assert_rejected(), strict=True):
        assert f"{case_id}-t1c.nii.gz" in ended.stderr, "what was found is listed"


def test_02_modality_twice(bench: Bench) -> None:
    bench.spoil("has t1c twice", lambda path: shutil.copy(path, str(path).replace("-t1c", "_t1ce")), modality="t1c")
    bench.spoil("has t2w twice", lambda path: shutil.copy(path, str(path).removesuffix(".gz")))
    bench.assert_rejected()


def test_03_no_case_in_the_input_folder(bench: Bench) -> None:
    shutil.rmtree(bench.input)
    bench.input.mkdir()
    assert_refused(bench.run(code=4), str(bench.input), "holds no case: expected {ID}/{ID}-t1n.nii.gz")
    (bench.input / "notes").mkdir()
    (bench.input / "notes" / "list.txt").touch()
    assert_refused(bench.run(code=4), "holds no case: expected")
    assert not bench.output.exists()


def test_04_layouts_and_names_of_other_years(bench: Bench) -> None:
    bench.add("BraTS-GLI-00002-000", nested=False)
    bench.add("BraTS2021_00003", names=NAMES_2021)
    bench.add("Brats18_TCIA01_201_1", names=NAMES_2021)
    bench.add("BraTS-GLI-00004-000", ending=".nii")
    (packed := bench.add("BraTS-GLI-00005-000")["t1n"]).unlink()
    plain = bench.add("BraTS-GLI-00006-000", ending=".nii")["t1n"]
    plain.rename(packed.with_suffix(""))  # one .nii beside three .nii.gz
    bench.bad["BraTS-GLI-00006-000"] = ("BraTS-GLI-00006-000", "lacks t1n")
    told_all = bench.run("--task", "gli", code=3)
    others = ("BraTS-GLI-00002-000", "BraTS2021_00003", "Brats18_TCIA01_201_1", "BraTS-GLI-00004-000")
    bench.assert_holds(*others, "BraTS-GLI-00005-000")
    for case_id in (*others, "BraTS-GLI-00005-000"):
        assert (bench.output / f"{case_id}.nii.gz").read_bytes() == bench.reference
    assert "lacks t1n" in told_all.line_of("BraTS-GLI-00006-000", "failed")


def test_05_files_that_are_no_images(bench: Bench) -> None:
    case = bench.input / GOOD[0]
    for name in (f"._{GOOD[0]}-t1c.nii.gz", ".DS_Store", "Thumbs.db", f"{GOOD[0]}-seg.nii.gz", "report.pdf", "t1.nii"):
        (case / name).write_bytes(b"anything")
        (bench.input / name).write_bytes(b"anything")
    (case / "dicom").mkdir()
    ended = bench.run()
    assert_told(ended, {}, "failed")
    assert "t1.nii: is left out, its name lacks the case ID" in ended.stderr
    bench.assert_holds()


@pytest.mark.parametrize("inside", [True, False])
def test_31_link_out_of_the_input_folder(bench: Bench, inside: bool) -> None:
    private = bench.input / ".kept" if inside else bench.root / "private"
    private.mkdir()

    def link(path: Path) -> None:
        path.rename(private / path.name)
        path.symlink_to(private / path.name)

    bench.options = ("--links", "inside")
    bench.spoil("is a link that leaves the input folder", link)
    if inside:
        bench.bad.clear()
        assert_told(bench.run(), {"BraTS-GLI-10000-000": ("", "")}, "written")
    else:
        (bench.input / "BraTS-GLI-77777-000").symlink_to(private)
        bench.bad["BraTS-GLI-77777-000"] = ("BraTS-GLI-77777-000", "is a link, which is not followed")
        bench.assert_rejected()
        bench.options = ()
        (bench.input / "BraTS-GLI-77777-000").unlink()
        assert_told(bench.run(), {"BraTS-GLI-10000-000": ("", "")}, "written")


NAMES = ("BraTS..GLI", "a\nb", "x" * 200, "größe", "-rf", "a b", "a;b", "<script>alert(1)<", "\x1b[31m", "con\u202etxt")


def test_32_case_id_that_is_no_safe_file_name(bench: Bench) -> None:
    """No file system holds a / in a name or 300 characters; those two are tried on the function itself."""
    for case_id in NAMES:
        bench.add(case_id, nested=False)
    for policy in ("fail", "blank"):
        ended = bench.run("--task", "gli", "--on-error", policy, code=3)
        assert ended.stderr.count(": failed: ") == len(NAMES)
        assert ended.stderr.count("cannot be a file name: at most 128 letters, digits, . - and _") == len(NAMES)
        assert len(ended.lines) == len(NAMES) + len(GOOD)
        assert all(line.isprintable() for line in ended.lines)
        bench.assert_holds()
    assert not any(is_safe_id(case_id) for case_id in ("../../etc/passwd", "a/b", "x" * 300, ".", "..", ""))


def test_33_two_cases_of_one_output_name(bench: Bench) -> None:
    twin = "BraTS-GLI-00002-000"
    for folder in ("a", "b"):
        bench.add(twin)
        (bench.input / folder).mkdir()
        (bench.input / twin).rename(bench.input / folder / twin)
    ended = bench.run(code=3)
    lines = [line for line in ended.lines if f"] {twin}: failed" in line]
    assert len(lines) == 2
    assert all(f"a/{twin} and " in line and f"b/{twin} would" in line for line in lines), lines
    bench.assert_holds()
    bench.run("--on-error", "blank")
    bench.assert_holds(twin)
    assert not read_labels(bench.output / f"{twin}.nii.gz")[0].any()


def test_34_read_only_input_and_input_that_is_the_output(bench: Bench) -> None:
    for path in (*bench.input.rglob("*"), bench.input):
        path.chmod(0o555 if path.is_dir() else 0o444)
    program = (*without_capabilities(), *PROGRAM)
    assert_refused(
        bench.run("--output", bench.input, program=program, code=2), "is the input folder: choose another --output"
    )
    (bench.root / "other name").symlink_to(bench.input)
    assert_refused(bench.run("--output", bench.root / "other name", code=2), "is the input folder")
    above = bench.run("--output", bench.root, code=2)
    assert_refused(above, f"{bench.root}: holds the input folder, and is to hold label maps alone")
    assert_told(bench.run(program=program), {}, "failed")
    bench.assert_holds()
