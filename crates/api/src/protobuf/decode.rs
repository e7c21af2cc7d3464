//! Messages to trees.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::Error;
use super::wire::{Field as Wire, Reader};
use crate::schema::{Field, Scalar, Shape, Type, Union};

/// Deepest nesting of messages.
const DEPTH_MAX: usize = 100;

/// Decodes a message of a type. Zero values of fields that Go leaves out of JSON are left out.
pub fn decode(ty: &'static Type, bytes: &[u8]) -> Result<Value, Error> {
    let mut fields = Map::new();
    message(ty, bytes, &mut fields, 0)?;
    Ok(Value::Object(fields))
}

fn message(
    ty: &'static Type,
    bytes: &[u8],
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::Malformed("the message is nested too deeply"));
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        let Some(field) = ty.fields.iter().find(|f| f.proto_number == number) else { continue };
        if field.inline {
            let inner = field.shape.as_struct().expect("only structs are inlined");
            message(inner, wire.bytes()?, into, depth + 1)?;
            continue;
        }
        match Union::of(ty, field) {
            Some(Union::Names) => {
                let (key, value) = schema_or_names(ty, wire.bytes()?, depth)?;
                let map = into.entry(field.json_name).or_insert_with(|| Value::Object(Map::new()));
                map.as_object_mut().expect("made as a map").insert(key, value);
            }
            Some(union) => {
                let value = schema_or(ty, union, wire.bytes()?, depth)?;
                into.insert(field.json_name.to_owned(), value);
            }
            None if field.is_boxed() => {
                into.insert(field.json_name.to_owned(), one(field.shape, &wire, depth)?);
            }
            None => take(field, &wire, into, depth)?,
        }
    }
    Ok(())
}

/// A schema, a list of schemas or a boolean.
fn schema_or(ty: &'static Type, union: Union, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let (mut schema, mut schemas, mut flag) = (None, Vec::new(), false);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (union, number) {
            (Union::Bool, 1) => flag = wire.int()? != 0,
            (Union::Schemas, 1) | (Union::Bool, 2) => {
                schema = Some(nested(ty, wire.bytes()?, depth)?);
            }
            (Union::Schemas, 2) => schemas.push(nested(ty, wire.bytes()?, depth)?),
            _ => {}
        }
    }
    Ok(match (union, schema) {
        (Union::Schemas, _) if !schemas.is_empty() => Value::Array(schemas),
        (_, Some(schema)) => schema,
        (Union::Bool, None) => flag.into(),
        (_, None) => Value::Null,
    })
}

/// One entry of a map to schemas or lists of names.
fn schema_or_names(
    ty: &'static Type,
    bytes: &[u8],
    depth: usize,
) -> Result<(String, Value), Error> {
    let (mut key, mut value) = (String::new(), &[][..]);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => key = wire.text()?.to_owned(),
            2 => value = wire.bytes()?,
            _ => {}
        }
    }
    let (mut schema, mut names) = (Value::Null, Vec::new());
    let mut reader = Reader::new(value);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => schema = nested(ty, wire.bytes()?, depth)?,
            2 => names.push(Value::from(wire.text()?)),
            _ => {}
        }
    }
    Ok((key, if names.is_empty() { schema } else { Value::Array(names) }))
}

fn nested(ty: &'static Type, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    let mut fields = Map::new();
    message(ty, bytes, &mut fields, depth + 1)?;
    Ok(Value::Object(fields))
}

/// Adds one occurrence of a field to the tree.
fn take(
    field: &Field,
    wire: &Wire<'_>,
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    let name = field.json_name;
    match field.shape {
        Shape::List(_) => {
            let item = field.shape.item().expect("a list");
            let list = into.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let list = list.as_array_mut().expect("made as a list");
            if let (Wire::Bytes(packed), Shape::Scalar(Scalar::Int32 | Scalar::Int64)) =
                (wire, item)
            {
                let mut reader = Reader::new(packed);
                while !reader.is_empty() {
                    list.push((reader.varint()? as i64).into());
                }
                return Ok(());
            }
            list.push(one(item, wire, depth)?);
        }
        Shape::Map(_) => {
            let item = field.shape.item().expect("a map");
            let (key, value) = entry(item, wire.bytes()?, depth)?;
            let map = into.entry(name).or_insert_with(|| Value::Object(Map::new()));
            map.as_object_mut().expect("made as a map").insert(key, value);
        }
        // Later occurrences of a message add to the first.
        Shape::Struct(_) if into.get(name).is_some_and(Value::is_object) => {
            let ty = field.shape.as_struct().expect("a struct");
            if let Some(Value::Object(fields)) = into.get_mut(name) {
                message(ty, wire.bytes()?, fields, depth + 1)?;
            }
        }
        shape => {
            let value = one(shape, wire, depth)?;
            let zero = match &value {
                Value::Null => true,
                Value::Bool(flag) => !flag,
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::String(text) => text.is_empty(),
                _ => false,
            };
            // An omitted zero is what Go would write; pointers keep what was given.
            let omitted = field.omitempty && !field.pointer && !special(shape);
            if !(value.is_null() || zero && omitted) {
                into.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Whether a scalar is a struct in Go, which is never left out of JSON.
fn special(shape: Shape) -> bool {
    matches!(shape, Shape::Scalar(Scalar::IntOrString | Scalar::Quantity | Scalar::Duration))
}

fn entry(item: Shape, bytes: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let mut key = String::new();
    let mut value = None;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match number {
            1 => key = wire.text()?.to_owned(),
            2 => value = Some(one(item, &wire, depth)?),
            _ => {}
        }
    }
    let value = match (value, item) {
        (Some(value), _) => value,
        (None, Shape::Scalar(Scalar::String | Scalar::Bytes)) => "".into(),
        (None, Shape::Struct(_)) => Value::Object(Map::new()),
        (None, _) => Value::Null,
    };
    Ok((key, value))
}

/// One value. A list here is an item of a list or map: a message with its items in field 1.
fn one(shape: Shape, wire: &Wire<'_>, depth: usize) -> Result<Value, Error> {
    match shape {
        Shape::Struct(_) => {
            let mut fields = Map::new();
            let ty = shape.as_struct().expect("a struct");
            message(ty, wire.bytes()?, &mut fields, depth + 1)?;
            Ok(Value::Object(fields))
        }
        Shape::List(_) => {
            let item = shape.item().expect("a list");
            let mut items = Vec::new();
            let mut reader = Reader::new(wire.bytes()?);
            while let Some((number, wire)) = reader.next()? {
                if number == 1 {
                    items.push(one(item, &wire, depth + 1)?);
                }
            }
            Ok(Value::Array(items))
        }
        Shape::Map(_) => Err(Error::Malformed("a map inside a list or map")),
        Shape::Scalar(scalar) => scalar_value(scalar, wire),
    }
}

fn scalar_value(scalar: Scalar, wire: &Wire<'_>) -> Result<Value, Error> {
    Ok(match scalar {
        Scalar::String => wire.text()?.into(),
        Scalar::Bool => (wire.int()? != 0).into(),
        Scalar::Int32 | Scalar::Int64 => wire.int()?.into(),
        Scalar::Float64 => match wire {
            Wire::Fixed64(bits) => f64::from_bits(*bits).into(),
            Wire::Fixed32(bits) => f64::from(f32::from_bits(*bits)).into(),
            _ => return Err(Error::Malformed("a double is expected")),
        },
        Scalar::Bytes => base64::engine::general_purpose::STANDARD.encode(wire.bytes()?).into(),
        Scalar::Time | Scalar::MicroTime => time(scalar, wire.bytes()?)?,
        Scalar::Duration => {
            let [nanos, _] = numbers(wire.bytes()?)?;
            crate::duration::print(nanos).into()
        }
        Scalar::Quantity => {
            let mut text = "0";
            let mut reader = Reader::new(wire.bytes()?);
            while let Some((number, field)) = reader.next()? {
                if number == 1 {
                    text = field.text()?;
                }
            }
            if text.is_empty() { "0".into() } else { text.into() }
        }
        Scalar::IntOrString => {
            let [is_text, number] = numbers(wire.bytes()?)?;
            let mut text = "";
            let mut reader = Reader::new(wire.bytes()?);
            while let Some((number, field)) = reader.next()? {
                if number == 3 {
                    text = field.text()?;
                }
            }
            if is_text == 1 { text.into() } else { number.into() }
        }
        Scalar::RawExtension | Scalar::FieldsV1 | Scalar::Json => {
            let mut raw = &[][..];
            let mut reader = Reader::new(wire.bytes()?);
            while let Some((number, field)) = reader.next()? {
                if number == 1 {
                    raw = field.bytes()?;
                }
            }
            if raw.is_empty() {
                return Ok(Value::Null);
            }
            serde_json::from_slice(raw)
                .map_err(|_| Error::Malformed("an embedded object is not JSON"))?
        }
    })
}

/// The integers in fields 1 and 2.
fn numbers(bytes: &[u8]) -> Result<[i64; 2], Error> {
    let mut found = [0; 2];
    let mut reader = Reader::new(bytes);
    while let Some((number, field)) = reader.next()? {
        if let (1 | 2, Wire::Varint(_)) = (number, &field) {
            found[number as usize - 1] = field.int()?;
        }
    }
    Ok(found)
}

fn time(scalar: Scalar, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let [seconds, nanos] = numbers(bytes)?;
    let nanos = i32::try_from(nanos).map_err(|_| Error::Malformed("a time is out of range"))?;
    let time = jiff::Timestamp::new(seconds, nanos)
        .map_err(|_| Error::Malformed("a time is out of range"))?;
    let form = if scalar == Scalar::Time { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.6fZ" };
    Ok(time.strftime(form).to_string().into())
}
