"""What words and sequence times say about a series."""

from dataclasses import replace

import pytest

from brats_infer.preparation.studies.contrasts import contrast_of
from brats_infer.preparation.studies.headers import Facts, Series
from brats_infer.preparation.studies.planes import Stack
from brats_infer.preparation.studies.words import agent_in, no_contrast_in, plain, weighting_in

SILENT = Facts(
    description="",
    protocol="",
    sequence_name="",
    sequence=frozenset(),
    image_type="ORIGINAL PRIMARY M",
    te=None,
    tr=None,
    ti=None,
    agent="",
    body_part="",
    angiography=False,
    diffusion=False,
    started=None,
)
STACK = Stack(order=tuple(range(30)), step_mm=5.0)
SE, GR, IR = frozenset({"SE"}), frozenset({"GR"}), frozenset({"SE", "IR"})


def _series(facts: Facts) -> Series:
    return Series("1", 1, (), STACK, (256, 256), ("", ""), facts)


@pytest.mark.parametrize(
    ("text", "weighting", "agent"),
    [
        ("t1_mprage_sag_p2_iso", "T1", None),
        ("t1_mprage_sag_KM", "T1", True),
        ("T1 SE nativ", "T1", False),
        ("T1 TSE ohne KM", "T1", False),
        ("T1 TSE mit Kontrastmittel", "T1", True),
        ("AX T1 POST", "T1", True),
        ("AX T1 PRE", "T1", False),
        ("AX T1 W/O", "T1", False),
        ("Ax T1 non-contrast", "T1", False),
        ("T1 pre Gd", "T1", False),
        ("T1 post Gd without fat sat", "T1", True),
        ("T1 wo fs post", "T1", True),
        ("T1 W/WO", "T1", None),
        ("T1 mit und ohne KM", "T1", None),
        ("SAG 3D T1 +C", "T1", True),
        ("T1 C+", "T1", True),
        ("T1 -C", "T1", False),
        ("T1-C", "T1", None),
        ("3DT1 gado", "T1", True),
        ("T1 SE sans injection", "T1", False),
        ("T1 EG après injection", "T1", True),
        ("T1 sin contraste", "T1", False),
        ("T1 con contraste", "T1", True),
        ("T1 TSE post op", "T1", None),
        ("MPRAGE posterior", "T1", None),
        ("Ax T1 FLAIR", "T1", None),
        ("AX T2 FLAIR +C", "FLAIR", True),
        ("t2_tirm_tra_dark-fluid", "FLAIR", None),
        ("*spcir_278ns", "FLAIR", None),
        ("t2_space_sag", "T2", None),
        ("T1 VIBE FA 5 sag", "T1", None),
        ("T1/T2", None, None),
        ("t10 something", None, None),
    ],
)
def test_words_tell_weighting_and_agent(text: str, weighting: str | None, agent: bool | None) -> None:
    words = plain(text)
    assert (weighting_in(words), agent_in(words)) == (weighting, agent)
    assert no_contrast_in(words) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Localizer",
            "3-plane loc",
            "survey",
            "AAHead_Scout",
            "ep2d_diff_b1000",
            "DWI",
            "ADC map",
            "dTRACE",
            "SWI_mag",
        ),
        *("T2*", "t2_star", "ep2d_perf", "pCASL", "rCBV", "TOF", "MRA neck", "T1 SUB", "MIP", "T1 map", "mp2rage_INV1"),
        *("CISS 3D", "STIR", "PD_TSE", "GRE field map", "T2 HWS sag", "T1 C-Spine cervical", "screenshot"),
    ],
)
def test_words_tell_what_is_none_of_the_contrasts(text: str) -> None:
    assert no_contrast_in(plain(text)) is not None


@pytest.mark.parametrize(
    ("facts", "contrast"),
    [
        (replace(SILENT, te=2.9, tr=2300, ti=900, sequence=frozenset({"GR", "IR"})), "t1n"),  # MPRAGE
        (replace(SILENT, te=3.2, tr=8.2, sequence=frozenset({"RM"})), "t1n"),  # as GE writes BRAVO
        (replace(SILENT, te=9.0, tr=550, sequence=SE), "t1n"),
        (replace(SILENT, te=9.0, tr=550, sequence=SE, agent="Gadovist"), "t1c"),
        (replace(SILENT, te=9.0, tr=550, sequence=SE, agent="NONE"), "t1n"),
        (replace(SILENT, te=9.0, tr=550, sequence=SE, agent="-"), "t1n"),
        (replace(SILENT, te=9.0, tr=2000, ti=750, sequence=IR), "t1n"),  # T1 FLAIR
        (replace(SILENT, te=95.0, tr=5000, sequence=SE), "t2w"),
        (replace(SILENT, te=95.0, tr=5000, ti=0, sequence=SE), "t2w"),  # as GE writes no inversion
        (replace(SILENT, te=400.0, tr=3200, sequence=SE), "t2w"),  # SPACE
        (replace(SILENT, te=110.0, tr=9000, ti=2500, sequence=IR), "t2f"),
        (replace(SILENT, te=388.0, tr=5000, ti=1800, sequence=IR), "t2f"),  # 3D
        (replace(SILENT, te=110.0, tr=9000, sequence=IR), None),  # FLAIR, or STIR: the inversion time is missing
        (replace(SILENT, te=110.0, tr=9000), None),
        (replace(SILENT, te=60.0, tr=4000, ti=160, sequence=IR), None),  # STIR
        (replace(SILENT, te=14.0, tr=3500, sequence=SE), None),  # proton density
        (replace(SILENT, te=20.0, tr=600, sequence=GR), None),  # T2*
        (replace(SILENT, te=2.0, tr=5000, ti=2500, sequence=frozenset({"GR", "IR"})), "t1n"),
        (SILENT, None),
        (replace(SILENT, description="FLAIR", te=110.0, tr=9000), "t2f"),
        (replace(SILENT, description="t2 tra", te=110.0, tr=9000, ti=2500), "t2f"),
        (replace(SILENT, description="t1 tra", te=110.0, tr=9000, ti=2500), None),
        (replace(SILENT, description="t2 tra", te=9.0, tr=550, sequence=SE), None),
        (replace(SILENT, description="SAG", protocol="t1_mprage"), "t1n"),
        (replace(SILENT, description="AX T1 PRE", agent="Gadovist"), "t1n"),
        (replace(SILENT, description="AX T1", protocol="brain with contrast"), "t1n"),
        (replace(SILENT, description="AX T1", body_part="LSPINE"), None),
        (replace(SILENT, description="T1", image_type="DERIVED SECONDARY PROJECTION IMAGE"), None),
        (replace(SILENT, description="T1", image_type="ORIGINAL PRIMARY P ND"), None),
        (replace(SILENT, description="T2", sequence=frozenset({"EP"})), None),
        (replace(SILENT, description="T1", angiography=True), None),
    ],
)
def test_times_and_tags_tell_the_contrast(facts: Facts, contrast: str | None) -> None:
    verdict = contrast_of(_series(facts))
    assert verdict.contrast == contrast
    assert (verdict.problem is None) == (contrast is not None)
