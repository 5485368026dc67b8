import pytest

import shop


def test_price():
    assert shop.price(1234) == "12.34"


@pytest.mark.parametrize("cents", [5, 50])
def test_small_prices(cents):
    assert shop.price(cents) == "0.5"


def test_negative_price():
    shop.price(-1)


@pytest.fixture
def stock():
    raise RuntimeError("no stock <today> & \"tomorrow\"")


def test_stock(stock):
    pass


@pytest.mark.skip(reason="not yet")
def test_total():
    assert shop.total([1]) == 1
