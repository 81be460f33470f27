import pytest

from bayestl.report.text import duration, label, number, setting, tick


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0012345, "0.00123"),
        (5.0, "5.00"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (1234, "1,234"),
        (1e-9, "1.00e-09"),
        (0.0, "0"),
        (float("nan"), "–"),
        (None, "–"),
        (float("-inf"), "−∞"),
        (True, "true"),
        ("text", "text"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_ticks_are_round_and_settings_as_typed():
    assert [tick(v) for v in (0.5, 2.0, 1000.0)] == ["0.5", "2", "1,000"]
    assert [setting(v) for v in (None, False, 0.5, 3, "x")] == [
        "not active", "false", "0.5", "3", "x",
    ]  # fmt: skip


def test_duration():
    assert [duration(s) for s in (3.2, 134.0, 3905.0)] == ["3.20 s", "2 min 14 s", "1 h 05 min"]


def test_a_label_is_short_and_printable():
    assert label("a\x00b") == "a\N{REPLACEMENT CHARACTER}b"
    short = label("x" * 20 + "y" * 20)
    assert len(short) == 28
    assert short.startswith("xxx")
    assert short.endswith("yyy")
