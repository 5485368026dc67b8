//! Bodies of `rpc-v2-cbor`: converts CBOR to JSON values and back.
//!
//! The operations in `crates/serve/src/aws` use JSON values only, so this is the only place that
//! knows the other encoding. Input from clients is untrusted: its nesting is limited, and in memory
//! it takes at most a small multiple of its bytes.

use minicbor::data::{Int, Tag, Type};
use minicbor::{Decoder, Encoder};
use serde_json::{Map, Number, Value};

/// Maximum nesting of arrays and maps.
const MAX_DEPTH: usize = 32;
/// CBOR tag of a time in seconds since 1970.
const EPOCH: u64 = 1;

/// Why a body cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not CBOR that this service accepts: {0}")]
pub struct CborError(String);

impl CborError {
    fn new(reason: impl std::fmt::Display) -> Self {
        CborError(reason.to_string())
    }
}

/// Decodes a body. An empty body is an empty map.
///
/// # Errors
/// The body is not CBOR, goes on after its end, is nested too deeply, or contains something that
/// JSON cannot express.
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let mut decoder = Decoder::new(bytes);
    let value = value(&mut decoder, bytes, MAX_DEPTH)?;
    if decoder.position() < bytes.len() {
        return Err(CborError::new("bytes behind its end"));
    }
    Ok(value)
}

fn value(decoder: &mut Decoder<'_>, bytes: &[u8], depth: usize) -> Result<Value, CborError> {
    let depth = depth.checked_sub(1).ok_or_else(|| CborError::new("it is too deep"))?;
    let failed = |error: minicbor::decode::Error| CborError::new(error);
    Ok(match decoder.datatype().map_err(failed)? {
        Type::Null | Type::Undefined => {
            decoder.skip().map_err(failed)?;
            Value::Null
        }
        Type::Bool => decoder.bool().map_err(failed)?.into(),
        Type::U8
        | Type::U16
        | Type::U32
        | Type::U64
        | Type::I8
        | Type::I16
        | Type::I32
        | Type::I64
        | Type::Int => integer(decoder.int().map_err(failed)?)?,
        Type::F16 => {
            let at = decoder.position();
            let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
                return Err(CborError::new("a number cut short"));
            };
            let number = half_float(u16::from_be_bytes([high, low]));
            decoder.set_position(at + 3);
            float(number)?
        }
        Type::F32 => float(decoder.f32().map_err(failed)?.into())?,
        Type::F64 => float(decoder.f64().map_err(failed)?)?,
        Type::String | Type::StringIndef => Value::String(text(decoder)?),
        Type::Tag => {
            // A time is a plain number here, as in JSON.
            decoder.tag().map_err(failed)?;
            value(decoder, bytes, depth)?
        }
        Type::Array | Type::ArrayIndef => {
            let length = decoder.array().map_err(failed)?;
            let mut items = Vec::new();
            while goes_on(decoder, length, items.len())? {
                items.push(value(decoder, bytes, depth)?);
            }
            Value::Array(items)
        }
        Type::Map | Type::MapIndef => {
            let length = decoder.map().map_err(failed)?;
            let mut fields = Map::new();
            let mut count = 0;
            while goes_on(decoder, length, count)? {
                let key = text(decoder)?;
                fields.insert(key, value(decoder, bytes, depth)?);
                count += 1;
            }
            Value::Object(fields)
        }
        other => return Err(CborError(format!("a {other} has no place in it"))),
    })
}

/// Whether an array or map has another item. Also takes the end mark of one without a length.
fn goes_on(decoder: &mut Decoder<'_>, length: Option<u64>, seen: usize) -> Result<bool, CborError> {
    if let Some(length) = length {
        return Ok((seen as u64) < length);
    }
    let is_over = decoder.datatype().map_err(CborError::new)? == Type::Break;
    if is_over {
        decoder.skip().map_err(CborError::new)?;
    }
    Ok(!is_over)
}

fn text(decoder: &mut Decoder<'_>) -> Result<String, CborError> {
    let mut text = String::new();
    for part in decoder.str_iter().map_err(CborError::new)? {
        text.push_str(part.map_err(CborError::new)?);
    }
    Ok(text)
}

fn integer(int: Int) -> Result<Value, CborError> {
    let out_of_range = |_| CborError::new("a number that is too large");
    match u64::try_from(int) {
        Ok(number) => Ok(number.into()),
        Err(_) => i64::try_from(int).map(Value::from).map_err(out_of_range),
    }
}

fn float(number: f64) -> Result<Value, CborError> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| CborError::new("no number"))
}

fn half_float(half: u16) -> f64 {
    let fraction = f64::from(half & 0x3ff);
    let magnitude = match half >> 10 & 0x1f {
        0 => fraction * 2f64.powi(-24),
        0x1f if half & 0x3ff == 0 => f64::INFINITY,
        0x1f => f64::NAN,
        exponent => (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(exponent) - 15),
    };
    if half & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// Encodes a body. Numbers in fields selected by `is_time` are tagged as times.
#[must_use]
pub fn encode(value: &Value, is_time: fn(&str) -> bool) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    // Writing to a Vec cannot fail.
    let _ = write(&mut encoder, value, false, is_time);
    encoder.into_writer()
}

type EncodeResult = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn write(
    encoder: &mut Encoder<Vec<u8>>,
    value: &Value,
    is_a_time: bool,
    is_time: fn(&str) -> bool,
) -> EncodeResult {
    match value {
        Value::Null => drop(encoder.null()?),
        Value::Bool(flag) => drop(encoder.bool(*flag)?),
        Value::String(text) => drop(encoder.str(text)?),
        Value::Number(number) if is_a_time => {
            encoder.tag(Tag::new(EPOCH))?.f64(number.as_f64().unwrap_or_default())?;
        }
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => drop(encoder.u64(number)?),
            (None, Some(number)) => drop(encoder.i64(number)?),
            (None, None) => drop(encoder.f64(number.as_f64().unwrap_or_default())?),
        },
        Value::Array(items) => {
            encoder.array(items.len() as u64)?;
            for item in items {
                write(encoder, item, is_a_time, is_time)?;
            }
        }
        Value::Object(fields) => {
            encoder.map(fields.len() as u64)?;
            for (name, field) in fields {
                encoder.str(name)?;
                write(encoder, field, is_time(name), is_time)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn no_times(_: &str) -> bool {
        false
    }

    #[test]
    fn what_is_written_is_read_again() {
        let value = json!({
            "ids": ["a:1", "ü"], "n": 3, "minus": -70_000, "big": u64::MAX, "half": 0.5,
            "none": null, "yes": true, "deep": {"er": [[], {}]}
        });
        assert_eq!(decode(&encode(&value, no_times)), Ok(value));
        assert_eq!(decode(b""), Ok(json!({})));
    }

    #[test]
    fn times_are_marked() {
        let bytes = encode(&json!({"startTime": 1.5}), |name| name.ends_with("Time"));
        assert_eq!(bytes[1..], *b"\x69startTime\xc1\xfb\x3f\xf8\0\0\0\0\0\0");
        assert_eq!(decode(&bytes), Ok(json!({"startTime": 1.5})));
    }

    #[test]
    fn forms_that_others_write() {
        // Indefinite lengths, a text in parts, and half-precision numbers.
        assert_eq!(decode(b"\xbf\x61a\x9f\x01\x20\xff\xff"), Ok(json!({"a": [1, -1]})));
        assert_eq!(decode(b"\xa1\x61a\x7f\x61x\x61y\xff"), Ok(json!({"a": "xy"})));
        assert_eq!(decode(b"\xf9\x3c\x00"), Ok(json!(1.0)));
        assert_eq!(decode(b"\xf9\xc4\x00"), Ok(json!(-4.0)));
    }

    #[test]
    fn nonsense_is_an_error() {
        let deep = [vec![0x81; 10_000], vec![0]].concat();
        for bad in [
            &b"\xff"[..],
            b"\xa1",
            b"\x00\x00",
            b"\x41x",
            b"\xa1\x01\x01",
            b"\xf9\x7e\x00",
            b"\xf9\x7e",
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x62\xff\xfe",
            &deep,
        ] {
            assert!(decode(bad).is_err(), "{:x?}", &bad[..bad.len().min(9)]);
        }
    }
}
