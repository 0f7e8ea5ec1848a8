"""Numbers and texts as they are shown."""

import pytest

from monoglot import wording


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (wording.number(0.12345), "0.123"),
        (wording.number(None), "\N{EN DASH}"),
        (wording.signed(0.5), "+0.500"),
        (wording.signed(-0.5), "\N{MINUS SIGN}0.500"),
        (wording.between(-0.01, 0.02), "\N{MINUS SIGN}0.010 to 0.020"),
        (wording.percent(0.834), "83%"),
        (wording.dollars(None), "unknown"),
        (wording.dollars(0.0), "$0.00"),
        (wording.dollars(0.0123456), "$0.012"),
        (wording.dollars(0.00001), "$0.000010"),
        (wording.dollars(0.999), "$1.00"),
        (wording.dollars(1234.5), "$1,234.50"),
        (wording.duration(0.04), "0.0 s"),
        (wording.duration(59.94), "59.9 s"),
        (wording.duration(59.96), "1 min 0 s"),
        (wording.duration(372), "6 min 12 s"),
        (wording.duration(3599.6), "1 h 0 min"),
        (wording.plain(1234567), "1,234,567"),
        (wording.plain(None), "\N{EN DASH}"),
        (wording.plain("$0.21"), "$0.21"),
        (wording.markdown("a|b\nc <i> [x](https://y) _"), r"a\|b c \<i\> \[x\](https:\//y) \_"),
    ],
)  # fmt: skip
def test_wording(shown, expected):
    assert shown == expected
