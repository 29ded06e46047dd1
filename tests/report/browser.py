"""Chromium without a screen and without a network, on a page on the disk."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60  # seconds; a page draws on the processor here


class Page:
    """A report in a browser."""

    def __init__(self, driver: webdriver.Chrome, folder: Path) -> None:
        self.driver = driver
        driver.get((folder / "index.html").as_uri())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [node.text for node in self.all(selector)]

    def press(self, key: str) -> None:
        self.one("body").send_keys(key)

    def open(self, case_id: str) -> None:
        """Follows the case's link in the table and waits for its viewer."""
        next(link for link in self.all("#cases tbody a") if link.text == case_id).click()
        self.wait_for(f".stage[data-ready='{case_id}']")

    def wait_for(self, selector: str) -> None:
        WebDriverWait(self.driver, PATIENCE).until(lambda _: self.all(selector), f"no {selector}")

    def canvas(self) -> bytes:
        """What is seen on the viewer's canvas, drawn anew, as PNG."""
        script = "current.viewer.nv.drawScene(); return document.querySelector('.stage canvas').toDataURL()"
        return str(self.driver.execute_script(script)).encode()  # type: ignore[no-untyped-call]

    def complaints(self) -> list[str]:
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@contextmanager
def chromium(folder: Path, *arguments: str) -> Iterator[Page]:
    """The page of a report's folder. Skips the test where there is no Chromium (`make browser` installs it)."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium with its driver: make browser")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--window-size=1440,960",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        *arguments,
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)) as started:
        yield Page(started, folder)
