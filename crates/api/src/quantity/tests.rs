use super::*;

fn canonical(text: &str) -> String {
    Quantity::parse(text).expect("a good quantity").to_string()
}

#[test]
fn canonical_texts_are_upstreams() {
    for (text, want) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("00", "0"),
        ("100m", "100m"),
        ("0.1", "100m"),
        (".5", "500m"),
        ("5.", "5"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1024", "1024"),
        ("1000", "1k"),
        ("1e3", "1e3"),
        ("1500e0", "1500"),
        ("1E", "1E"),
        ("1E3", "1e3"),
        ("12e-3", "12e-3"),
        ("1Ki", "1Ki"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("0.5Ki", "512"),
        ("1025Ki", "1025Ki"),
        ("-1.5", "-1500m"),
        ("+1", "1"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("100E", "100E"),
        ("1.0000000001", "1000000001n"),
    ] {
        assert_eq!(canonical(text), want, "{text}");
    }
}

#[test]
fn bad_texts_are_told_apart() {
    for (text, want) in [
        ("", ParseError::Form),
        ("1 Gi", ParseError::Form),
        ("1.2.3", ParseError::Form),
        ("--1", ParseError::Suffix),
        ("1x", ParseError::Form),
        ("1ki", ParseError::Suffix),
        ("1e", ParseError::Suffix),
        ("1KiKi", ParseError::Suffix),
        ("Pi", ParseError::Number),
        ("e-10", ParseError::Number),
    ] {
        assert_eq!(Quantity::parse(text), Err(want), "{text}");
    }
}

#[test]
fn values_are_rounded_up() {
    for (text, value, milli) in [
        ("100m", 1, 100),
        ("1001u", 1, 2),
        ("-1500m", -2, -1500),
        ("2Gi", 2_147_483_648, 2_147_483_648_000),
        ("100E", i64::MAX, i64::MAX),
    ] {
        let quantity = Quantity::parse(text).expect("a good quantity");
        assert_eq!((quantity.value(), quantity.milli_value()), (value, milli), "{text}");
    }
}

#[test]
fn order_and_sums_look_at_the_number() {
    let parse = |text| Quantity::parse(text).expect("a good quantity");
    assert_eq!(parse("1Ki"), parse("1024"));
    assert!(parse("999m") < parse("1"));
    assert_eq!(parse("1Gi").plus(parse("512Mi")).to_string(), "1536Mi");
    assert_eq!(parse("0").plus(parse("1Mi")).to_string(), "1Mi");
    assert_eq!(parse("1").minus(parse("100m")).to_string(), "900m");
    assert_eq!(parse("1").minus(parse("2")).sign(), -1);
}

/// Canonical text is a fixed point, and no text makes the parser panic.
#[test]
fn random_texts_parse_to_a_fixed_point_or_fail() {
    let alphabet = b"0123456789.+-eEinumkKMGTP";
    let mut state = 3u64;
    for _ in 0..100_000 {
        let text: String = (0..10)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(alphabet[(state >> 33) as usize % alphabet.len()])
            })
            .collect();
        let text = text.trim_end_matches(|c: char| state & 1 == 0 && c.is_ascii_alphabetic());
        let Ok(quantity) = Quantity::parse(text) else { continue };
        if quantity.nanos.unsigned_abs() < i128::MAX.unsigned_abs() / 2048 {
            let printed = quantity.to_string();
            let again = Quantity::parse(&printed).expect("its own text");
            // A fractional number in binary form is rounded up to a whole one.
            assert!(again == quantity || quantity.format == Format::BinarySi, "{text} {printed}");
            assert_eq!(again.to_string(), printed, "{text}");
        }
    }
}

#[test]
fn plain_texts_are_kept_as_given() {
    for (given, kept) in [
        ("+5", "+5"),
        ("5.", "5."),
        ("1E3", "1E3"),
        ("1e3", "1e3"),
        ("007", "007"),
        ("500.123", "500.123"),
        ("1000", "1k"),
        ("0.1", "100m"),
        (".5", "500m"),
        ("64.5", "64500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("+9Mi", "+9Mi"),
        ("0", "0"),
    ] {
        assert_eq!(Quantity::kept_text(given).as_deref(), Ok(kept), "{given}");
    }
}

#[test]
fn binary_quantities_end_at_the_largest_integer() {
    for (given, printed) in [
        ("10000000000000000000000000Ei", "9223372036854775807"),
        ("-7Ei", "-7Ei"),
        ("-99Ei", "-9223372036854775807"),
        ("0.0001Ki", "102400u"),
        ("0.5Ki", "512"),
    ] {
        assert_eq!(
            Quantity::parse(given).map(|q| q.to_string()).as_deref(),
            Ok(printed),
            "{given}"
        );
    }
}

#[test]
fn binary_quantities_keep_their_fractions() {
    let parse = |text: &str| Quantity::parse(text).expect("a quantity");
    assert_eq!(parse("30Mi").plus(parse("1.5")).to_string(), "31457281500m");
    assert_eq!(parse("30Mi").plus(parse("2")).to_string(), "31457282");
}
