"""What workers print: prefixed, whole lines, on the screen and in log files."""

import collections
import contextlib
import os
import re
import sys
import threading
import time

TAIL_LINES = 100
QUIET_S = 10.0  # where no line can be rewritten: so long after a start it is said once
_CHUNK = 65536
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Screen:
    """Two text streams that many threads write to, a piece at a time.

    It writes through the stream objects and not through file descriptors, so
    that it also works in a notebook.
    """

    def __init__(self, stdout=None, stderr=None):
        self._streams = {"stdout": stdout or sys.stdout, "stderr": stderr or sys.stderr}
        self._lock = threading.Lock()
        self._wait = None  # the `Event` that ends the present wait
        self._shown = 0  # how many characters of the line about it stand on the terminal

    def write(self, name, text):
        """Writes `text` to the stream called "stdout" or "stderr" and flushes it."""
        stream = self._streams[name]
        # ValueError: closed. OSError: nobody reads any more (`| head`). In
        # both cases the workers go on, and their output still has to be read.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._end_wait()
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()

    def say(self, text):
        """Writes a line of the launcher's own to stderr."""
        self.write("stderr", text + "\n")

    @contextlib.contextmanager
    def waiting(self, text):
        """Until something is written, shows `text` and the seconds; ends with the context.

        On a terminal the line is rewritten each second and then erased; elsewhere it is written
        once, after `QUIET_S`.
        """
        wait = self._wait = threading.Event()
        thread = threading.Thread(
            target=self._show_wait, args=(text, wait), name="tfdist-wait-line", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(OSError, ValueError):
                if self._wait is wait:
                    self._end_wait()
            thread.join(1.0)

    def _show_wait(self, text, wait):
        stream, begin = self._streams["stderr"], time.monotonic()
        rewritten = stream.isatty()
        while not wait.wait(1.0 if rewritten else QUIET_S):
            with self._lock, contextlib.suppress(OSError, ValueError):
                if wait.is_set():
                    return
                line = f"{text}, {time.monotonic() - begin:.0f} s"
                if not rewritten:
                    stream.write(f"{line}\n")
                    stream.flush()
                    return
                stream.write(f"\r{line}")
                stream.flush()
                self._shown = len(line)

    def _end_wait(self):
        if self._wait is not None:
            self._wait.set()
            self._wait = None
        if self._shown:
            self._streams["stderr"].write(f"\r{' ' * self._shown}\r")
            self._streams["stderr"].flush()
            self._shown = 0


class LineSplitter:
    r"""Cuts a stream of bytes into lines, cheaply where a progress bar rewrites one.

    A `\r` ends a line, as a `\n` does. Where one chunk has several lines that
    end in `\r`, only the last is kept for the screen: a terminal would have
    overwritten the others.

    Example:

    >>> splitter = LineSplitter()
    >>> splitter.feed(b"1/3\r2/3\r3/3\ndo")
    (b'1/3\r2/3\r3/3\n', [b'2/3', b'3/3'])
    >>> splitter.feed(b"ne\n")
    (b'done\n', [b'done'])
    >>> splitter.rest()
    b''
    """

    def __init__(self):
        self._pending = b""

    def feed(self, chunk):
        """Takes bytes; returns (the raw bytes of all whole lines, the lines to show)."""
        data = self._pending + chunk
        # A last `\r` may be half of a `\r\n`; it waits for the next chunk.
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
        if end == 0 and len(data) > _CHUNK:
            end = len(data)  # no line at all: do not collect it for ever
        raw, self._pending = data[:end], data[end:]
        return raw, self._lines(raw)

    def rest(self):
        """Returns what came after the last line end, and forgets it."""
        rest, self._pending = self._pending, b""
        return rest

    @staticmethod
    def _lines(raw):
        lines = []
        start, overwrites = 0, False
        for match in _LINE_END.finditer(raw):
            text = raw[start : match.start()]
            returns = match.group() == b"\r"
            if not (returns and not text):
                if overwrites and returns:
                    lines.pop()
                lines.append(text)
                overwrites = returns
            start = match.end()
        if start < len(raw):
            lines.append(raw[start:])
        return lines


class OutputReader:
    """A thread that reads one stream of one worker until its end.

    It always reads on, whatever becomes of the screen or the log file, so that
    a worker never blocks on a full pipe.

    Args:
        pipe: The worker's stdout or stderr, an unbuffered binary file.
        screen: A `Screen`.
        name: "stdout" or "stderr".
        prefix: Put before each line on the screen.
        log: A binary file, or None.

    Attributes:
        tail: The last lines, without prefix.
    """

    def __init__(self, pipe, screen, name, prefix, log=None):
        self.tail = collections.deque(maxlen=TAIL_LINES)
        self._pipe, self._screen, self._name = pipe, screen, name
        self._prefix, self._log = prefix, log
        self._muted = False
        self._thread = threading.Thread(target=self._read, name=f"tfdist-{name}", daemon=True)
        self._thread.start()

    def join(self, timeout):
        """Waits for the end of the stream; after `timeout` seconds, mutes it.

        A process that left its worker's process group may keep the pipe open.
        """
        self._thread.join(timeout)
        self._muted = self._thread.is_alive()

    def _read(self):
        splitter = LineSplitter()
        with self._pipe:
            while True:
                try:
                    chunk = os.read(self._pipe.fileno(), _CHUNK)
                except OSError:
                    break
                if not chunk:
                    break
                self._show(*splitter.feed(chunk))
        rest = splitter.rest()
        if rest:
            self._show(rest, [rest.rstrip(b"\r")])

    def _show(self, raw, lines):
        if self._log is not None and raw:
            with contextlib.suppress(OSError, ValueError):  # a full disk; a closed file
                self._log.write(raw)
        texts = [line.decode("utf-8", "replace") for line in lines]
        self.tail.extend(texts)
        if texts and not self._muted:
            whole = "".join(f"{self._prefix}{text}\n" for text in texts)
            self._screen.write(self._name, whole)
