"""The README's promises that can be held to account without running for minutes."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def first_commands():
    return re.search(r"```sh\n(.*?)```", README, re.DOTALL)[1].splitlines()


def test_the_first_code_block_is_all_the_set_up_there_is():
    fence = re.search(r"```(\w+)", README)
    assert fence[1] == "sh"
    assert first_commands() == [
        "pip install uv && uv run --group demo easydel sft examples/smollm2_sft.yaml",
        "uv run nox",
    ]


def test_continuous_integration_runs_the_readmes_test_command():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == first_commands()[1]


def test_every_path_of_the_file_map_exists():
    linked = re.findall(r"\]\(([^)#]+)\)", README)
    assert linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_every_package_is_on_the_file_map():
    for pyproject in ROOT.glob("packages/*/pyproject.toml"):
        assert f"(packages/{pyproject.parent.name})" in README
