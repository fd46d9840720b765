"""Curves drawn with characters."""

from easydel.cli.output.curve import draw_curve


def test_a_falling_line_runs_from_the_upper_left_to_the_lower_right():
    # A column holds every row between the value before it and its own, so that the line has no gaps.
    assert draw_curve([1, 2, 3], [2.0, 1.0, 0.0], width=3, height=3, unicode=False) == [
        "2.000 |**",
        "      | **",
        "0.000 |  *",
        "      +---",
        "       1 3",
    ]


def test_braille_packs_two_columns_and_four_rows_into_one_character():
    # 4 dots across and 4 down, a diagonal: dots 1 and (2, 5) to the left, (3, 6) and (7, 8) to the right.
    plot = draw_curve([0, 3], [3.0, 0.0], width=2, height=1)[0]
    assert plot.endswith("⠙⢦")


def test_a_flat_line_and_a_single_point_are_drawn():
    assert any("*" in line for line in draw_curve([1, 2], [5.0, 5.0], width=4, height=3, unicode=False))
    assert any("*" in line for line in draw_curve([7], [5.0], width=4, height=3, unicode=False))


def test_every_line_fits_the_width():
    lines = draw_curve(range(100), [float(i % 7) for i in range(100)], width=40, height=6)
    assert len(lines) == 8
    assert max(len(line) for line in lines) <= 40 + len("6.000 │")
