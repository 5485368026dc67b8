def price(cents):
    if cents < 0:
        raise ValueError("a price cannot be negative")
    return f"{cents // 100}.{cents % 100:02}"


def total(prices):
    return sum(prices)
