const { price, total } = require("./shop");

describe("price", () => {
  test("of dollars and cents", () => {
    expect(price(1234)).toBe("12.34");
  });

  test("of few cents", () => {
    expect(price(5)).toBe("0.5");
  });

  test("of less than nothing", () => {
    price(-1);
  });
});

test.skip("total", () => {
  expect(total([1])).toBe(1);
});
