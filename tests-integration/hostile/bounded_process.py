"""Runs hostile inputs, each in a process of bounded time and memory, and tells what must not have happened.

    faults = run_corpus("model_cases", numbers=[0, 7, 19])

A server process imports a corpus, and with it all that reads its inputs, once; for each input it forks a child, which
costs milliseconds. A fault is one of

    signal      the child ended by a signal (a crash, or memory that was never given back)
    hang        it took longer than it may
    traceback   an exception that is none of ours came out, or a traceback was printed
    long        what it said is longer than a screen
    control     what it said moves the cursor or the colours of whoever reads it
    secret      the planted secret stands in what it said or wrote
    outside     it wrote outside the folder of its input
    let in      it started a program, or spoke to a machine other than this one
    accepted    it was read, though it must be refused; or the reverse, `refused`
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

HERE = Path(__file__).parent
SECONDS = 60.0  # of the wall's clock, as others use the machine too; of the processor's a third
MEMORY = 3 << 30  # bytes of address space beyond what the imports took
SCREEN_LINES = 40
SCREEN_CHARACTERS = 4_000


@dataclass(frozen=True)
class Fault:
    """What went wrong with one case."""

    case: str
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.case}: {self.kind}: {self.detail}"


def run_corpus(corpus: str, numbers: Iterable[int] | None = None, *, seconds: float = SECONDS) -> list[Fault]:
    """Run the cases of a corpus (a module's name) with these numbers; None = all of them.

    Returns:
        The faults, in the order of the cases; empty is what one hopes for.

    Raises:
        RuntimeError: If the server process itself ends, which no input should be able to cause.
    """
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        command = [sys.executable, "-P", __file__, corpus, folder, str(seconds)]
        # A cache of compiled programs is shared by tests, and would be written from here.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "EASYDEL_"))}
        environment = inherited | _planted(Path(folder)) | {"PYTHONPATH": os.pathsep.join(_paths())}
        with Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            count = json.loads(server.stdout.readline() or "0")
            wanted = range(count) if numbers is None else numbers
            faults: list[Fault] = []
            for number in wanted:
                server.stdin.write(f"{number}\n")
                server.stdin.flush()
                answer = server.stdout.readline()
                if not answer:
                    raise RuntimeError(f"the server of {corpus} ended at case {number}")
                faults += [Fault(**fault) for fault in json.loads(answer)]
            server.stdin.close()
            if server.wait() != 0 or not count:
                raise RuntimeError(f"the server of {corpus} ended with {server.returncode} and {count} cases")
        return faults


def _planted(folder: Path) -> dict[str, str]:
    from cases import SECRET

    return {
        "HF_TOKEN": SECRET,
        "OPENAI_API_KEY": SECRET,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "hub"),
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "120",
    }


def _paths() -> list[str]:
    return [str(HERE), str(HERE.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]


# What follows runs in the server and in its children.


def serve(corpus: str, folder: Path, seconds: float) -> None:
    """Answer each number read from standard input with the faults of that case, as one line of JSON."""
    module = importlib.import_module(corpus)
    if hasattr(module, "prepare"):  # what its cases share, and is too dear to be made by each
        module.prepare(folder / "prepared")
    cases = list(module.cases())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever an import prints is no answer
    answers.write(f"{len(cases)}\n")
    answers.flush()
    for line in sys.stdin:
        number = int(line)
        faults = _run(cases[number], folder / str(number), seconds)
        answers.write(json.dumps([asdict(fault) for fault in faults]) + "\n")
        answers.flush()


def _run(case: Any, home: Path, seconds: float) -> list[Fault]:
    inside, outside = home / "inside", home / "outside"
    for folder in (inside, outside, home / "report"):
        folder.mkdir(parents=True)
    (outside / "keep.txt").write_text("not to be changed\n")
    before = _contents(outside)
    child = os.fork()
    if child == 0:
        _child(case, inside, home / "report", seconds)
    status = _waited(child, seconds)
    return [Fault(case.name, *fault) for fault in _faults(case, home, status, before)]


def _waited(child: int, seconds: float) -> int | None:
    """The status of a child; None if it had to be ended."""
    end = time.monotonic() + seconds
    pause = 0.001
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _child(case: Any, inside: Path, report: Path, seconds: float) -> None:
    """Never returns: the process ends here, whatever comes."""
    os.setpgid(0, 0)
    said = os.open(report / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = os.fdopen(1, "w", closefd=False, encoding="utf-8", errors="backslashreplace")
    sys.stderr = os.fdopen(2, "w", closefd=False, encoding="utf-8", errors="backslashreplace")
    sys.stdin = os.fdopen(0, closefd=False)
    code = 1
    try:
        for name in ("tmp", "home"):
            (inside.parent / "report" / name).mkdir()
        os.environ |= {"TMPDIR": str(report / "tmp"), "HOME": str(report / "home")}
        tempfile.tempdir = None
        os.chdir(inside)
        case.make(inside)
        (report / "made").write_text(json.dumps(sorted(_files(inside))))
        _bound(seconds)
        with _watched(inside.parent, report):
            end = _end_of(case, inside)
        (report / "end").write_text(json.dumps(end))
        code = 0
    except BaseException:  # noqa: BLE001 - an error of the case or of this file
        (report / "broken").write_text(traceback.format_exc())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _bound(seconds: float) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    busy = int(seconds / 3) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (busy, busy + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))


def _end_of(case: Any, inside: Path) -> dict[str, str]:
    from easydel.cli.output.errors import is_for_users

    try:
        code = case.read(inside)
    except SystemExit as error:
        return {"kind": "read" if error.code in (None, 0) else "refused"}
    except Exception as error:  # noqa: BLE001 - this is where they are told apart
        if not is_for_users(error):
            return {"kind": "foreign", "text": _summary(error)}
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        print(f"{error}{notes}", file=sys.stderr)
        return {"kind": "refused"}
    # What has no exit code is a function that returned what it had read.
    return {"kind": "refused" if type(code) is int and code != 0 else "read"}


def _summary(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-6:]))
    return f"{type(error).__name__}: {str(error)[:200]!r} at {where}"


@contextmanager
def _watched(home: Path, report: Path) -> Iterator[None]:
    """Note every file opened for writing, moved or removed outside of `home`, and every program and connection."""
    # Opened before, so that noting down is itself no event.
    notes = os.open(report / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and (told := _noted(event, arguments, home)) is not None:
            os.write(notes, (json.dumps(told) + "\n").encode())

    sys.addaudithook(hook)
    try:
        yield
    finally:
        watching = False


_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}


def _noted(event: str, arguments: tuple[Any, ...], home: Path) -> list[str] | None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path, mode, flags = arguments
        writes = (
            any(letter in mode for letter in "wax+") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR)
        )
        if writes and _is_outside(path, home):
            return ["outside", f"opened {os.fsdecode(path)} for writing"]
    elif event in _CHANGES:
        paths = [path for path in arguments[:2] if isinstance(path, str | bytes | os.PathLike)]
        # The end of a symbolic link that is made counts only once something is written through it.
        changed = paths[1:] if event == "os.symlink" else paths
        if event == "os.mkdir" and os.path.isdir(paths[0]):
            return None  # it fails, and changes nothing
        if any(_is_outside(os.path.dirname(os.path.abspath(os.fsdecode(path))), home) for path in changed):
            return ["outside", f"{event} {' '.join(os.fsdecode(path) for path in paths)}"]
    elif event in _PROGRAMS:
        return ["let in", f"{event} {str(arguments[0])[:100]}"]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
        if host not in {"127.0.0.1", "::1", "localhost"}:
            return ["let in", f"connected to {host}"]
    return None


def _is_outside(path: Any, home: Path) -> bool:
    real = os.path.realpath(os.fsdecode(path))
    allowed = (str(home / "inside"), str(home / "report"), "/dev", "/proc")
    return not any(real == folder or real.startswith(folder + os.sep) for folder in allowed)


def _faults(case: Any, home: Path, status: int | None, before: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    report = home / "report"
    said = (report / "said").read_bytes().decode(errors="replace") if (report / "said").exists() else ""
    if (report / "broken").exists():
        raise RuntimeError(f"{case.name} is itself broken: {(report / 'broken').read_text()}")
    if status is None:
        yield "hang", "ended after its time was up"
    elif os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        yield "hang", "it had all of its processor time"
    elif os.WIFSIGNALED(status):
        yield "signal", f"{signal.Signals(os.WTERMSIG(status)).name}: {said[-300:]}"
    end = json.loads((report / "end").read_text()) if (report / "end").exists() else {"kind": "none"}
    if end["kind"] == "foreign":
        yield "traceback", end["text"]
    if case.accepted is not None and end["kind"] == ("refused" if case.accepted else "read"):
        yield end["kind"] if case.accepted else "accepted", said[-300:]
    if "Traceback (most recent call last)" in said:
        yield "traceback", said[-600:]
    if traces := sorted(report.rglob("easydel-*.traceback*")):
        yield "traceback", f"kept in a file: {traces[0].read_text(errors='replace')[-600:]}"
    yield from _faults_of_text(said)
    yield from _faults_of_files(case, home, before)


def _faults_of_text(said: str) -> Iterator[tuple[str, str]]:
    from cases import SECRET

    lines = said.splitlines()
    if len(lines) > SCREEN_LINES or len(said) > SCREEN_CHARACTERS:
        yield "long", f"{len(lines)} lines, {len(said)} characters: {said[:300]!r}"
    if odd := sorted({character for character in said if _controls(character)}):
        yield "control", f"{odd[:5]} in {said[:300]!r}"
    if SECRET in said:
        at = said.index(SECRET)
        yield "secret", f"said: {said[max(0, at - 150) : at + 40]!r}"


def _controls(character: str) -> bool:
    code = ord(character)
    if character in "\n\r\t":  # of a progress line
        return False
    return (
        code < 32
        or 127 <= code < 160
        or code in {0x2028, 0x2029}
        or 0x202A <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
    )


def _faults_of_files(case: Any, home: Path, before: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    from cases import SECRET

    report, inside = home / "report", home / "inside"
    if _contents(home / "outside") != before:
        yield "outside", "the folder beside its own was changed"
    if (report / "events").exists():
        for line in (report / "events").read_text().splitlines()[:3]:
            yield tuple(json.loads(line))
    made = set(json.loads((report / "made").read_text())) if (report / "made").exists() else set()
    fresh = [inside / name for name in _files(inside) if name not in made] + list(report.glob("tmp/**/*"))
    for path in fresh:
        if path.is_file() and SECRET.encode() in path.read_bytes():
            yield "secret", f"written into {path.relative_to(home)}"


def _files(folder: Path) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(root, name), folder)


def _contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _files(folder)}


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
