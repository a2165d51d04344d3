"""The page in headless Chromium."""

import shutil

import pytest
from serving_process import publish, serve
from tiny_classifier import LABELS

sync_api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def server(export_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "tiny"
    folder.mkdir()
    publish(export_dir, folder, 1)
    with serve(folder.parent, "tiny", f"--model_base_path={folder}") as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        installed = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        try:
            browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: {error.message.splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(params=[(1200, 900, "light"), (360, 740, "dark")], ids=["desktop", "phone"])
def page(request, browser, server):
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.said, page.asked, page.choosers = [], [], []

    def choose(chooser):
        page.choosers.append(chooser)

    page.on("filechooser", choose)
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(server.url)
    yield page
    assert page.said == []  # neither errors nor breaches of the content security policy
    assert all(url.startswith((server.url, "data:", "blob:")) for url in page.asked)
    assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out
    context.close()


def test_a_chosen_picture_is_answered_and_explained(page, pictures):
    sync_api.expect(page.locator("#model")).to_have_text("tiny")
    page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": pictures[5]})
    rows = page.locator("#classes button")
    sync_api.expect(rows).to_have_count(5)
    names = rows.locator(".name").all_inner_texts()
    numbers = [float(text.removesuffix("%")) for text in rows.locator(".number").all_inner_texts()]
    assert set(names) < set(LABELS)
    assert numbers == sorted(numbers, reverse=True)
    widths = rows.locator(".fill").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
    track = rows.locator(".track").first.bounding_box()["width"]
    assert [100 * width / track for width in widths] == pytest.approx(numbers, abs=0.2)
    sync_api.expect(page.locator("#heat")).to_be_hidden()
    page.click("#why")
    sync_api.expect(page.locator("#heat")).to_be_visible(timeout=30_000)
    asked = [url for url in page.asked if url.endswith(":predict")]
    assert len(asked) == 3  # the picture, and 50 in two requests
    strengths = """() => {
        const data = document.getElementById("heat").getContext("2d").getImageData(0, 0, 512, 512).data;
        return new Set(data.filter((_, index) => index % 4 === 3)).size;
    }"""
    assert page.evaluate(strengths) > 10  # warmer here than there
    painted = "() => document.getElementById('heat').toDataURL()"
    first = page.evaluate(painted)
    rows.nth(1).click()
    assert page.evaluate(painted) != first
    sync_api.expect(page.locator("#class")).to_have_text(names[1])
    assert len([url for url in page.asked if url.endswith(":predict")]) == 3  # nothing is asked again


def test_by_keyboard(page, pictures):
    sync_api.expect(page.locator("#model")).to_have_text("tiny")
    page.bring_to_front()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.keyboard.press("Enter")
    for _ in range(100):
        if page.choosers:
            break
        page.wait_for_timeout(100)
    page.choosers[0].set_files({"name": "a.png", "mimeType": "image/png", "buffer": pictures[1]})
    page.wait_for_selector("#classes button")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "why"
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("#heat")).to_be_visible(timeout=30_000)
    page.locator("#classes button").nth(2).focus()
    page.keyboard.press("Space")
    assert page.locator("#classes button").nth(2).get_attribute("aria-pressed") == "true"


def test_dropped_and_pasted(page, pictures):
    for number, event in enumerate(("drop", "paste")):
        page.evaluate(
            """([bytes, event]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "a", {type: "image/png"}));
                const options = {bubbles: true, cancelable: true};
                document.dispatchEvent(event === "drop"
                    ? new DragEvent("drop", {dataTransfer: data, ...options})
                    : new ClipboardEvent("paste", {clipboardData: data, ...options}));
            }""",
            [list(pictures[1 + number]), event],
        )
        sync_api.expect(page.locator("#said")).to_contain_text("%")
        sync_api.expect(page.locator("#classes button")).to_have_count(5)
        asked = [url for url in page.asked if url.endswith(":predict")]
        assert len(asked) == 1 + number


def test_what_is_no_picture_is_said(page):
    page.set_input_files("#file", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"junk"})
    sync_api.expect(page.locator("#wrong")).not_to_be_empty()
    sync_api.expect(page.locator("#answer")).to_be_hidden()
