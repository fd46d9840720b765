"""SFT, DPO, GRPO and generation beside TRL and transformers, in one run: at float32, and with the peers' own defaults.

    uv run --group demo python benchmarks/against_peers.py --peer PYTHON [--parts sft dpo] [--rounds 3]

PYTHON is an interpreter of an environment of its own with torch and trl (see `peers/`), also taken from the
environment variable `TRL_PYTHON`. Every figure is from a process of its own; in each round ours and theirs take turns,
and the median of the rounds counts. The peers' default is bf16=True, beside which ours computes in bfloat16 too (in
float32 on a CPU without instructions for bfloat16, unless EASYDEL_CPU_BFLOAT16 says otherwise). SFT is measured with
everything recomputed, the default of both, and ours also with matrix products kept, `gradient_checkpointing: dots`.

Ours runs in the environment that the command `easydel` gives itself, which asks Linux for large pages of memory; theirs
in the one that there is. `--huge-pages both` gives it to both, `none` to neither.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from easydel.cli.huge_pages import asking_environment, glibc_version, page_policy

HERE = Path(__file__).parent
PRECISIONS = {"float32": "float32", "default": "bfloat16"}  # theirs: ours
Figures = dict[str, float]


def main() -> None:
    options = parse()
    if not options.peer:
        sys.exit("no peer: name an interpreter that can import trl with --peer, or in TRL_PYTHON")
    show_machine(options.peer)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(options, Path(folder))
        for part in options.parts:
            for precision in PRECISIONS:
                rounds = [PARTS[part](work, precision) for _ in range(options.rounds)]
                for name in rounds[0]:
                    show(f"{part} {name}", precision, [one[name] for one in rounds])


class Work:
    """What every part needs: options, model and rows on disk, how a process is asked for its figures."""

    def __init__(self, options: argparse.Namespace, folder: Path):
        from preference import model_folder, realistic_pairs

        self.options, self.steps = options, str(options.steps)
        self.models = {dtype: model_folder(folder / dtype, dtype) for dtype in PRECISIONS.values()}
        self.model = self.models["float32"]
        self.pairs = options.pairs or realistic_pairs(folder / "pairs.jsonl")
        self.chats = options.chats or demo_chats(folder / "chats.jsonl")
        self.problems = demo_problems(folder / "problems.jsonl")
        plain = dict(os.environ)
        asked = asking_environment(plain, policy=page_policy(), glibc=glibc_version()) or plain
        self._our_environment = plain if options.huge_pages == "none" else asked
        self._their_environment = asked if options.huge_pages == "both" else plain

    def ours(self, script: str, *arguments: str) -> Figures:
        return figures([sys.executable, str(HERE / script), *arguments], self._our_environment)

    def theirs(self, script: str, *arguments: str) -> Figures:
        return figures([self.options.peer, str(HERE / "peers" / script), *arguments], self._their_environment)


def sft(work: Work, precision: str) -> dict[str, tuple[float, float]]:
    rows = ("--rows", work.chats, "--steps", work.steps)
    theirs = work.theirs("trl_sft_step.py", "--model", work.model, *rows, "--precision", precision)
    found = {}
    for remat in ("full", "dots"):
        ours = work.ours("sft_step.py", *rows, "--dtype", PRECISIONS[precision], "--remat", remat)
        found[f"{remat}, tokens/s"] = (ours["real tokens/s"], theirs["real tokens/s"])
        found[f"{remat}, peak GB"] = (ours["peak memory GB"], theirs["peak memory GB"])
    return found


def dpo(work: Work, precision: str) -> dict[str, tuple[float, float]]:
    rows = ("--model", work.model, "--rows", work.pairs, "--steps", work.steps)
    ours = work.ours("preference.py", "--part", "steps", *rows, "--dtype", PRECISIONS[precision])
    theirs = work.theirs("trl_preference.py", *rows, "--prepared", "64", "--precision", precision)
    return {
        "pairs/s": (ours["pairs/s"], theirs["pairs/s"]),
        "peak GB": (ours["peak memory GB"], theirs["peak memory GB"]),
    }


def grpo(work: Work, precision: str) -> dict[str, tuple[float, float]]:
    sizes = ("--steps", work.steps, "--completions", "8", "--length", "64")
    found: dict = work.ours("grpo.py", "--peer", "", *sizes, "--dtype", PRECISIONS[precision])
    ours, rows = found["ours"], ("--model", work.model, "--rows", work.problems)
    theirs = work.theirs("trl_grpo.py", *rows, *sizes, "--precision", precision)
    return {
        "steps/min": (60 / ours["seconds"], 60 / theirs["seconds"]),
        "peak GB": (ours["peak GB"], theirs["peak GB"]),
    }


def generate(work: Work, precision: str) -> dict[str, tuple[float, float]]:
    from generate import prompts_of

    found, new = {}, ("--new-tokens", "64")
    for batch in (1, 16, 64):
        model = ("--model", work.models[PRECISIONS[precision]])
        ours = work.ours("generate.py", "--only", str(batch), *new, *model, "--dtype", PRECISIONS[precision])
        with tempfile.NamedTemporaryFile("w", suffix=".json") as prompts:
            json.dump({batch: prompts_of(batch, 64)}, prompts)
            prompts.flush()
            theirs = work.theirs("hf_generate.py", *model, "--prompts", prompts.name, *new, "--precision", precision)
        found[f"{batch}, tokens/s"] = (ours["tokens_per_second"], theirs["tokens_per_second"])
        found[f"{batch}, peak GB"] = (ours["peak_gb"], theirs["peak_gb"])
    return found


PARTS: dict[str, Callable[[Work, str], dict[str, tuple[float, float]]]] = {
    "sft": sft,
    "dpo": dpo,
    "grpo": grpo,
    "generate": generate,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shared_arguments(parser, PARTS)
    parser.add_argument("--steps", type=int, default=8, help="of each training")
    parser.add_argument("--huge-pages", default="ours", choices=("ours", "both", "none"), help="who runs with them")
    parser.add_argument("--pairs", help="rows of `prompt`, `chosen`, `rejected`; default: made from the demo's")
    return parser.parse_args()


def add_shared_arguments(parser: argparse.ArgumentParser, parts: Collection[str]) -> None:
    """What every script that can have a peer is asked."""
    parser.add_argument("--peer", default=os.environ.get("TRL_PYTHON"), help="interpreter that can import trl")
    parser.add_argument("--parts", nargs="+", default=list(parts), choices=list(parts))
    parser.add_argument("--rounds", type=int, default=1, help="the median counts")
    parser.add_argument("--chats", help="rows of `messages`; default: made from the demo's")


def figures(command: list[str], environment: dict[str, str] | None = None) -> Figures:
    """What a script prints as JSON, behind whatever else it prints."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-4000:]}")
    lines = done.stdout.splitlines()
    first = max(number for number, line in enumerate(lines) if line.startswith("{"))
    return json.loads("\n".join(lines[first:]))


def show(what: str, precision: str, rounds: list[tuple[float, float]]) -> None:
    """Medians of ours, theirs and of the rounds' ratios."""
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(mine / its for mine, its in rounds)
    types = f"{PRECISIONS[precision]} / {precision}"
    print(f"{what:26} {types:20} ours {ours:8.2f}   theirs {theirs:8.2f}   ratio {ratio:6.2f}", flush=True)


def show_machine(peer: str) -> None:
    import jax
    from easydel_models.cpu_bfloat16 import why_not

    report = "import torch, transformers, trl; print(torch.__version__, transformers.__version__, trl.__version__)"
    versions = subprocess.run([peer, "-c", report], check=True, capture_output=True, text=True).stdout.split()
    print(f"{os.cpu_count()} cores; bfloat16: {why_not() or 'instructions'}; jax {jax.__version__}", end="; ")
    print("torch {}, transformers {}, trl {}".format(*versions[-3:]), flush=True)


def demo_chats(path: Path, rows: int = 400) -> str:
    """Questions and answers of the demo, as conversations."""
    from itertools import islice

    from easydel.demo import python_docs_rows

    with path.open("w", encoding="utf-8") as file:
        for row in islice(python_docs_rows("train"), rows):
            print(json.dumps({"messages": [*row["prompt"], *row["completion"]]}), file=file)
    return str(path)


def demo_problems(path: Path) -> str:
    """Sums of the demo, which rewards are given for."""
    from easydel.demo.arithmetic import arithmetic_rows

    path.write_text("".join(json.dumps(row) + "\n" for row in arithmetic_rows("train")), encoding="utf-8")
    return str(path)


if __name__ == "__main__":
    main()
