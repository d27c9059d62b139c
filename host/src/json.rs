//! JSON with one reading: of an object that names a member twice, some readers take the first and some the last (RFC 8259,
//! section 4), so each such name is told with its JSON pointer.
//!
//! Knows no meaning of any member. How deep values may lie is bounded by the parser.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::problem::token;

/// More are not told one by one.
const MOST_TWICE: usize = 32;

/// The value in these bytes, and the pointers of what is named twice in it: the first 32.
///
/// # Errors
/// Where it is not JSON, or nested more deeply than 128 levels.
pub fn read(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let twice = RefCell::default();
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let value = Reading { place: &Place::Root, twice: &twice }.deserialize(&mut parser)?;
    parser.end()?;
    Ok((value, twice.into_inner()))
}

/// Where a value lies: written as a pointer only where something is wrong there.
enum Place<'a> {
    Root,
    Member(&'a Place<'a>, &'a str),
    Element(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(of, name) => write!(f, "{of}{}", token(name)),
            Self::Element(of, at) => write!(f, "{of}/{at}"),
        }
    }
}

struct Reading<'a> {
    place: &'a Place<'a>,
    twice: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) =
            list.next_element_seed(Reading { place: &Place::Element(self.place, values.len()), twice: self.twice })?
        {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let place = Place::Member(self.place, &name);
            let value = members.next_value_seed(Reading { place: &place, twice: self.twice })?;
            if values.contains_key(&name) {
                let mut twice = self.twice.borrow_mut();
                if twice.len() < MOST_TWICE {
                    twice.push(place.to_string());
                }
            }
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn twice(text: &str) -> Vec<String> {
        read(text.as_bytes()).unwrap().1
    }

    #[test]
    fn names_that_come_twice_are_told_wherever_they_lie() {
        for (text, places) in [
            (r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#, &[][..]),
            (r#"{"a":1,"a":1}"#, &["/a"]),
            (r#"{"a":1,"\u0061":2}"#, &["/a"]),
            (r#"{"a":1,"a":2,"a":3}"#, &["/a", "/a"]),
            (r#"{"x/y":[0,{"k":{},"k":[]}],"~":0,"~":1}"#, &["/x~1y/1/k", "/~0"]),
        ] {
            assert_eq!(twice(text), places, "{text}");
        }
        let many = format!("{{{}\"a\":1}}", r#""a":1,"#.repeat(10_000));
        assert_eq!(twice(&many).len(), MOST_TWICE);
    }

    #[test]
    fn what_lies_too_deep_is_no_json() {
        assert!(read("[".repeat(100_000).as_bytes()).is_err());
        assert!(read(format!("{}{}", r#"{"a":"#.repeat(1_000), "}".repeat(1_000)).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn everything_else_is_read_as_ever(text in r#"[\[\]{}:,"a-c0-9.eE \\-]{0,40}"#, bytes: Vec<u8>) {
            for bytes in [text.as_bytes(), &bytes] {
                let (own, other) = (read(bytes), serde_json::from_slice::<Value>(bytes));
                match other {
                    Ok(value) => prop_assert_eq!(own.unwrap().0, value),
                    Err(_) => prop_assert!(own.is_err()),
                }
            }
        }
    }
}
