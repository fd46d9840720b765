"""Every check of this repository: `uv run nox -l` lists the sessions, `uv run nox -s NAME` runs one.

Each session lives in an environment of its own that `uv sync` fills from the lock file, so a check sees what
it asks for and nothing that happens to lie around. Arguments after `--` reach the session's tool: `nox -s
integration -- -k demo`.
"""

import os
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.error_on_external_run = True
nox.options.sessions = ["lint", "types", "imports", "tests", "wheels(easydata-sources)", "integration"]

ROOT = Path(__file__).parent
PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))
WITHOUT_JAX = {"easydata-sources", "easydata-mix", "easydata-tokenize", "easydel-transforms"}
# Two files of tests at a time; a file's tests stay together, because they share compiled programs.
IN_PARALLEL = ("-n", "2", "--dist", "loadfile")
# Without most optimisations, XLA's older code generator needs half the time; most tests run a program once or twice.
QUICK_PROGRAMS = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}
AZURITE = "azurite@3.35.0"  # Microsoft's own emulator of its store; npm comes with the group `storage`
UV = os.environ.get("UV", "uv")  # `uv run` names its own binary here, which need not be on the PATH


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting, lint rules and spelling."""
    sync(session, "--only-group", "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Static types of all packages."""
    sync(session, "--group", "types")
    printed = session.run("pyright", "--pythonpath", f"{session.bin}/python", *session.posargs, silent=True)
    if "No source files found" in str(printed):
        session.error("pyright found no file to check, which it calls a success.")


@nox.session
def imports(session: nox.Session) -> None:
    """Layers: who may import whom, and losses that stay pure."""
    sync(session, "--group", "imports")
    session.run("lint-imports")


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def tests(session: nox.Session, package: str) -> None:
    """Tests of one package, with only that package and its own dependencies installed."""
    sync(session, "--package", package, "--group", "test")
    command = ("pytest", *IN_PARALLEL, "-m", "not thorough", f"packages/{package}/tests", *session.posargs)
    session.run(*command, env=QUICK_PROGRAMS)


@nox.session
def integration(session: nox.Session) -> None:
    """The packages together: recorded runs, whole command lines, the demo in short, and docstrings' examples."""
    sync(session, "--group", "test", "--group", "demo")
    if not session.posargs:
        sources = (str(path) for path in ROOT.glob("packages/*/src"))
        # Some modules need an extra that is not installed here.
        session.run("pytest", "--doctest-modules", "--doctest-ignore-import-errors", *sources)
    run_integration(session, "not thorough")


@nox.session(default=False)
def thorough(session: nox.Session) -> None:
    """The cases of `tests` and `integration` that the default run leaves out because it keeps others of their kind."""
    sync(session, "--all-packages", "--all-extras", "--group", "test")
    for package in PACKAGES:
        command = ("pytest", *IN_PARALLEL, "-m", "thorough", f"packages/{package}/tests", *session.posargs)
        session.run(*command, env=QUICK_PROGRAMS, success_codes=[0, 5])  # 5: a package need not have any
    run_integration(session, "thorough")


@nox.session
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def wheels(session: nox.Session, package: str) -> None:
    """Build the wheels without the workspace, install one alone in an empty environment, import its menu."""
    with tempfile.TemporaryDirectory() as folder:
        session.run(UV, "build", "--all-packages", "--no-sources", "--quiet", "--out-dir", folder, external=True)
        constraints = Path(folder, "constraints.txt")
        # Siblings come from this build, never from an index that may hold other projects of the same names.
        built = sorted(Path(folder).glob("*.whl"))
        constraints.write_text("".join(f"{distribution(path)} @ {path.as_uri()}\n" for path in built))
        wheel = next(path for path in built if distribution(path) == package)
        session.install("--constraints", str(constraints), str(wheel))
        check_menu = ROOT / "tests-integration" / "wheels" / "check_menu.py"
        arguments = [folder, package, *(["--without-jax"] if package in WITHOUT_JAX else [])]
        session.run("python", "-I", str(check_menu), *arguments)


@nox.session(default=False)
@nox.parametrize("package", PACKAGES, ids=PACKAGES)
def lowest(session: nox.Session, package: str) -> None:
    """Tests of one package with the oldest direct dependencies that it claims to work with."""
    group = f"packages/{package}/pyproject.toml:test"
    session.install("--resolution", "lowest-direct", "-e", f"packages/{package}", "--group", group)
    session.run("pytest", f"packages/{package}/tests", *session.posargs)


@nox.session(default=False, venv_backend="virtualenv")
def parity(session: nox.Session) -> None:
    """Folders and adapters that we export, read back by `transformers` and `peft` under torch: the same logits."""
    # pip rather than uv: on Linux uv's default index answers with torch's multi-gigabyte CUDA build,
    # while pip also looks where the machine's owner told it to look for a CPU build.
    session.install("torch==2.13.0", "transformers==5.23.0", "peft==0.21.2", "pytest", "./packages/easydel-models")
    session.run("pytest", "tests-integration/parity", *session.posargs)


@nox.session(default=False)
def storage(session: nox.Session) -> None:
    """Buckets of S3, Google, Azure and Hub servers on this machine, read like local files and trained on."""
    sync(session, "--group", "test", "--group", "storage", "--group", "storage-writing")
    folder = session.create_tmp()
    session.run_install("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, AZURITE)
    azurite = Path(folder, "node_modules", "azurite", "dist", "src", "blob", "main.js")
    session.run("pytest", "tests-integration/storage", *session.posargs, env={"AZURITE": str(azurite)})


@nox.session(default=False)
def ray(session: nox.Session) -> None:
    """Tokenizing on a real Ray cluster of two workers on this machine."""
    sync(session, "--group", "test", "--package", "easydata-tokenize", "--extra", "ray")
    session.run("pytest", "tests-integration/ray", *session.posargs)


@nox.session(default=False)
def learn(session: nox.Session) -> None:
    """Every trainer learns a rule from chance to 0.9 on rows it never saw, over three seeds; figures are printed."""
    sync(session, "--group", "test")
    session.run("pytest", "-q", "tests-integration/learn", *session.posargs, env={"EASYDEL_LEARN_SEEDS": "3"})


@nox.session(default=False)
def golden(session: nox.Session) -> None:
    """The recorded runs of TRL, on the programs that users get: the default run compiles them lightly."""
    sync(session, "--group", "test")
    tests = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests-integration/test_golden_*.py"))
    session.run("pytest", *IN_PARALLEL, *tests, *session.posargs, env={"EASYDEL_FULL_COMPILATION": "1"})


@nox.session(default=False)
def families(session: nox.Session) -> None:
    """Every model family against transformers; `nox -s families -- FOLDER` judges by the cases of another folder."""
    sync(session, "--group", "test")
    folder = session.posargs[0] if session.posargs else ROOT / "tests-integration/golden/families"
    session.run(
        "pytest",
        *IN_PARALLEL,
        "tests-integration/test_golden_families.py",
        env={"EASYDEL_GOLDEN": str(folder), "EASYDEL_FULL_COMPILATION": "1"},
    )


@nox.session(default=False)
def demo(session: nox.Session) -> None:
    """The whole demo: a real model must lower its held-out loss by a tenth."""
    sync(session, "--group", "demo")
    session.run("easydel", "sft", "examples/smollm2_sft.yaml", *session.posargs)


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The site, built strictly; every block of README and docs, run."""
    sync(session, "--all-packages", "--group", "test", "--group", "docs", "--all-extras")
    session.run("mkdocs", "build", "--strict", "--quiet")
    session.run("pytest", *IN_PARALLEL, "tests-integration/docs", *session.posargs)


@nox.session(default=False)
def pages(session: nox.Session) -> None:
    """The pages we write, in a real browser: needs a Chromium on the machine."""
    sync(session, "--group", "test", "--group", "pages")
    session.run("pytest", "tests-integration/pages", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Kill -9 of SFT and GRPO at thirty random moments each and more, started again until they end: equal bits.

    And a hundred rounds of kills at evaluations, saves, commits and exports, of full disks, and of two runs at once.
    """
    sync(session, "--group", "test")
    rounds = {"EASYDEL_FAULT_ROUNDS": "100"}
    session.run("pytest", "tests-integration/test_faults_of_runs.py", *session.posargs, env=rounds)
    session.run(
        "pytest", "tests-integration/test_kill_and_resume.py", *session.posargs, env={"EASYDEL_KILL_MOMENTS": "30"}
    )
    tokenizing = "packages/easydata-tokenize/tests/test_killed_saving.py"
    session.run("pytest", tokenizing, *session.posargs, env={"EASYDATA_KILL_MOMENTS": "100"})


@nox.session(default=False)
def hostile(session: nox.Session) -> None:
    """Files, folders and servers made to do harm, each read in a process of bounded time and memory."""
    sync(session, "--all-packages", "--all-extras", "--group", "test")
    session.run("pytest", "tests-integration/hostile", *session.posargs, env={"EASYDEL_HOSTILE": "all"})


@nox.session(default=False)
def templates(session: nox.Session) -> None:
    """Thousands of random chat templates and rows of which it is known what the assistant says."""
    sync(session, "--group", "test")
    tests = "packages/easydata-tokenize/tests/test_random_templates.py"
    session.run("pytest", "-q", tests, *session.posargs, env={"TEMPLATE_CASES": "5000"})


@nox.session(default=False)
def multihost(session: nox.Session) -> None:
    """Eight simulated devices in every mix of axes; two and four real processes, killed and started again."""
    sync(session, "--group", "test")
    session.run("pytest", "tests-integration/multihost", *session.posargs)


@nox.session(default=False)
def examples(session: nox.Session) -> None:
    """Every script of examples/ in short: a held-out figure must improve."""
    sync(session, "--group", "test", "--group", "demo")
    session.run("pytest", *IN_PARALLEL, "tests-integration/test_examples.py", *session.posargs)


@nox.session(default=False)
def promises(session: nox.Session) -> None:
    """The data promises on hundreds of random compositions of stages."""
    sync(session, "--group", "test")
    session.run(
        "pytest",
        "-n",
        "2",  # and not by file, as there is only one
        "tests-integration/test_data_promises.py",
        *session.posargs,
        env={"EASYDEL_EXAMPLES": "300"},
    )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Speed and memory of the training step on a real model; prints, never judges."""
    sync(session, "--group", "test", "--group", "demo")
    for script in sorted(ROOT.glob("benchmarks/*.py")):
        session.run("python", str(script.relative_to(ROOT)), *session.posargs)


def sync(session: nox.Session, *selection: str) -> None:
    """Fill the session's own environment with the locked versions of `selection`, and nothing else."""
    session.run_install(
        *(UV, "sync", "--locked", "--quiet", "--no-default-groups", *selection),
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location, "UV_PYTHON": sys.executable},
        external=True,
    )


def run_integration(session: nox.Session, marked: str) -> None:
    """What has no session of its own, and of that what is `marked`: two runs, for two ways of compiling."""
    elsewhere = ("parity", "ray", "storage", "docs", "pages", "multihost", "test_examples.py")
    ignored = [f"--ignore=tests-integration/{name}" for name in elsewhere]
    tests = [path for path in sorted(ROOT.glob("tests-integration/test_*.py")) if path.name not in elsewhere]
    # The older code generator is quicker for programs compiled lightly, and several times slower for all others.
    lightly = [str(path.relative_to(ROOT)) for path in tests if "lightly_compiled" in path.read_text()]
    fully = ["tests-integration", *(f"--ignore={path}" for path in lightly)]
    for paths, programs in ((lightly, QUICK_PROGRAMS), (fully, {})):
        command = ("pytest", *IN_PARALLEL, "-m", marked, *ignored, *paths, *session.posargs)
        # 5: arguments of the session, or the mark, may leave nothing to one of them.
        may_be_empty = session.posargs or marked == "thorough"
        session.run(*command, env=programs, success_codes=[0, 5] if may_be_empty else [0])


def distribution(wheel: Path) -> str:
    """The distribution's name as its project spells it, from a wheel's file name."""
    return wheel.name.split("-")[0].replace("_", "-")
