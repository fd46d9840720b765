"""Which questions are put to the model before and after training."""

import pytest
from easydel.cli.output.errors import CommandError
from easydel.cli.training.run import questions_of


def test_questions_are_the_users_first_words():
    rows = [
        {"prompt": "as text", "completion": "…"},
        {"prompt": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "as messages"}]},
        {"messages": [{"role": "user", "content": "first"}, {"role": "assistant", "content": "…"}]},
        {"prompt": "never read"},
    ]
    assert questions_of(rows, 3) == ["as text", "as messages", "first"]


def test_rows_without_questions_are_refused_with_a_way_out():
    with pytest.raises(CommandError, match="`preview_questions`"):
        questions_of([{"text": "words"}], 1)
