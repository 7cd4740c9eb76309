"""Writes `docs/reference/`: all public names with their signatures and docstrings.

`make docs-tables` runs it. A docstring's sections become headings, its examples code.

    python docs/reference.py [FOLDER]
"""

import inspect
import pathlib
import re
import sys
import textwrap

import tfdist

FOLDER = pathlib.Path(__file__).parent / "reference"
HEAD = "<!-- Written by `make docs-tables` from the docstrings; do not edit. -->"
STRATEGIES = (
    *("auto_strategy", "MirroredStrategy", "MultiWorkerMirroredStrategy"),
    *("ParameterServerStrategy", "TPUStrategy"),
)
PLACE = ("rank", "world_size", "is_chief", "barrier", "run")
# page: (title, what stands above the names, module, its public names or None for all)
PAGES = {
    "strategies": ("Strategies", "Where the replicas live.", tfdist, STRATEGIES),
    "place": ("Workers", "Which worker this is, and workers from a notebook.", tfdist, PLACE),
    "callbacks": ("Callbacks", "How the replicas agree, and resuming.", tfdist.callbacks, None),
    "gradient_compression": (
        "Gradient compressors",
        "What crosses the wire.",
        tfdist.gradient_compression,
        None,
    ),
    "model_compression": (
        "Model compression",
        "How small the model gets.",
        tfdist.model_compression,
        None,
    ),
    "metrics": ("Metrics", "For `model.compile`, exact on replicas.", tfdist.metrics, None),
    "evaluation": (
        "Evaluation",
        "`tfdist.evaluate` is `tfdist.evaluation.evaluate`.",
        tfdist.evaluation,
        None,
    ),
    "tuning": ("Tuning", "Hyperparameters, and rates.", tfdist.tuning, None),
}
SECTIONS = "Args|Arguments|Attributes|Returns|Raises|Yields|Example|Examples|Reference|References"


def names_of(module, names):
    return names or [name for name in module.__all__ if not name.startswith("_")]


def signature(what, name):
    """`name(arguments) -> result`, on several lines where it is long."""
    try:
        found = inspect.signature(what)
    except ValueError:
        return name
    parameters = list(found.parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    found = found.replace(parameters=parameters)
    if inspect.isclass(what):
        found = found.replace(return_annotation=inspect.Signature.empty)
    text = re.sub(r" object at 0x[0-9a-f]+>", ">", str(found)).replace("'", "")
    line = f"{name}{text}"
    if len(line) <= 90:
        return line
    arguments = ",\n    ".join(split_arguments(text))
    return f"{name}(\n    {arguments},\n){text[text.rindex(')') + 1 :]}"


def split_arguments(text):
    """The arguments of "(a: dict[int, str] = None, b=1) -> c"."""
    inside, depth, parts = text[1 : text.rindex(")")], 0, [""]
    for character in inside:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def markdown(docstring):
    """The docstring with headings for its sections, and fences around its examples."""
    out, lines = [], inspect.cleandoc(docstring).splitlines()
    while lines:
        line = lines.pop(0)
        section = re.fullmatch(rf"({SECTIONS}):(.*)", line)
        if section:
            body = [section[2].strip()] if section[2].strip() else []
            while lines and (not lines[0].strip() or lines[0].startswith("    ")):
                body.append(lines.pop(0))
            inside = textwrap.dedent("\n".join(body)).strip("\n")
            entries = section[1] in ("Args", "Arguments", "Attributes", "Raises")
            out += ["", f"**{section[1]}**", "", items(inside) if entries else code(inside), ""]
        else:
            out.append(line)
    return re.sub(r"\n{3,}", "\n\n", code("\n".join(out))).strip()


def items(text):
    """ "name: what it is" of each entry as a list."""
    entries = re.split(r"\n(?=\S)", text)
    lines = []
    for entry in entries:
        entry = " ".join(part.strip() for part in entry.splitlines())
        name, colon, rest = entry.partition(": ")
        lines.append(f"- `{name}`: {rest}" if colon else f"- {entry}")
    return "\n".join(lines)


def code(text):
    """Puts fences around examples of the interactive interpreter."""
    out, inside = [], False
    for line in text.splitlines():
        if not inside and line.startswith(">>>"):
            out.append("```pycon")
            inside = True
        elif inside and not line.strip():
            out.append("```")
            inside = False
        out.append(line)
    return "\n".join([*out, "```"] if inside else out)


def methods(kind):
    """The public methods and properties that a class of ours documents itself."""
    for name, member in vars(kind).items():
        function = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", function)
        if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
            continue
        yield name, member, function


def entry(module, name):
    """A name's section of its page."""
    what = getattr(module, name)
    full = f"{module.__name__}.{name}"
    parts = [f"## {name}", f"```text\n{signature(what, full)}\n```"]
    parts.append(markdown(what.__doc__ or ""))
    if inspect.isclass(what):
        for method, member, function in methods(what):
            shown = method if isinstance(member, property) else signature(function, method)
            parts += [f"### {name}.{method}", f"```text\n{shown}\n```"]
            parts.append(markdown(function.__doc__))
    return "\n\n".join(parts)


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Reference", HEAD, "All public names, by what they are for."]
    for page, (title, text, module, names) in PAGES.items():
        names = names_of(module, names)
        body = "\n\n".join(entry(module, name) for name in names)
        (folder / f"{page}.md").write_text(f"# {title}\n\n{HEAD}\n\n{text}\n\n{body}\n", "utf-8")
        links = ", ".join(f"[{name}]({page}.md#{name.lower()})" for name in names)
        lines += [f"## [{title}]({page}.md)", text, links]
    (folder / "index.md").write_text("\n\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
