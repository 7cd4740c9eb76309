"""The docs: their Python is run as it stands there, links lead somewhere, the site is built."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys

import pytest
import slowness
import yaml
from programs import RUN, Programs

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
MADE = ("reference", "benchmarks")  # by scripts; docstrings_test runs what the reference shows
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Each page stands by itself: it begins with what it imports, and asserts what it says.
PAGES = [
    page
    for page in [*FRONT[1:], *sorted(DOCS.rglob("*.md"))]
    if PYTHON.search(page.read_text("utf-8")) and page.parent.name not in MADE
]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def test_the_pages_are_found():
    assert {page.stem for page in PAGES} >= {
        "losses",
        "layer_state",
        "slow_network",
        "resume",
        "CONTRIBUTING",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {"__name__": "__main__"}
    for block in PYTHON.findall(page.read_text("utf-8")):
        exec(compile(block, str(page), "exec"), found)


# ---- the tutorial, followed


@pytest.fixture
def script(tmp_path):
    """The tutorial's `train.py`."""
    text = (DOCS / "tutorial.md").read_text("utf-8")
    (block,) = re.findall(r'^```python title="train.py"\n(.*?)^```$', text, re.DOTALL | re.M)
    path = tmp_path / "train.py"
    path.write_text(block, "utf-8")
    return path


def last_lines(output):
    """What the script's last line says on each worker, without who says it."""
    return re.findall(r"worker (\d) of \d: (loss [\d.]+, accuracy [\d.]+)", output)


def run_all(ways, tmp_path):
    """What the script's last line says on each worker, of each way to start it, in a folder."""
    folders = [tmp_path / str(number) for number in range(len(ways))]
    with Programs() as programs:
        started = []
        for way, folder in zip(ways, folders):
            folder.mkdir()
            started.append(programs.start(way, cwd=folder, env=ENVIRONMENT))
        for one in started:
            assert one.wait(180) == 0, one.err
    return [sorted(last_lines(one.out)) for one in started]


def test_the_tutorial_gives_two_workers_the_loss_of_one_device(script, tmp_path):
    one, two = run_all([[sys.executable, script], [*RUN, "-n", "2", script]], tmp_path)
    ((_, expected),) = one
    assert two == [("0", expected), ("1", expected)]
    assert all((tmp_path / folder / "digits.keras").exists() for folder in "01")


@pytest.mark.slow  # the launcher's own tests have the rendezvous
def test_the_tutorial_gives_two_machines_the_loss_of_one_device(script, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nodes = [*RUN, "--nnodes", "2", "--rendezvous", f"127.0.0.1:{port}", "-n", "1"]
    ways = [[*nodes, "--node-rank", rank, script] for rank in "01"]
    one, *two = run_all([[sys.executable, script], *ways], tmp_path)
    ((_, expected),) = one
    assert two == [[("0", expected)], [("1", expected)]]
    assert (tmp_path / "1" / "digits.keras").exists()  # the chief's
    assert not (tmp_path / "2" / "digits.keras").exists()


# ---- links


def anchors(page):
    """The fragments that lead to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles]
    return set(plain)


@pytest.mark.parametrize(
    "page", [*FRONT, *sorted(DOCS.rglob("*.md"))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
        if link.startswith(("http:", "https:")):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}, which is not there"
        if fragment:
            assert fragment in anchors(target), f"{page.name} links to {link}: no such heading"


# ---- made pages, and the site


def test_the_reference_is_that_of_the_docstrings(tmp_path):
    command = [sys.executable, DOCS / "reference.py", tmp_path]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=slowness.seconds(120))
    made = {page.name: page.read_text("utf-8") for page in tmp_path.iterdir()}
    assert len(made) == 9
    for name, text in made.items():
        kept = (DOCS / "reference" / name).read_text("utf-8")
        assert kept == text, f"{name} is out of date: run make docs-tables"


def test_every_page_is_in_the_site():
    def pages(part):
        if isinstance(part, str):
            return {part}
        return set().union(*map(pages, part.values() if isinstance(part, dict) else part))

    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert named == there


def test_the_site_is_built_and_fetches_nothing(tmp_path):
    shutil.copytree(DOCS, tmp_path / "docs")
    text = (
        (ROOT / "mkdocs.yml").read_text("utf-8").replace("site_dir: .cache/site", "site_dir: site")
    )
    (tmp_path / "mkdocs.yml").write_text(text, "utf-8")
    subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        check=True,
        timeout=slowness.seconds(120),
    )
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        html = page.read_text("utf-8")
        fetched = re.findall(r'<(?:script|img|link)\b[^>]*\b(?:src|href)="(?:https?:)?//', html)
        assert not fetched, f"{page.name} fetches {fetched}"
