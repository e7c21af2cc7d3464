//! Reading CBOR. What has no JSON meaning is an error; lengths are never trusted.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::{ARRAY, BYTES, DEPTH_MAX, Error, MAP, NEGATIVE, SIMPLE, TAG, TEXT, UNSIGNED};

/// Tags with a meaning of their own.
const TAG_TIME_TEXT: u64 = 0;
const TAG_TIME_NUMBER: u64 = 1;
const TAG_BIG: std::ops::RangeInclusive<u64> = 2..=3;
const TAG_BASE64_URL: u64 = 21;
const TAG_BASE64: u64 = 22;
const TAG_BASE16: u64 = 23;

/// The code of an indefinite length, and the byte that ends what has one.
const INDEFINITE: u8 = 31;
const BREAK: u8 = 0xff;

/// Decodes one document.
///
/// # Errors
/// When the bytes are not exactly one item that JSON can say.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let mut reader = Reader { bytes, at: 0, depth: 0 };
    let value = reader.item()?;
    match bytes.len() - reader.at {
        0 => Ok(value),
        rest => Err(Error::Trailing(rest, reader.at)),
    }
}

/// Decodes a sequence of documents.
///
/// # Errors
/// When one of them cannot be decoded.
pub fn decode_sequence(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let mut reader = Reader { bytes, at: 0, depth: 0 };
    let mut values = Vec::new();
    while reader.at < bytes.len() {
        values.push(reader.item()?);
    }
    Ok(values)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

/// A head: what follows it and its argument; `None` for an indefinite length.
struct Head {
    major: u8,
    code: u8,
    argument: Option<u64>,
}

impl Head {
    fn definite(&self) -> Result<u64, Error> {
        self.argument.ok_or(Error::Malformed("an indefinite length where there is none"))
    }
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(Error::Truncated)?;
        self.at += length;
        Ok(taken)
    }

    fn head(&mut self) -> Result<Head, Error> {
        let first = self.take(1)?[0];
        let (major, code) = (first >> 5, first & 0x1f);
        let mut long = |length: usize| -> Result<u64, Error> {
            Ok(self.take(length)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        };
        let argument = match code {
            0..24 => Some(u64::from(code)),
            24 => Some(long(1)?),
            25 => Some(long(2)?),
            26 => Some(long(4)?),
            27 => Some(long(8)?),
            INDEFINITE => None,
            _ => return Err(Error::Malformed("a reserved length")),
        };
        Ok(Head { major, code, argument })
    }

    fn item(&mut self) -> Result<Value, Error> {
        let head = self.head()?;
        self.after(&head)
    }

    fn after(&mut self, head: &Head) -> Result<Value, Error> {
        if matches!(head.major, ARRAY | MAP | TAG) {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Error::TooDeep);
            }
        }
        let value = match head.major {
            UNSIGNED => Value::from(signed(head.definite()?)?),
            NEGATIVE => Value::from(!signed(head.definite()?)?),
            BYTES | TEXT => Value::from(self.text(head)?),
            ARRAY => self.array(head)?,
            MAP => self.map(head)?,
            TAG => self.tagged(head.definite()?)?,
            _ => return self.simple(head),
        };
        if matches!(head.major, ARRAY | MAP | TAG) {
            self.depth -= 1;
        }
        Ok(value)
    }

    /// Whether an indefinite container ends here.
    fn at_break(&mut self) -> Result<bool, Error> {
        let next = *self.bytes.get(self.at).ok_or(Error::Truncated)?;
        if next == BREAK {
            self.at += 1;
        }
        Ok(next == BREAK)
    }

    /// Whether a container with this many items read has another one.
    fn more(&mut self, head: &Head, read: usize) -> Result<bool, Error> {
        match head.argument {
            Some(length) => Ok((read as u64) < length),
            None => Ok(!self.at_break()?),
        }
    }

    fn raw(&mut self, head: &Head) -> Result<Vec<u8>, Error> {
        let Some(length) = head.argument else {
            let mut whole = Vec::new();
            while !self.at_break()? {
                let part = self.head()?;
                if part.major != head.major || part.argument.is_none() {
                    return Err(Error::Malformed("a string in parts of another kind"));
                }
                whole.extend(self.raw(&part)?);
            }
            return Ok(whole);
        };
        let length = usize::try_from(length).map_err(|_| Error::Truncated)?;
        Ok(self.take(length)?.to_vec())
    }

    fn text(&mut self, head: &Head) -> Result<String, Error> {
        String::from_utf8(self.raw(head)?).map_err(|_| Error::Malformed("invalid UTF-8 string"))
    }

    fn array(&mut self, head: &Head) -> Result<Value, Error> {
        let mut items = Vec::new();
        while self.more(head, items.len())? {
            items.push(self.item()?);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, head: &Head) -> Result<Value, Error> {
        let mut fields = Map::new();
        while self.more(head, fields.len())? {
            let key = self.head()?;
            if !matches!(key.major, BYTES | TEXT) {
                return Err(Error::NotJson("a map key is no string"));
            }
            let key = self.text(&key)?;
            let value = self.item()?;
            if fields.insert(key.clone(), value).is_some() {
                return Err(Error::DuplicateKey(key));
            }
        }
        Ok(Value::Object(fields))
    }

    fn tagged(&mut self, tag: u64) -> Result<Value, Error> {
        if TAG_BIG.contains(&tag) {
            return Err(Error::NotJson("numbers of any size are not supported"));
        }
        let head = self.head()?;
        match tag {
            TAG_BASE64_URL | TAG_BASE64 | TAG_BASE16 if head.major == BYTES => {
                let raw = self.raw(&head)?;
                Ok(Value::from(match tag {
                    TAG_BASE64 => STANDARD.encode(raw),
                    TAG_BASE64_URL => URL_SAFE_NO_PAD.encode(raw),
                    _ => raw.iter().fold(String::new(), |mut text, byte| {
                        write!(text, "{byte:02X}").expect("writing to a string");
                        text
                    }),
                }))
            }
            TAG_TIME_TEXT | TAG_TIME_NUMBER => {
                let value = self.after(&head)?;
                time(tag, &value).ok_or(Error::NotJson("not a time"))
            }
            _ => self.after(&head),
        }
    }

    fn simple(&mut self, head: &Head) -> Result<Value, Error> {
        let argument = head.argument.ok_or(Error::Malformed("unexpected \"break\" code"))?;
        match head.code {
            20 | 21 => Ok(Value::Bool(head.code == 21)),
            22 => Ok(Value::Null),
            25 => number(f64::from(half(argument as u16))),
            26 => number(f64::from(f32::from_bits(argument as u32))),
            27 => number(f64::from_bits(argument)),
            _ => {
                debug_assert_eq!(head.major, SIMPLE);
                Err(Error::NotJson("a simple value other than false, true and null"))
            }
        }
    }
}

fn signed(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::NotJson("an integer does not fit into int64"))
}

fn number(value: f64) -> Result<Value, Error> {
    Number::from_f64(value).map(Value::Number).ok_or(Error::NotJson("a number is not finite"))
}

/// A time as text, whichever way it was told.
fn time(tag: u64, value: &Value) -> Option<Value> {
    let time: Timestamp = match value {
        Value::String(text) if tag == TAG_TIME_TEXT => {
            return text.parse::<Timestamp>().ok().map(|_| value.clone());
        }
        Value::Number(number) if tag == TAG_TIME_NUMBER => match number.as_i64() {
            Some(seconds) => Timestamp::from_second(seconds).ok()?,
            None => {
                let nanos = (number.as_f64()? * 1e9) as i128;
                Timestamp::from_nanosecond(nanos).ok()?
            }
        },
        _ => return None,
    };
    Some(time.to_string().into())
}

/// IEEE 754 half precision.
fn half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let fraction = u32::from(bits & 0x3ff);
    match exponent {
        0 => {
            let small = fraction as f32 / 16_777_216.0;
            if sign == 0 { small } else { -small }
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}
