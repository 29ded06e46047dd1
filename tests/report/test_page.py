"""The page in a real browser, opened from the disk with the network off."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.keys import Keys

from brats_infer.files.search.find import find_cases
from brats_infer.report.page import write_page
from brats_infer.report.picture import grey
from brats_infer.report.sight import read_sight
from tests.report.browser import Page, chromium
from tests.report.conftest import TAG

GOOD = "BraTS-GLI-01001-000"
IDS = "#cases tbody td:nth-child(2)"


@pytest.fixture
def page(cohort: Path) -> Iterator[Page]:
    with chromium(cohort / "report") as page:
        yield page
        assert page.complaints() == []


def column(page: Page, name: str) -> list[str]:
    heads = [head.get_dom_attribute("data-column") for head in page.all("th[data-column]")]
    return page.texts(f"#cases tbody td:nth-child({heads.index(name) + 1})")


def sort(page: Page, name: str) -> str | None:
    page.one(f"th[data-column='{name}'] button").click()
    return page.one(f"th[data-column='{name}']").get_dom_attribute("aria-sort")


def seen(page: Page) -> np.ndarray:
    with Image.open(io.BytesIO(page.one(".stage").screenshot_as_png)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_flagged_cases_come_first_and_names_stay_text(page: Page) -> None:
    assert page.texts(IDS)[:2] == [TAG, "BraTS-GLI-01003-000"]
    assert not page.all("td img")


def test_table_sorts_by_a_column_both_ways(page: Page) -> None:
    assert sort(page, "Volume, ml WT") == "descending"
    down = column(page, "Volume, ml WT")
    assert sort(page, "Volume, ml WT") == "ascending"
    up = column(page, "Volume, ml WT")
    numbers = [float(text) for text in up[:3]]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 1, "else any order would do"
    assert down[:3] == up[:3][::-1]
    assert down[3:] == up[3:] == ["–", "–"], "what is not known stays at the end"


def test_search_and_flag_leave_what_matches(page: Page) -> None:
    page.one("#search").send_keys("01001")
    assert page.texts(IDS) == [GOOD]
    page.one("#search").clear()
    page.one("#search").send_keys("failed 01003")
    assert page.texts(IDS) == ["BraTS-GLI-01003-000"]
    assert page.one("#count").text == "1 of 5 cases"


def test_case_opens_and_its_overlay_changes_with_the_regions(page: Page) -> None:
    page.open(GOOD)
    picture = seen(page)
    assert picture.std() > 10, "not blank"
    coloured = (picture.max(axis=2) - picture.min(axis=2)) > 60
    assert coloured.mean() > 0.002, "labels are in colour"
    whole = page.canvas()
    page.one("[data-region='ET']").click()
    enhancing = page.canvas()
    assert enhancing != whole
    page.one("[data-region='WT']").click()
    assert page.canvas() == whole
    page.one("input[data-label='ED']").click()
    assert page.canvas() not in (whole, enhancing)
    page.press("o")
    picture = seen(page)
    assert ((picture.max(axis=2) - picture.min(axis=2)) > 60).mean() < 0.002, "no overlay, no colour"


def test_keys_change_slice_contrast_opacity_and_case(page: Page) -> None:
    page.open(GOOD)
    views = [page.canvas()]
    for key in (Keys.ARROW_UP, Keys.ARROW_LEFT, Keys.PAGE_UP, "]", "4"):
        page.press(key)
        page.driver.implicitly_wait(1)
        page.driver.execute_async_script("setTimeout(arguments[0], 300)")  # type: ignore[no-untyped-call]
        views.append(page.canvas())
    assert len(set(views)) == len(views)
    assert page.one("button[data-value='t2f']").get_dom_attribute("aria-pressed") == "true"
    page.press(Keys.ESCAPE)
    assert page.one("#list").is_displayed()
    assert not page.one("#case").is_displayed()


def test_views_of_one_plane_and_of_three_dimensions_differ(page: Page) -> None:
    page.open(GOOD)
    views = []
    for name in ("all", "axial", "coronal", "sagittal", "3-D"):
        page.one(f"button[data-value='{name}']").click()
        views.append(page.canvas())
    assert len(set(views)) == 5


def test_lesion_moves_the_view_to_itself(page: Page, cohort: Path) -> None:
    page.open(GOOD)
    report = json.loads((cohort / "report" / "report.json").read_text())
    lesions = next(case["lesions"] for case in report["cases"] if case["id"] == GOOD)
    rows = page.all(".lesions tbody tr")
    assert len(rows) == len(lesions) > 1
    page.driver.execute_script("arguments[0].click()", rows[-1])  # type: ignore[no-untyped-call]
    script = "const nv = current.viewer.nv; return Array.from(nv.frac2mm(nv.scene.crosshairPos)).slice(0, 3)"
    at = page.driver.execute_script(script)  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(at, lesions[-1]["mm"], atol=0.51)


def test_voxels_arrive_as_they_were(page: Page, cohort: Path) -> None:
    """Labels to the last, contrasts to a few greys: JPEG, decoded by the browser, in NIfTI's order."""
    page.open(GOOD)
    labels = page.driver.execute_script("return Array.from(current.viewer.nv.volumes[1].img)")  # type: ignore[no-untyped-call]
    counts = np.bincount(labels, minlength=4)[1:] / 1000
    report = json.loads((cohort / "report" / "report.json").read_text())
    case = next(case for case in report["cases"] if case["id"] == GOOD)
    assert list(counts) == pytest.approx(list(case["labels_ml"].values()))
    shown = np.array(page.driver.execute_script("return Array.from(current.viewer.nv.volumes[0].img)"))  # type: ignore[no-untyped-call]
    data = json.loads(re.search(r"arrive\((.*)\)", (cohort / "report" / case["viewer"]).read_text())[1])  # type: ignore[index]
    x, y, z = data["shape"]
    voxels = shown.reshape(z, y, x)
    inside = voxels > 0
    labelled = np.array(labels).reshape(z, y, x) > 0
    assert (labelled & ~inside).sum() <= 0.01 * labelled.sum(), "tumor lies in the brain"
    [found] = (case for case in find_cases(cohort / "input") if case.id == GOOD)
    images = read_sight(found, cohort / "output" / f"{GOOD}.nii.gz").images
    away = [np.abs(grey(image).transpose().astype(int) - voxels).mean() for image in images]
    assert sorted(away)[0] < 2 < 5 < sorted(away)[1], "it is one of the contrasts, and no other"


def test_of_cases_opened_in_a_row_the_last_one_is_shown_with_its_own_volumes(page: Page) -> None:
    """Whatever arrives first: the page may not show one patient's images under another one's ID."""
    page.open(GOOD)
    others = ["BraTS-GLI-01000-000", "BraTS-GLI-01002-000"]
    for milliseconds in (0, 10, 30, 60):
        page.press(Keys.ESCAPE)
        page.driver.execute_script(  # type: ignore[no-untyped-call]
            """
            const [first, second, milliseconds] = arguments;
            location.hash = addressOf(first);
            setTimeout(() => { location.hash = addressOf(second); }, milliseconds);
            """,
            *others,
            milliseconds,
        )
        page.wait_for(f".stage[data-ready='{others[1]}']")
        shown = page.driver.execute_script("return [current.item.id, current.viewer.volumes.id]")  # type: ignore[no-untyped-call]
        assert shown == [others[1]] * 2
        others.reverse()


def test_volumes_of_another_case_are_refused(cohort: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(cohort / "report", tmp_path / "report")
    shutil.copy(folder / "data" / "BraTS-GLI-01000-000.js", folder / "data" / f"{GOOD}.js")
    with chromium(folder) as page:
        next(link for link in page.all("#cases tbody a") if link.text == GOOD).click()
        page.wait_for(".stage p")
        assert f"{GOOD}.js holds another case" in page.one(".stage p").text


def test_of_contrasts_chosen_in_a_row_the_last_one_is_shown(page: Page) -> None:
    page.open(GOOD)
    shown = page.driver.execute_async_script(  # type: ignore[no-untyped-call]
        """
        const done = arguments[0], viewer = current.viewer;
        const isShown = (name) => viewer.decoded[name] === viewer.nv.volumes[0].img;
        current.keys["3"](); current.keys["2"]();
        setTimeout(() => done(Object.keys(viewer.decoded).filter(isShown)), 1500);
        """
    )
    assert shown == ["t1c"]
    assert page.one("button[data-value='t1c']").get_dom_attribute("aria-pressed") == "true"


def test_name_that_is_no_text_leaves_the_page_usable(cohort: Path, tmp_path: Path) -> None:
    content = json.loads((cohort / "report" / "report.json").read_text())
    case = next(case for case in content["cases"] if case["id"] == TAG)
    content["cases"].append({**case, "id": "caf\udce9"})
    folder = shutil.copytree(cohort / "report", tmp_path / "report")
    write_page(folder, content)
    with chromium(folder) as page:
        assert len(page.all("#cases tbody tr")) == 6
        page.one("#search").send_keys("01001")  # the driver cannot read the name
        page.open(GOOD)
        page.driver.execute_script("location.hash = addressOf(arguments[0])", TAG)  # type: ignore[no-untyped-call]
        page.wait_for("#case h1")
        assert page.one("#case h1").text == TAG


def test_part_without_a_case_has_no_time_a_case(cohort: Path, tmp_path: Path) -> None:
    content = json.loads((cohort / "report" / "report.json").read_text())
    write_page(tmp_path, {**content, "cases": []})
    with chromium(tmp_path) as page:
        assert "a case" not in " ".join(page.texts("#tiles span"))


def test_dark_page_is_dark(cohort: Path) -> None:
    with chromium(cohort / "report", "--blink-settings=preferredColorScheme=0") as page:
        colour = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")  # type: ignore[no-untyped-call]
        assert max(int(n) for n in re.findall(r"\d+", colour)) < 64


def test_page_without_its_folder_says_so_and_shows_no_error(cohort: Path, tmp_path: Path) -> None:
    shutil.copy(cohort / "report" / "index.html", tmp_path)
    with chromium(tmp_path) as page:
        next(link for link in page.all("#cases tbody a") if link.text == GOOD).click()
        page.wait_for(".stage p")
        assert "is not beside this page: copy the whole folder" in page.one(".stage p").text


def test_page_of_200_cases_opens_at_once_and_holds_no_volumes(cohort: Path, tmp_path: Path) -> None:
    content = json.loads((cohort / "report" / "report.json").read_text())
    case = next(case for case in content["cases"] if case["id"] == GOOD)
    content["cases"] = [{**case, "id": f"BraTS-GLI-{n:05d}-000"} for n in range(200)]
    write_page(tmp_path, content)
    assert (tmp_path / "index.html").stat().st_size < 2e6
    with chromium(tmp_path) as page:
        assert len(page.all("#cases tbody tr")) == 200
        took = page.driver.execute_script(  # type: ignore[no-untyped-call]
            "const began = performance.now(); drawTable(); document.body.offsetHeight; return performance.now() - began"
        )
        assert took < 1000


def test_page_names_no_address_on_the_network(cohort: Path) -> None:
    text = (cohort / "report" / "index.html").read_text()
    assert set(re.findall(r"https?://[\w./]+", text)) <= {"http://www.w3.org/2000/svg"}
