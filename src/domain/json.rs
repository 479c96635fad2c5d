//! Strict parsing and comparing of JSON: structs only from objects, no duplicate keys, and numbers with all their
//! digits.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

/// Deserializes `T` only from an object. A derived `Deserialize` for a struct also accepts an array of the fields in
/// their order.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfObject(PhantomData))
    }
}

struct OfObject<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfObject<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// The members of an object, in their order. The values are unparsed.
#[derive(Debug)]
pub struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Parses `text`.
    ///
    /// # Errors
    /// If `text` is not exactly one object, or a key occurs twice.
    pub fn of(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfMembers)
    }
}

struct OfMembers;

impl<'de> Visitor<'de> for OfMembers {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut keys) = (Vec::new(), HashSet::new());
        while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("the key {key:?} occurs twice")));
            }
            members.push((key, value));
        }
        Ok(Members(members))
    }
}

/// The text of the JSON string `raw`, with U+FFFD for half of a surrogate pair. `None` if it is not a string.
pub fn text(raw: &RawValue) -> Option<String> {
    struct Bytes(Vec<u8>);

    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct OfBytes;

            impl Visitor<'_> for OfBytes {
                type Value = Bytes;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a string")
                }

                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                    Ok(Bytes(bytes.to_vec()))
                }
            }

            // `serde_json` accepts half of a surrogate pair in bytes, but not in text.
            deserializer.deserialize_bytes(OfBytes)
        }
    }

    let Bytes(bytes) = serde_json::from_str(raw.get()).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether both values are equal. The order of keys and white space do not count, and numbers are compared digit by
/// digit: 1.10 equals 1.1, and 2⁶⁴ + 1 differs from 2⁶⁴ + 2. The function is recursive: limit the nesting first.
pub fn is_same(one: &RawValue, other: &RawValue) -> bool {
    let (a, b) = (one.get(), other.get());
    if a == b {
        return true;
    }
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => {
            let (Ok(a), Ok(b)) = (Members::of(a), Members::of(b)) else { return false };
            // Objects can have a hundred thousand members, so look them up in a map.
            let b: HashMap<String, &RawValue> = b.0.into_iter().collect();
            let is_in_b =
                |(key, value): &(String, &RawValue)| b.get(key).is_some_and(|other| is_same(value, other));
            a.0.len() == b.len() && a.0.iter().all(is_in_b)
        }
        (Some(b'['), Some(b'[')) => {
            let items = |text| serde_json::from_str::<Vec<&RawValue>>(text);
            let (Ok(a), Ok(b)) = (items(a), items(b)) else { return false };
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| is_same(a, b))
        }
        (Some(b'"'), Some(b'"')) => {
            let string = |text| serde_json::from_str::<String>(text).ok();
            string(a).is_some_and(|a| string(b) == Some(a))
        }
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            Decimal::of(a).is_some_and(|a| Decimal::of(b) == Some(a))
        }
        _ => false,
    }
}

/// A number: its digits without zeros at either end, and the power of ten of the last digit.
#[derive(PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Option<Self> {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{integer}{fraction}");
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self { is_negative: false, digits: String::new(), exponent: 0 });
        }
        let shift =
            i64::try_from(digits.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_add(shift)?;
        Some(Self { is_negative, digits: significant.trim_start_matches('0').to_owned(), exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> &RawValue {
        serde_json::from_str(text).expect(text)
    }

    #[test]
    fn numbers_are_the_same_if_every_digit_is() {
        for (a, b) in [
            ("1.10", "1.1"),
            ("1e2", "100"),
            ("0", "-0.000"),
            ("12.5E-1", "1.25"),
            ("1e400", "10E399"),
            (r#"{"a":[1,"ü"],"b":null}"#, r#"{ "b" : null, "a" : [1.0, "\u00fc"] }"#),
        ] {
            assert!(is_same(raw(a), raw(b)), "{a} is {b}");
        }
        for (a, b) in [
            ("18446744073709551617", "18446744073709551618"),
            ("1234567890123456.78", "1234567890123456.79"),
            ("1", "-1"),
            ("1", "10"),
            ("1e400", "1e401"),
            ("1e99999999999999999999", "1e99999999999999999998"),
            ("1", "\"1\""),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":1}"#, r#"{"a":1,"a":1}"#),
            (r#""\ud83d""#, r#""\ud83e""#),
            ("null", "false"),
        ] {
            assert!(!is_same(raw(a), raw(b)), "{a} is not {b}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_a_text_that_can_be_shown() {
        assert_eq!(text(raw(r#""no \ud83d!""#)).as_deref(), Some("no \u{fffd}\u{fffd}\u{fffd}!"));
        assert_eq!(text(raw(r#""ü 😀""#)).as_deref(), Some("ü 😀"));
        assert_eq!(text(raw("[1]")), None);
    }

    #[test]
    fn an_array_is_no_object() {
        #[derive(Debug, Deserialize)]
        struct Pair {
            a: u8,
            b: u8,
        }
        let Object(Pair { a, b }) = serde_json::from_str(r#"{"a":1,"b":2}"#).expect("an object");
        assert_eq!((a, b), (1, 2));
        let error = serde_json::from_str::<Object<Pair>>("[1,2]").expect_err("an array").to_string();
        assert!(error.contains("expected an object"), "{error}");
    }
}
