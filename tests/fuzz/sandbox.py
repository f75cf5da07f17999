"""A folder to fuzz in, and the property: whatever is in the files, the command line ends well and touches nothing else.

An audit hook sees every file that is opened for writing, moved or removed, every program that is started, every class
that a pickle asks for and every import, in Python and in the C code that tells Python of it.
"""

import contextlib
import io
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

from meseta.cli import main

FACTOR = int(os.environ.get("MESETA_FUZZ", "0"))
"""0 for the few fixed examples of the test suite; k for k times as many, drawn anew."""
SECONDS, GIB = 60, 12


def cases(n):
    """Return hypothesis' settings for n examples, times the factor of a campaign."""
    return settings(
        max_examples=n * (FACTOR or 1),
        derandomize=not FACTOR,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate] + ([] if os.environ.get("QUICK") else [Phase.shrink]),
    )


WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
RUNS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn"}
CANARY = "canary_module"


class Watch:
    """What happened, as the audit hook saw it, beside what may happen."""

    def __init__(self):
        self.may_write = None
        self.seen = []
        self.count = 0
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if self.may_write is None:
            return
        if event in RUNS and Path(str(arguments[0])).name != "git":  # which tells the commit
            self.seen.append(f"{event} {arguments[0]}")
        elif event == "pickle.find_class":
            self.seen.append(f"{event} {arguments}")
        elif event == "import" and arguments[0] == CANARY:
            self.seen.append(f"import of {CANARY}")
        elif event == "open" and isinstance(arguments[0], str | bytes) and isinstance(arguments[2], int):
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.wrote(event, arguments[0])
        elif event in WRITES:
            beside = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
            for path in arguments[: 2 if event == "os.rename" else 1]:
                if isinstance(path, str | bytes | os.PathLike):
                    self.wrote(event, path, beside)

    def wrote(self, event, path, folder=-1):
        """Take a path, which is relative to an open folder where its descriptor is given."""
        here = os.getcwd() if folder == -1 else os.readlink(f"/proc/self/fd/{folder}")
        path = os.path.realpath(os.path.join(here, os.fsdecode(path)))
        if not any(path == root or path.startswith(f"{root}/") for root in self.may_write):
            self.seen.append(f"{event} {path}")


WATCH = Watch()


class Hang(BaseException):
    """A call took too long; no `except Exception` may hide it."""


def _hang(*_):
    raise Hang(f"no end after {SECONDS} s")


def call(arguments, *, may_write):
    """Run the command line with an eye on it; return its exit code, and what it wrote on both streams."""
    out, err = io.StringIO(), io.StringIO()
    roots = [os.path.realpath(path) for path in may_write] + ["/dev/null", "/dev/shm", "/proc/self"]
    before = signal.signal(signal.SIGALRM, _hang)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (GIB << 30, limits[1]))
    signal.alarm(SECONDS)
    WATCH.seen, WATCH.may_write, WATCH.count = [], roots, WATCH.count + 1
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(arguments)
            except SystemExit as stop:
                code = stop.code or 0
    finally:
        WATCH.may_write = None
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    return code, out.getvalue(), err.getvalue()


def ends_well(arguments, *, may_write=()):
    """Check the property for one call; return its exit code and both streams."""
    code, out, err = call(arguments, may_write=may_write)
    assert WATCH.seen == [], (arguments, WATCH.seen)
    assert code in (0, 2), (arguments, code)
    assert "Traceback" not in err
    if code == 2:
        lines = [line for line in err.splitlines() if line.startswith("meseta: error: ")]
        assert len(lines) == 1, (arguments, err)
        assert len(lines[0]) > 30, "says too little"
        assert lines[0] == err.rstrip("\n").rsplit("\n", 1)[-1], (arguments, err)
        assert "out of memory" not in lines[0], (arguments, "a small file must not take all memory")
        assert len(lines[0]) < 5000, (arguments, "an error that nobody can read", lines[0][:300])
    for text in (out, err):
        assert all(c.isprintable() or c in "\n\xa0\u202f" for c in text), (arguments, "a terminal would obey", text)
    return code, out, err


def fresh(folder):
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
