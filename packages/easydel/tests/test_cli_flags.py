"""Command lines without a config file: plain words and flags, read by the code that reads configs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro
from easydel.cli.output.errors import CommandError
from easydel.cli.settings.command_line import parse_flags


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the command does."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Where from."""
    prompts: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    file: Path | None = None
    kind: Literal["fast", "slow", 3] = "fast"
    temperature: float = 0.0
    most: int = 5
    raw: bool = False


def parsed(*words):
    return parse_flags(Flags, words, command="easydel do")


def test_words_and_flags_may_stand_in_any_order():
    expected = Flags(source="m", prompts=("a b", "c"), most=7, raw=True)
    assert parsed("m", "a b", "c", "--most", "7", "--raw") == expected
    assert parsed("--raw", "m", "--most=7", "a b", "c") == expected
    assert parsed("--most", "7", "--raw", "true", "m", "a b", "c") == expected


def test_behind_two_dashes_all_are_plain_words():
    assert parsed("--raw", "--", "m", "--most", "-x") == Flags(source="m", prompts=("--most", "-x"), raw=True)


def test_a_word_is_read_as_the_type_that_is_wanted():
    flags = parsed("1", "2", "--file", "a/b", "--kind", "3", "--temperature", "1e-1")
    assert flags == Flags(source="1", prompts=("2",), file=Path("a/b"), kind=3, temperature=0.1)
    assert parsed("m", "--file", "None").file is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "`easydel do` wants SOURCE behind it; `easydel do --help` says what that is."),
        (("m", "--kind", "faster"), "--kind: `kind` is the text 'faster'; expected one of fast, slow, 3."),
        (("m", "--most"), "--most: `most` is without a value; expected a whole number."),
        (("m", "--most", "9" * 5000), "--most: `most` is the text '999"),
        (("m", "--mots", "1"), "--mots: there is no such flag. Did you mean `most`?"),
        (("m", "--source", "x"), "--source: there is no such flag."),
    ],
)
def test_what_does_not_fit_is_refused(words, message):
    with pytest.raises(CommandError) as raised:
        parsed(*words)
    assert str(raised.value).startswith(message)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A section of flags that several commands share."""

    top_k: int = 0
    """How many."""
    seed: int = 0


_WIDE = Drawing(top_k=40)


@dataclass(frozen=True, kw_only=True)
class WithSection:
    """Draws."""

    drawing: Annotated[Drawing, tyro.conf.arg(name="")] = _WIDE
    raw: bool = False


def test_flags_of_a_section_stand_beside_the_others_and_keep_the_commands_defaults(capsys):
    def parsed(*words):
        return parse_flags(WithSection, words, command="easydel draw")

    assert parsed("--raw") == WithSection(raw=True)
    assert parsed("--seed", "3") == WithSection(drawing=Drawing(top_k=40, seed=3))
    assert parsed("--top_k", "2", "--raw", "--seed=3") == WithSection(drawing=Drawing(top_k=2, seed=3), raw=True)
    with pytest.raises(CommandError, match="--drawing: there is no such flag"):
        parsed("--drawing", "3")
    with pytest.raises(SystemExit):
        parsed("--help")
    assert "--top_k INT  How many. (default: 40)" in capsys.readouterr().out


def test_one_word_too_many_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class One:
        source: Annotated[str, tyro.conf.Positional]

    with pytest.raises(CommandError, match="`easydel do` does not know what 'b' is for"):
        parse_flags(One, ("a", "b"), command="easydel do")


def test_help_explains_words_and_flags(capsys):
    with pytest.raises(SystemExit) as raised:
        parsed("m", "--help")
    assert raised.value.code == 0
    text = capsys.readouterr().out
    assert "What the command does." in text
    assert "SOURCE" in text
    assert "Where from." in text
    assert "--no_raw" not in text
