"""The page, opened in a real browser."""

import html
import html.parser
import io
import json
import re
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest
import slowness

import tfdist

BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
UGLY = '<script>document.title="owned"</script> & "quoted" name'
# What the browser made of the page, written into the page for --dump-dom.
LOOK = """
<script>
const found = document.createElement("pre");
found.id = "found";
found.textContent = JSON.stringify({
  title: document.title,
  widths: [...document.images].map(image => image.complete ? image.naturalWidth : -1),
  rows: [...document.querySelectorAll("tbody tr")].length,
  text: document.querySelector("main").innerText,
  overflow: document.documentElement.scrollWidth > document.documentElement.clientWidth,
});
addEventListener("load", () => {
  found.textContent = JSON.stringify({...JSON.parse(found.textContent),
    widths: [...document.images].map(image => image.complete ? image.naturalWidth : -1)});
  document.body.append(found);
});
</script>
</body>"""


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Runs the browser on a file; returns what it printed."""
    browser = next((found for found in map(shutil.which, BROWSERS) if found), None)
    if browser is None:
        pytest.skip("no chromium or google-chrome is installed to open the page in")

    def run(path, *flags):
        profile = tmp_path_factory.mktemp("profile")
        result = subprocess.run(
            [browser, *FLAGS, f"--user-data-dir={profile}", *flags, path.as_uri()],
            capture_output=True,
            text=True,
            timeout=slowness.seconds(120),
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    p = np.clip(rng.normal(0.35 + 0.3 * y, 0.2), 0, 1)
    report = tfdist.evaluate(
        lambda x: x,
        (p, y),
        class_names=["negative", UGLY],
        slices={f"country {UGLY}": rng.choice(["Germany", "France", UGLY], 300)},
        bootstrap=100,
    )
    report.name = f"sentiment {UGLY}"
    return report


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.to_html(path)
    return path


def found_by(browse, path):
    """What the browser sees of a copy of the page that may run the script which looks."""
    text = path.read_text()
    assert "script-src" not in text
    looked = path.with_name("looked.html")
    text = text.replace("img-src data:;", "img-src data:; script-src 'unsafe-inline';")
    assert "script-src" in text
    looked.write_text(text.replace("</body>", LOOK))
    dom = browse(looked, "--dump-dom", "--window-size=1100,900")
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', dom, re.S)
    return json.loads(html.unescape(found))


def test_a_browser_shows_tables_and_pictures(browse, page, report):
    found = found_by(browse, page)
    assert len(found["widths"]) == 4
    assert min(found["widths"]) > 400
    # Metrics, classes, the confusion matrix, the slices.
    assert found["rows"] == len(report.metrics) + 2 + 2 + 3
    assert found["title"] == report.name
    for name, (value, low, high) in report.metrics.items():
        assert name in found["text"] and f"{value:.4f}" in found["text"]
        assert f"{low:.4f} to {high:.4f}" in found["text"]
    assert f"sentiment {UGLY}" in found["text"]
    assert "Germany" in found["text"] and "100 resamples" in found["text"]
    assert not found["overflow"]


def test_a_screenshot_is_not_blank(browse, page, tmp_path):
    picture = tmp_path / "report.png"
    browse(page, f"--screenshot={picture}", "--window-size=1100,2400")
    image = matplotlib.image.imread(io.BytesIO(picture.read_bytes()), format="png")
    assert image.shape[:2] == (2400, 1100)
    # Every fifth of the page shows something.
    for part in np.array_split(image[:2000, :, :3], 5):
        assert part.std() > 0.03


def test_a_comparison_in_a_browser(browse, report, tmp_path):
    tfdist.evaluation.compare(report, report, bootstrap=20).to_html(tmp_path / "both.html")
    found = found_by(browse, tmp_path / "both.html")
    assert found["rows"] == len(report.metrics) + 2
    assert "McNemar's exact test: p = 1.0000" in found["text"]


class Addresses(html.parser.HTMLParser):
    """Every attribute that could make a browser ask for something."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.tags = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        names = ("src", "srcset", "href", "action", "data", "poster", "background")
        self.found += [value for name, value in attributes if name in names]


def test_the_page_needs_nothing_beside_it(page):
    text = page.read_text()
    addresses = Addresses()
    addresses.feed(text)
    assert len(addresses.found) == 8  # four pictures, light and dark
    assert all(one.startswith("data:image/png;base64,") for one in addresses.found)
    assert not addresses.tags & {"script", "link", "iframe", "object", "embed", "form"}
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in text


def test_what_users_named_is_escaped(page):
    text = page.read_text()
    assert "<script>" not in text
    assert text.count("&lt;script&gt;") >= 6
