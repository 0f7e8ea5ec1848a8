"""The operator's view: Prefect's UI in Chromium, against a server and a worker of `make serve`.

`make test-browser` runs it and needs Chromium (Debian: `apt install chromium`); with PICTURES in
the environment it writes screenshots into that folder.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from test_serve import PATIENCE, ROOT, Server, environment, free_port, serving
from tiny_line import edit_kb, store_of

from monoglot import Retriever
from monoglot.serving.releases import Releases

playwright = pytest.importorskip("playwright.sync_api", reason="the extra browser is not installed")
expect = playwright.expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SIZE = {"width": 1280, "height": 800}


@pytest.fixture
def served(line, tmp_path):
    """The address of a UI that serves the line."""
    port = free_port()
    with serving(line / "monoglot.yaml", port, tmp_path / "home") as process:
        try:
            assert process.stdout.readline().startswith(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


@pytest.fixture
def page(served):
    """A page that may load from this machine alone; a try to load from elsewhere fails the test."""
    assert CHROMIUM, "Chromium is not installed: apt install chromium"
    elsewhere = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.getuid() == 0 else []
        )
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(PATIENCE * 1000)
        expect.set_options(timeout=PATIENCE * 1000)
        page.on("request", lambda it: elsewhere.append(it.url) if is_elsewhere(it.url) else None)
        yield page
        browser.close()
    assert elsewhere == []


def is_elsewhere(url):
    return not re.match(r"(http|ws)://127\.0\.0\.1[:/]|data:|blob:", url)


def picture(page, name):
    if folder := os.environ.get("PICTURES"):
        page.wait_for_timeout(1500)  # for what slides in
        page.screenshot(path=Path(folder) / f"{name}.png")


def open_form(page, served, deployment):
    page.goto(f"{served}/deployments")
    page.get_by_role("link", name=deployment, exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    expect(page.get_by_role("button", name="Submit")).to_be_visible()


def field(page, title):
    """The box of a form that has this title."""
    label = page.locator(".schema-form-property__label", has_text=re.compile(f"^{title}\\b"))
    return page.locator(".schema-form-property").filter(has=label).last


def submit(page, name):
    """Start the run, and go to its page from the deployment's list, where its name comes up.

    The form stays where a busy server has refused it: then a person presses again.
    """
    while "/run?" in page.url or page.url.endswith("/run"):
        page.get_by_role("button", name="Submit").click()
        with contextlib.suppress(playwright.TimeoutError):
            page.wait_for_url(re.compile(r"/deployment/[0-9a-f-]+(\?.*)?$"), timeout=30_000)
    page.get_by_role("link", name=name, exact=True).first.click()


def has_ended(page, name, state):
    expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.locator(".state-badge").filter(has_text=state).first).to_be_visible()


def open_artifact(page, served, kind):
    """The newest version of an artifact, from the list of all."""
    page.goto(f"{served}/artifacts")
    page.get_by_text(re.compile(f"^{kind}-")).first.click()
    page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()


def current(line):
    return Releases(store_of(line)).current().id


def test_a_run_by_the_form_its_report_and_the_way_back(served, page, line):
    before = current(line)
    open_form(page, served, "retrain")
    expect(page.get_by_text("Run although nothing changed")).to_be_visible()
    expect(field(page, "Config File").locator("textarea")).to_have_value(
        str(line / "monoglot.yaml")
    )
    field(page, "Why").locator("textarea").fill("new rows by hand")
    picture(page, "form")
    edit_kb(line, lambda kb: kb.vstack(kb.tail(1).with_columns(query=pl.lit("bill for my rabbit"))))
    submit(page, "retrain line: new rows by hand")
    has_ended(page, "retrain line: new rows by hand", "Completed")
    picture(page, "run")
    now = current(line)
    assert now != before

    open_artifact(page, served, "report")
    expect(page.get_by_text("Results on")).to_be_visible()
    plots = page.locator("img")
    expect(plots.first).to_be_visible()
    widths = plots.evaluate_all("all => all.map(it => it.complete ? it.naturalWidth : 0)")
    assert widths
    assert all(width >= 300 for width in widths)
    plots.first.scroll_into_view_if_needed()
    picture(page, "report")
    for kind, text in (
        ("gate", "MRR over"), ("release", now), ("plan", "rows"), ("data", "Rejected"),
        ("spend", "$"), ("evaluation", "untuned"),
    ):  # fmt: skip
        open_artifact(page, served, kind)
        expect(page.get_by_text(re.compile(re.escape(text), re.IGNORECASE)).first).to_be_visible()

    open_form(page, served, "rollback")
    submit(page, "rollback line to the one before")
    has_ended(page, "rollback line to the one before", "Completed")
    assert current(line) == before


def test_what_cannot_run_says_why_on_the_page(served, page, line):
    open_form(page, served, "retrain")
    field(page, "Config File").locator("textarea").fill(str(line / "none.yaml"))
    submit(page, "retrain line")
    expect(page.locator(".state-badge").filter(has_text="Failed").first).to_be_visible()
    page.get_by_role("link", name="Details").or_(page.get_by_text("Details")).first.click()
    page.get_by_text("See More").first.click()
    expect(page.get_by_text(re.compile("none.yaml: no such file")).first).to_be_visible()


def test_an_edited_file_starts_a_run_that_the_page_shows(served, page, line):
    text = "the hamster chewed my invoice"
    command = [sys.executable, "-u", "-c", "from flows.cli import main; main()", "watch"]
    retriever = Retriever(line / "store")
    with subprocess.Popen(
        [*command, "-c", str(line / "monoglot.yaml")],
        env=environment() | {"PREFECT_API_URL": f"{served}/api"},
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as watcher:  # fmt: skip
        try:
            while "no row differs" not in watcher.stdout.readline():
                assert watcher.poll() is None
            edited = time.monotonic()
            edit_kb(line, lambda kb: kb.vstack(kb.tail(1).with_columns(query=pl.lit(text))))
            while retriever.search(text, k=1)[0].query != text:
                assert time.monotonic() < edited + PATIENCE
                time.sleep(0.2)
                retriever.refresh()
            sys.stdout.write(f"answered {time.monotonic() - edited:.0f} s after the edit\n")
        finally:
            watcher.kill()
    page.goto(f"{served}/runs")
    page.get_by_text("refresh line: added: 1").first.click()
    has_ended(page, "refresh line: added: 1", "Completed")
    assert Server(int(served.rpartition(":")[2])).artifacts()
