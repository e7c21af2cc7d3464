//! Writes JSON as Go does: without blanks, and numbers in digits as long as those are few.
//!
//! upstream: Go's encoding/json floatEncoder

use std::io;

use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// From this on, numbers are written with an exponent.
const LARGE: f64 = 1e21;
/// Below this, too.
const SMALL: f64 = 1e-6;

struct Go;

impl Formatter for Go {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size == 0.0 || (SMALL..LARGE).contains(&size) {
            return write!(writer, "{value}");
        }
        let text = format!("{value:e}");
        match text.split_once("e-") {
            Some(_) => writer.write_all(text.as_bytes()),
            None => writer.write_all(text.replace('e', "e+").as_bytes()),
        }
    }
}

/// Appends a tree as JSON.
pub fn write(out: &mut Vec<u8>, value: &Value) {
    let mut serializer = Serializer::with_formatter(out, Go);
    // A tree has only texts as keys, and memory takes everything.
    let written = serde::Serialize::serialize(value, &mut serializer);
    debug_assert!(written.is_ok(), "a tree encodes into memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (text, want) in [
            ("5.0", "5"),
            ("1.5", "1.5"),
            ("-0.25", "-0.25"),
            ("12345678901234567890123", "1.2345678901234568e+22"),
            ("1e20", "100000000000000000000"),
            ("1e21", "1e+21"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("7", "7"),
            ("18446744073709551615", "18446744073709551615"),
            ("{\"a\":[1.0,\"x\"]}", "{\"a\":[1,\"x\"]}"),
        ] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            let mut out = Vec::new();
            write(&mut out, &value);
            assert_eq!(String::from_utf8(out).expect("text"), want, "{text}");
        }
    }
}
