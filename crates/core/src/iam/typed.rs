//! Typed values in conditions.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::net::IpAddr;

/// The type of an operator's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConditionType {
    Bool,
    Number,
    Date,
    Address,
    Binary,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TypedValue {
    Bool(bool),
    Number(f64),
    Date(Timestamp),
    /// An address, and the number of bits that count.
    Net(IpAddr, u8),
    /// In base64.
    Binary(String),
}

impl ConditionType {
    /// What its values are called, for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            ConditionType::Bool => "true or false",
            ConditionType::Number => "a number",
            ConditionType::Date => "a time in ISO 8601 or seconds since 1970",
            ConditionType::Address => "an address or a range such as 10.0.0.0/8",
            ConditionType::Binary => "base64",
        }
    }

    pub(super) fn parse(self, text: &str) -> Option<TypedValue> {
        match self {
            ConditionType::Bool if text.eq_ignore_ascii_case("true") => {
                Some(TypedValue::Bool(true))
            }
            ConditionType::Bool if text.eq_ignore_ascii_case("false") => {
                Some(TypedValue::Bool(false))
            }
            ConditionType::Bool => None,
            ConditionType::Number => number(text).map(TypedValue::Number),
            ConditionType::Date => date(text).map(TypedValue::Date),
            ConditionType::Address => {
                net(text).map(|(address, bits)| TypedValue::Net(address, bits))
            }
            ConditionType::Binary => {
                let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
                let is_whole = text.len().is_multiple_of(4) && text.chars().all(is_base64);
                is_whole.then(|| TypedValue::Binary(text.to_owned()))
            }
        }
    }
}

/// Parses a number, but not Rust's `nan` and `inf`.
fn number(text: &str) -> Option<f64> {
    let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let number: f64 = text.chars().all(is_part).then(|| text.parse().ok())??;
    number.is_finite().then_some(number)
}

fn date(text: &str) -> Option<Timestamp> {
    if let Some(seconds) = number(text) {
        // Any date that a calendar covers fits into whole milliseconds.
        return Timestamp::from_millisecond((seconds * 1000.0) as i64).ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let day: Date = (text.len() == 10).then(|| text.parse().ok())??;
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn net(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(bits) if bits.chars().all(|c| c.is_ascii_digit()) => bits.parse().ok()?,
        Some(_) => return None,
    };
    (bits <= most).then_some((address, bits))
}

/// Whether an address or a range lies in a range.
pub(super) fn lies_in((inner, inner_bits): (IpAddr, u8), (outer, bits): (IpAddr, u8)) -> bool {
    let (inner, outer) = match (inner, outer) {
        (IpAddr::V4(inner), IpAddr::V4(outer)) => {
            (u128::from(inner.to_bits()) << 96, u128::from(outer.to_bits()) << 96)
        }
        (IpAddr::V6(inner), IpAddr::V6(outer)) => (inner.to_bits(), outer.to_bits()),
        _ => return false,
    };
    // A shift by all 128 bits returns `None`.
    let differ = (inner ^ outer).checked_shr(128 - u32::from(bits)).unwrap_or(0);
    inner_bits >= bits && differ == 0
}
