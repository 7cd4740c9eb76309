import io
import os
import time

import pytest
import slowness

from tfdist.cluster import output
from tfdist.cluster.output import TAIL_LINES, LineSplitter, OutputReader, Screen


@pytest.mark.parametrize(
    "chunks, shown",
    [
        ([b"one\ntwo\n"], [b"one", b"two"]),
        ([b"o", b"n", b"e\nt", b"wo"], [b"one", b"two"]),
        ([b"one\r\n\r\ntwo\r\n"], [b"one", b"", b"two"]),
        ([b"one\r", b"\ntwo\n"], [b"one", b"two"]),
        ([b"one\n\n\ntwo\n"], [b"one", b"", b"", b"two"]),
        ([b"1/3\r2/3\r3/3\r\n"], [b"2/3", b"3/3"]),
        ([b"\r1/3", b"\r2/3", b"\r3/3\n"], [b"1/3", b"2/3", b"3/3"]),
    ],
)
def test_lines(chunks, shown):
    splitter, raw, lines = LineSplitter(), b"", []
    for chunk in chunks:
        more_raw, more_lines = splitter.feed(chunk)
        raw += more_raw
        lines += more_lines
    rest = splitter.rest()
    assert raw + rest == b"".join(chunks)  # the log file misses nothing
    assert lines + ([rest] if rest else []) == shown


def test_output_without_line_ends_is_not_collected_for_ever():
    splitter = LineSplitter()
    raw = b"".join(splitter.feed(b"x" * 50_000)[0] for _ in range(100))
    assert len(raw) + len(splitter.rest()) == 5_000_000
    assert len(raw) > 4_900_000


class Pipe:
    """A pipe with an `OutputReader` at its end."""

    def __init__(self, screen, log=None):
        reading, self._writing = os.pipe()
        self.reader = OutputReader(os.fdopen(reading, "rb", 0), screen, "stdout", "> ", log)

    def write(self, data):
        os.write(self._writing, data)

    def close(self):
        os.close(self._writing)
        self.reader.join(10)


def test_each_line_has_the_prefix_and_the_tail_has_the_last_ones():
    stdout, log = io.StringIO(), io.BytesIO()
    pipe = Pipe(Screen(stdout, io.StringIO()), log)
    printed = b"".join(b"line %d\n" % number for number in range(500)) + b"\xff no end"
    pipe.write(printed)
    pipe.close()
    assert stdout.getvalue().splitlines()[0] == "> line 0"
    assert stdout.getvalue().splitlines()[-1] == "> \N{REPLACEMENT CHARACTER} no end"
    assert len(stdout.getvalue().splitlines()) == 501
    assert list(pipe.reader.tail)[-2:] == ["line 499", "\N{REPLACEMENT CHARACTER} no end"]
    assert len(pipe.reader.tail) == TAIL_LINES
    assert log.getvalue() == printed


def test_it_reads_on_when_nobody_looks():
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    closed = io.BytesIO()
    closed.close()
    pipe = Pipe(Screen(Broken(), io.StringIO()), log=closed)
    for _ in range(100):  # more than a pipe holds
        pipe.write(b"x" * 9999 + b"\n")
    pipe.close()
    assert len(pipe.reader.tail) == 100


def test_what_the_screen_cannot_show_is_escaped():
    raw = io.BytesIO()
    screen = Screen(io.TextIOWrapper(raw, encoding="ascii"), io.StringIO())
    screen.write("stdout", "für\n")
    assert raw.getvalue() == rb"f\xfcr" + b"\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def until(holds, what):
    deadline = time.monotonic() + slowness.seconds(20)
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_terminal_shows_the_seconds_of_a_start_until_something_is_written():
    screen = Screen(io.StringIO(), terminal := Terminal())
    with screen.waiting("2 workers are starting"):
        until(lambda: "\r2 workers are starting, 1 s" in terminal.getvalue(), "a line")
        screen.write("stdout", "[worker 0] hello\n")
        shown = terminal.getvalue()
        assert shown.endswith("\r")  # and the line was erased
        assert shown.rstrip("\r").rpartition("\r")[2].strip() == ""
        time.sleep(1.2)
        assert terminal.getvalue() == shown


def test_a_file_gets_one_line_of_a_start_that_takes_long(monkeypatch):
    monkeypatch.setattr(output, "QUIET_S", 0.05)
    screen = Screen(io.StringIO(), file := io.StringIO())
    with screen.waiting("2 workers are starting"):
        until(lambda: file.getvalue(), "a line")
        time.sleep(0.2)
    assert file.getvalue() == "2 workers are starting, 0 s\n"


def test_a_start_that_prints_soon_leaves_nothing():
    for stream in (Terminal(), io.StringIO()):
        screen = Screen(io.StringIO(), stream)
        with screen.waiting("2 workers are starting"):
            screen.write("stdout", "hello\n")
        with screen.waiting("nothing is printed at all"):
            pass
        assert stream.getvalue() == ""
