"""Rows made from docstrings: which, how they read, and that the splits do not touch."""

import textwrap

import pytest
from easydel.demo.python_docs import python_docs_rows

LIBRARY = {
    "shapes.py": '''
        """Plane figures and what one wants to know about them.

        >>> area(1)
        """

        def area(radius: float, *, unit: str = "m") -> float:
            """Return the area of a circle.

            The result is in squares
            of the unit.

            - a list is not prose
            """

        def _hidden():
            """Nobody should read this in any case at all."""

        def short():
            """Too short."""

        class Square:
            """A figure of four equal sides and four equal angles."""

            def __init__(self, side):
                """Make a square of the given side, which is never read."""

            def grow(self, by, /, times=1):
                """Make the square larger by a length, n times."""

            @staticmethod
            def unit_square(side):
                """Return the square whose side is one unit of length."""
    ''',
    "copy_of_shapes.py": '''
        def area(radius):
            """Return the area of a circle.

            The result is in squares of the unit.
            """
    ''',
    "_private.py": '"""A module that nobody is meant to import by name."""',
    "test/test_shapes.py": '"""Tests of plane figures, which are not the library."""',
    "broken.py": "def (",
}


@pytest.fixture
def library(tmp_path):
    for name, text in LIBRARY.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return tmp_path


def pairs(rows):
    return {row["prompt"][0]["content"]: row["completion"][0]["content"] for row in rows}


def test_public_names_with_prose_become_questions(library):
    rows = python_docs_rows("train", library=library) + python_docs_rows("held-out", library=library)
    # `copy_of_shapes.area` comes first by name, and the same explanation is not given twice.
    assert pairs(rows) == {
        "What is the module `shapes` for in Python?": (
            "`shapes`: Plane figures and what one wants to know about them."
        ),
        "What does the function `copy_of_shapes.area` do in Python?": (
            "`copy_of_shapes.area(radius)`: Return the area of a circle. The result is in squares of the unit."
        ),
        "What is the class `shapes.Square` for in Python?": (
            "`shapes.Square`: A figure of four equal sides and four equal angles."
        ),
        "What does the method `shapes.Square.grow` do in Python?": (
            "`shapes.Square.grow(by, /, times=1)`: Make the square larger by a length, n times."
        ),
        "What does the method `shapes.Square.unit_square` do in Python?": (
            "`shapes.Square.unit_square(side)`: Return the square whose side is one unit of length."
        ),
    }


def test_signatures_have_names_and_defaults_but_no_types(tmp_path):
    signature = 'area(radius: float, *, unit: str = "m") -> float'
    (tmp_path / "one.py").write_text(f'def {signature}:\n    """Return the area of a round figure."""\n')
    rows = python_docs_rows("train", library=tmp_path) + python_docs_rows("held-out", library=tmp_path)
    assert list(pairs(rows).values()) == ["`one.area(radius, *, unit='m')`: Return the area of a round figure."]


def test_this_pythons_library_gives_thousands_of_rows_and_separate_splits():
    train, held_out = python_docs_rows("train"), python_docs_rows("held-out")
    assert len(train) > 2000
    assert len(held_out) > 64
    questions, answers = pairs(train), pairs(held_out)
    assert len(questions) == len(train)
    assert len(answers) == len(held_out)
    assert not questions.keys() & answers.keys()
    explanations = {answer.partition("`: ")[2] for answer in questions.values()}
    assert not explanations & {answer.partition("`: ")[2] for answer in answers.values()}
