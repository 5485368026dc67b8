function price(cents) {
  if (cents < 0) {
    throw new Error("a price cannot be negative");
  }
  return (cents / 100).toFixed(2);
}

function total(prices) {
  return prices.reduce((sum, price) => sum + price, 0);
}

module.exports = { price, total };
