"""What the benchmarks share: rows in `results/`, the machine, tables, pages of the docs.

    python benchmarks/pages.py [FOLDER]   # writes all pages anew, measures nothing

A benchmark appends what it measured to `results/NAME.jsonl`, a row a line, and has a function
`tables(rows)`, which makes Markdown of it. Its page is its own docstring, the machine, and those
tables, so that a page says nothing that was not measured.
"""

import functools
import importlib
import json
import os
import pathlib
import statistics
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGES = HERE.parent / "docs" / "benchmarks"
NAMES = (
    "step_time",
    "equalities",
    "matrix",
    "slow_link",
    "bytes_on_wire",
    "convergence",
    "async",
    "resume",
    "metrics",
    "autotuning",
    "shrink",
    "pruning",
)
BEGAN = time.strftime("%Y-%m-%d %H:%M:%S")


@functools.cache
def machine():
    """The processor, its cores that this process may use, and how long a matrix product takes."""
    import numpy as np

    processor = "unknown processor"
    if (described := pathlib.Path("/proc/cpuinfo")).exists():
        names = [s for s in described.read_text().splitlines() if s.startswith("model name")]
        processor = names[0].split(":")[1].strip() if names else processor
    matrix = np.random.default_rng(0).normal(size=(1024, 1024)).astype("float32")
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - begin)
    cores = len(os.sched_getaffinity(0))
    product = round(1e3 * statistics.median(times), 1)
    return {"processor": processor, "cores": cores, "matrix_product_ms": product}


def append(name, row):
    """Adds a row to `results/NAME.jsonl`, with the time, the machine and the run it belongs to."""
    RESULTS.mkdir(exist_ok=True)
    now = time.strftime("%Y-%m-%d %H:%M")
    with open(RESULTS / f"{name}.jsonl", "a") as file:
        file.write(json.dumps({"time": now, "run": BEGAN, "machine": machine(), **row}) + "\n")


def read(name):
    """All rows of `results/NAME.jsonl`."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def of_last_run(rows):
    """The rows that one call of the script wrote, the last one."""
    return [row for row in rows if row.get("run") == rows[-1].get("run")]


def table(titles, rows):
    """Lines of a Markdown table; a `None` is a dash."""
    lines = [titles, ["---"] * len(titles), *rows]
    cells = [["-" if cell is None else str(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def spread(values, form):
    """ "least to largest"."""
    return f"{min(values):{form}} to {max(values):{form}}"


def where_and_when(rows):
    """The sentence of a page that says on what and when its rows were measured."""
    products = {}  # by kind of machine
    for row in rows:
        found = row.get("machine", "two cores (the processor was not recorded)")
        if isinstance(found, dict):
            kind = f"{found['processor']}, {found['cores']} cores"
            products.setdefault(kind, set()).add(found["matrix_product_ms"])
        else:
            products.setdefault(found, set())
    machines = []
    for kind, times in products.items():
        took = " to ".join(str(one) for one in sorted({min(times), max(times)})) if times else ""
        product = "a product of two 1024 x 1024 float32 matrices in"
        machines.append(f"{kind}, {product} {took} ms" if times else kind)
    days = sorted({row["time"].split()[0] for row in rows if "time" in row})
    when = " " + " to ".join(dict.fromkeys((days[0], days[-1]))) if days else ""
    return f"Measured{when} on: {'; '.join(machines)}."


def page(name):
    """The text of a benchmark's page."""
    module = importlib.import_module(name)
    title, _, text = module.__doc__.strip().partition("\n")
    rows = module.shown(read(name))
    parts = [
        f"# {title.rstrip('.')}",
        f"<!-- Written by benchmarks/{name}.py from its rows in results/; do not edit. -->",
        text.strip("\n"),
        where_and_when(rows),
    ]
    if (PAGES / f"{name}.svg").exists():
        parts.append(f"![{title.rstrip('.')}]({name}.svg)")
    return "\n\n".join([*parts, module.tables(rows)]) + "\n"


def publish(name):
    """Prints a benchmark's tables, and writes its page."""
    module = importlib.import_module(name)
    print(module.tables(module.shown(read(name))))
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.md").write_text(page(name), "utf-8")


def index():
    """The text of the page that lists all others."""
    lines = ["# Benchmarks", "<!-- Written by benchmarks/pages.py; do not edit. -->"]
    lines.append(
        "Each page holds the tables that its script printed, with the command and the machine. "
        "Both sides of a comparison ran in one call, in turn; on other machines look at ratios, "
        "not at times."
    )
    titles = []
    for name in NAMES:
        title = importlib.import_module(name).__doc__.strip().partition("\n")[0].rstrip(".")
        titles.append(f"- [{title}]({name}.md)")
    return "\n\n".join([*lines, "\n".join(titles)]) + "\n"


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else PAGES
    folder.mkdir(parents=True, exist_ok=True)
    for each in NAMES:
        (folder / f"{each}.md").write_text(page(each), "utf-8")
    (folder / "index.md").write_text(index(), "utf-8")
