import json
import os
import re
import subprocess
import sys

import pytest
import slowness
from programs import RUN

import tfdist
from tfdist.cli import run


def tfdist_run(*arguments, **options):
    return subprocess.run(
        [*RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=slowness.seconds(60),
        **options,
    )


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    return path


def test_the_installed_command_is_this_one(script):
    command = os.path.join(os.path.dirname(sys.executable), "tfdist")
    done = subprocess.run(
        [command, "run", "-n1", script], capture_output=True, timeout=slowness.seconds(60)
    )
    assert (done.returncode, done.stdout) == (0, b"[worker 0] []\n")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_has_an_example_and_loads_no_tensorflow(arguments):
    program = (
        "import sys; from tfdist.cli import main\n"
        f"try: main({arguments!r})\n"
        "finally: print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=slowness.seconds(60),
    )
    assert done.returncode == 0
    assert "tfdist run -n 2 train.py --epochs 3" in done.stdout
    assert done.stdout.endswith("\n[]\n")
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_help_fits_a_screen_and_help_all_has_every_option():
    short, whole = (tfdist_run(option).stdout for option in ("--help", "--help-all"))
    assert len(short.splitlines()) <= 24
    assert max(map(len, short.splitlines())) <= 90
    for option in re.findall(r"(?<!\S)--[a-z-]+", short):
        assert option in whole
    assert "--bind-gpus" in whole and "--rendezvous-timeout" in whole
    assert tfdist_run("-h").stdout == short


def test_windows_is_refused_with_what_to_use_instead(monkeypatch, capsys, script):
    monkeypatch.setattr(run.os, "name", "nt")
    with pytest.raises(SystemExit, match="2"):
        run.main(["-n", "2", str(script)])
    assert "use WSL 2" in capsys.readouterr().err


def test_help_tells_the_exit_codes():
    words = " ".join(tfdist_run("--help-all").stdout.split())
    for code in ("0 all", "128 + S if signal S", "2 wrong", "130 Ctrl-C", "143 SIGTERM"):
        assert code in words


def test_version_and_unknown_commands():
    command = RUN[:-1]
    done = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, timeout=slowness.seconds(60)
    )
    assert done.stdout == f"tfdist {tfdist.__version__}\n"
    done = subprocess.run(
        [*command, "walk"], capture_output=True, text=True, timeout=slowness.seconds(60)
    )
    assert done.returncode == 2
    assert "'walk'" in done.stderr
    assert "run" in done.stderr
    assert (
        subprocess.run(command, capture_output=True, timeout=slowness.seconds(60)).returncode == 2
    )


@pytest.mark.parametrize(
    "given",
    [
        ["--epochs", "3"],
        ["-n", "7", "--workers=1", "--help"],
        ["--n", "--", "-m", "x", "", "a b"],
    ],
)
def test_arguments_go_to_the_script_as_they_are(script, given):
    for options in (["-n", "1"], ["--workers=1"], ["-n1", "--"]):
        done = tfdist_run(*options, script, *given)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"[worker 0] {json.dumps(given)}\n"


def test_a_module(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text("import sys; print(__name__, sys.argv[1:])")
    done = tfdist_run("-n1", "-m", "package.train", "-n", "x", cwd=tmp_path)
    assert done.stdout == "[worker 0] __main__ ['-n', 'x']\n", done.stderr
    done = tfdist_run("-n1", "-m", "no_such_package.train", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no module 'no_such_package.train'" in done.stderr


def test_two_workers_are_the_default(script):
    assert sorted(tfdist_run(script).stdout.splitlines()) == ["[worker 0] []", "[worker 1] []"]


def test_a_missing_script_starts_nothing(tmp_path):
    done = tfdist_run("--log-dir", "logs", "gone.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "tfdist run: error: there is no script 'gone.py'" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "expected a script"),
        (["-n", "2"], "expected a script"),
        (["-m"], "expected a module after -m"),
        (["-n", "0", "SCRIPT"], "expected a number of workers, at least 1; got '0'"),
        (["-n", "two", "SCRIPT"], "expected a number of workers, at least 1; got 'two'"),
        (["--max-restarts", "-1", "SCRIPT"], "expected a number of restarts"),
        (["--wrokers", "2", "SCRIPT"], "--wrokers"),
        (["--log-dir", "SCRIPT/x", "SCRIPT"], "cannot be made"),
        (["--node-rank", "1", "SCRIPT"], "--nnodes"),
        (["--nnodes", "2", "SCRIPT"], "needs --node-rank"),
        (["--nnodes", "2", "--node-rank", "0", "SCRIPT"], "needs --rendezvous"),
        (
            ["--nnodes", "2", "--node-rank", "2", "--rendezvous", "h:1", "SCRIPT"],
            "--node-rank must be from 0 to 1 for --nnodes 2; received 2",
        ),
        (
            ["--nnodes", "2", "--node-rank", "0", "--rendezvous", "nowhere", "SCRIPT"],
            "expected HOST:PORT with a port from 1 to 65535",
        ),
        (["--rendezvous-timeout", "soon", "SCRIPT"], "expected seconds, more than 0; got 'soon'"),
    ],
)
def test_wrong_arguments(script, arguments, words):
    done = tfdist_run(*[argument.replace("SCRIPT", str(script)) for argument in arguments])
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""
