"""The `tfdist` command: one file a command, imported when it is asked for.

Each command's module has a one-line `SUMMARY` and `main(arguments)`, which
returns the exit code.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

import tfdist

COMMANDS = {"run": "tfdist.cli.run"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that `argv` (by default, of this process) names.

    Returns:
        The exit code: the command's own; 2 for a command that does not exist.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in COMMANDS:
        return importlib.import_module(COMMANDS[argv[0]]).main(argv[1:])
    summaries = "\n".join(
        f"  {name:<10}{importlib.import_module(module).SUMMARY}"
        for name, module in COMMANDS.items()
    )
    parser = argparse.ArgumentParser(
        prog="tfdist",
        description="Distributed training for Keras 3 on TensorFlow.",
        epilog=f"commands:\n{summaries}\n\nexample:\n  tfdist run -n 2 train.py --epochs 3\n\n"
        "`tfdist COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tfdist {tfdist.__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="what to do")
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    parser.parse_args(argv[:1])  # --help, --version, or a command that does not exist
    return 2
