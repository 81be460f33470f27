import dataclasses

import pytest

from bayestl.report.theme import DARK, LIGHT, contrast


def test_contrast_is_that_of_the_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_text_and_marks_stand_out_from_the_ground(theme):
    for ground in (theme.ground, theme.panel):
        for text in (theme.ink, theme.muted, theme.accent, theme.good, theme.bad):
            assert contrast(text, ground) >= 4.5
    for colour in theme.series:
        assert contrast(colour, theme.ground) >= 3


def test_themes_have_the_same_number_of_series():
    assert len(LIGHT.series) == len(DARK.series)
    assert dataclasses.astuple(LIGHT) != dataclasses.astuple(DARK)
