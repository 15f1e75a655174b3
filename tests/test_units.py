import pytest

from wavelit.model.units import same_unit


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("m s-1", "m s**-1"),
        ("m s^-1", "m/s"),
        ("kg m-3", "m^-3.kg"),
        ("m m", "m2"),
        ("1/s", "s-1"),
        ("10 m", "10  m"),
        ("°C", " °C"),
        ("", ""),
    ],
)
def test_spellings_of_one_unit(one, other):
    assert same_unit(one, other)
    assert same_unit(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("m s-1", "ms-1"),
        ("m m", "mm"),
        ("m", "km"),
        ("Pa", "pA"),
        ("m s-1", "m s-2"),
        ("m/s", "m s"),
        ("10 m", "100 m"),
        ("", "m"),
    ],
)
def test_other_units(one, other):
    assert not same_unit(one, other)
    assert not same_unit(other, one)
