"""Turning settings into a config dataclass, and what is said about those that do not fit."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest
from easydel.cli.output.errors import CommandError
from easydel.cli.settings.build import build_config
from easydel.cli.settings.tree import Setting, with_overrides
from easydel_models import LoraConfig
from easydel_trainers.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Section:
    rate: float = 0.1
    steps: int | None = None
    kind: Literal["fast", "slow"] = "fast"
    lengths: Sequence[int] | None = None
    ends: tuple[int, int] = (0, 1)
    flag: bool = False

    def __post_init__(self):
        if self.rate <= 0:
            raise ConfigError("rate", self.rate, "a number larger than 0")


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    questions: tuple[str, ...] = ()
    section: Section = field(default_factory=Section)


def build(*overrides):
    return build_config(Whole, with_overrides(Setting({}, "run.yaml"), overrides))


def refused(*overrides):
    with pytest.raises(CommandError) as raised:
        build(*overrides)
    return str(raised.value)


def test_all_types_are_read():
    built = build(
        "name=x",
        "questions=[a, b]",
        "section={rate: 2, steps: 3, kind: slow, lengths: [1, 2], flag: true}",
    )
    assert built == Whole(
        name="x",
        questions=("a", "b"),
        section=Section(rate=2.0, steps=3, kind="slow", lengths=(1, 2), flag=True),
    )
    assert isinstance(built.section.rate, float)


def test_a_section_that_may_be_none_is_read_where_it_is_written():
    @dataclass(frozen=True, kw_only=True)
    class Training:
        lora: LoraConfig | None = None

    def training(text):
        return build_config(Training, with_overrides(Setting({}, "run.yaml"), (text,)))

    assert training("lora={rank: 4, targets: [q_proj]}").lora == LoraConfig(rank=4, targets=("q_proj",))
    assert training("lora=null").lora is None
    for text, words in {
        "lora.rnk=4": "lora.rank",
        "lora.rank=0": "`rank` is 0",
        "lora.rank=high": "`lora.rank` is the text 'high'",
        "lora=8": "`lora` is 8; expected a section",
    }.items():
        with pytest.raises(CommandError, match=words):
            training(text)


def test_what_is_not_set_keeps_its_default():
    assert build("name=x").section == Section()


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001"])
def test_a_number_may_be_written_as_everybody_writes_it(text):
    # YAML 1.1 takes 1e-4, which has no dot, for text.
    assert build("name=x", f"section.rate={text}").section.rate == 1e-4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("section.steps=many", "`section.steps` is the text 'many'; expected a whole number or null."),
        ("section.steps=1.5", "`section.steps` is 1.5; expected a whole number or null."),
        ("section.steps=true", "`section.steps` is true; expected a whole number or null."),
        ("section.rate=true", "`section.rate` is true; expected a number."),
        ("section.rate=quick", "`section.rate` is the text 'quick'; expected a number."),
        (f"section.rate=1{'0' * 400}", f"`section.rate` is 1{'0' * 400}; expected a number."),
        ("section.rate=null", "`section.rate` is null; expected a number."),
        ("section.kind=medium", "`section.kind` is the text 'medium'; expected one of fast, slow."),
        (
            "section.lengths=[1, x]",
            "`section.lengths` is a list; expected a list, each item a whole number or null.",
        ),
        ("section.ends=[1, 2, 3]", "`section.ends` is a list; expected a list of 2, each item a whole number."),
        ("section.flag=1", "`section.flag` is 1; expected true or false."),
        ("section=3", "`section` is 3; expected a section of further keys, for example `section.rate`."),
        ("name=12", "`name` is 12; expected text."),
        ("name={a: 1}", "`name` is a section; expected text."),
        ("section.rate=-1", "`section.rate` is -1.0; expected a number larger than 0."),
    ],
)
def test_a_misfit_names_place_key_value_and_expectation(override, message):
    assert refused("name=x", override) == f"--set {override}: {message}"


@pytest.mark.parametrize(
    ("key", "meant"),
    [("section.stepz", "section.steps"), ("rate", "section.rate"), ("nme", "name"), ("section.name", "name")],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, meant):
    assert refused("name=x", f"{key}=1") == f"--set {key}=1: there is no key `{key}`. Did you mean `{meant}`?"


def test_a_key_like_no_other_points_to_the_help():
    assert refused("name=x", "zzzzzzzzzz=1").endswith("`--help` lists the keys.")


def test_a_required_key_is_asked_for():
    assert refused() == "run.yaml: the key `name` is required and missing."
