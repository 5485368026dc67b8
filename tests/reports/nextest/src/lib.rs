//! The source that recorded/nextest.xml was created from.

pub fn price(cents: i64) -> String {
    assert!(cents >= 0, "a price cannot be negative");
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_dollars_and_cents() {
        assert_eq!(price(1234), "12.34");
    }

    #[test]
    fn of_few_cents() {
        assert_eq!(price(5), "0.5");
    }

    #[test]
    fn of_less_than_nothing() {
        price(-1);
    }

    #[test]
    #[ignore = "not yet"]
    fn total() {}
}
