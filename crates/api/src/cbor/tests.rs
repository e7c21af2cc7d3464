use std::path::Path;

use serde_json::json;

use super::*;

#[test]
fn items_have_the_bytes_of_the_standard() {
    for (value, want) in [
        (json!(null), &[0xf6][..]),
        (json!(true), &[0xf5]),
        (json!(23), &[0x17]),
        (json!(24), &[0x18, 24]),
        (json!(1000), &[0x19, 0x03, 0xe8]),
        (json!(1_000_000), &[0x1a, 0, 0x0f, 0x42, 0x40]),
        (json!(-1), &[0x20]),
        (json!(-1000), &[0x39, 0x03, 0xe7]),
        (json!(i64::MIN), &[0x3b, 0x7f, 255, 255, 255, 255, 255, 255, 255]),
        (json!(1.5), &[0xf9, 0x3e, 0]),
        (json!(0.0), &[0xf9, 0, 0]),
        (json!(-0.0), &[0xf9, 0x80, 0]),
        (json!(5.960_464_477_539_063e-8), &[0xf9, 0, 1]),
        (json!(0.000_061_035_156_25), &[0xf9, 4, 0]),
        (json!(65504.0), &[0xf9, 0x7b, 0xff]),
        (json!(100_000.0), &[0xfa, 0x47, 0xc3, 0x50, 0]),
        (json!(1.1), &[0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]),
        (json!("a"), &[0x41, b'a']),
        (json!([1, [2]]), &[0x82, 1, 0x81, 2]),
        (json!({"aa": 1, "b": 2}), &[0xa2, 0x41, b'b', 2, 0x42, b'a', b'a', 1]),
    ] {
        let encoded = encode(&value);
        assert_eq!(encoded[..3], MAGIC);
        assert_eq!(&encoded[3..], want, "{value}");
        assert_eq!(decode(&encoded).expect("its own bytes"), value);
    }
}

#[test]
fn other_spellings_are_read() {
    for (bytes, want) in [
        (&[0x61, b'a'][..], json!("a")),
        (&[0x5f, 0x41, b'a', 0x41, b'b', 0xff], json!("ab")),
        (&[0x9f, 1, 0xff], json!([1])),
        (&[0xbf, 0x61, b'k', 0xf4, 0xff], json!({"k": false})),
        (&[0x18, 1], json!(1)),
        (&[0xd6, 0x42, 1, 2], json!("AQI=")),
        (&[0xd5, 0x42, 0xfb, 0xff], json!("-_8")),
        (&[0xd7, 0x42, 0xab, 1], json!("AB01")),
        (&[0xc1, 0x1a, 0x51, 0x4b, 0x67, 0xb0], json!("2013-03-21T20:04:00Z")),
        (&[0xd8, 99, 1], json!(1)),
        (&[0xf9, 0x3c, 0], json!(1.0)),
    ] {
        assert_eq!(decode(bytes).expect("good CBOR"), want, "{bytes:x?}");
    }
}

#[test]
fn what_json_cannot_say_is_refused() {
    for bytes in [
        &[][..],
        &[0x18],
        &[0x42, b'a'],
        &[0x5b, 255, 255, 255, 255, 255, 255, 255, 255],
        &[0x9b, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1],
        &[0x61, 0xff],
        &[0xa1, 1, 1],
        &[0xa2, 0x41, b'k', 1, 0x61, b'k', 1],
        &[0x1b, 0x80, 0, 0, 0, 0, 0, 0, 0],
        &[0xc2, 0x41, 1],
        &[0xc0, 0x41, b'x'],
        &[0xf7],
        &[0xf8, 32],
        &[0xf9, 0x7c, 0],
        &[0xff],
        &[0x1c],
        &[0x5f, 0x61, b'a', 0xff],
        &[1, 1],
    ] {
        assert!(decode(bytes).is_err(), "{bytes:x?}");
    }
    let deep = [vec![0x81; DEPTH_MAX + 1], vec![1]].concat();
    assert_eq!(decode(&deep), Err(Error::TooDeep));
    let fits = [vec![0x81; DEPTH_MAX], vec![1]].concat();
    assert!(decode(&fits).is_ok());
}

#[test]
fn sequences_need_no_separator() {
    let events = [json!({"kind": "A"}), json!({"kind": "B"})];
    let stream: Vec<u8> = events.iter().flat_map(|event| encode_event("ADDED", event)).collect();
    let read = decode_sequence(&stream).expect("its own bytes");
    let want: Vec<Value> =
        events.iter().map(|event| json!({"type": "ADDED", "object": event})).collect();
    assert_eq!(read, want);
}

#[test]
fn every_kind_survives() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts/api-testdata-v1.36");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    let mut kinds = 0;
    for path in files.map(|entry| entry.expect("a readable folder").path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read(&path).expect("a readable file");
        let value = crate::json::decode(&text).expect("a vector is JSON").value;
        let read = decode(&encode(&value)).expect("its own bytes");
        assert_eq!(read, value, "{}", path.display());
        kinds += 1;
    }
    assert!(kinds > 100, "only {kinds} kinds");
}

/// Cut and changed documents never panic and never ask for more memory than they hold.
#[test]
fn noise_is_an_error_or_a_tree() {
    let object = json!({"kind": "Pod", "metadata": {"name": "a", "labels": {"k": "v"}},
        "spec": {"containers": [{"name": "c", "cpu": 1.25, "count": -7}], "on": true, "none": null}});
    let good = encode(&object);
    for cut in 0..good.len() {
        assert!(decode(&good[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..good.len() {
        for byte in 0..=u8::MAX {
            let mut bad = good.clone();
            bad[at] = byte;
            if let Ok(value) = decode(&bad) {
                assert_eq!(decode(&encode(&value)).as_ref(), Ok(&value));
            }
        }
    }
}
