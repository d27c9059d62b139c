//! Reads a configuration: JSON to any type that serde can make, with the place of what is wrong.
//!
//! Written for size: the usual JSON crate brings the printing and parsing of floats into every component, and would be
//! three quarters of a small policy. Here floats are only linked into policies whose configuration has some. Speed is
//! no concern, since configurations are read when they change.

mod error;
mod scan;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

use crate::Diagnostic;
use error::Error;
use scan::{Kind, Scanner};

/// Deeper nesting than this is refused, before it could exhaust the stack.
const DEEPEST: usize = 64;

/// Reads a whole document.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Diagnostic> {
    let mut reader = Reader { scanner: Scanner::new(text), path: Vec::new() };
    let value = T::deserialize(&mut reader).and_then(|value| {
        reader.scanner.end()?;
        Ok(value)
    });
    value.map_err(|error| Diagnostic::new(reader.pointer(), error.to_string()))
}

/// Where a value stands in the document.
enum Step {
    Key(String),
    Index(usize),
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    /// Steps are taken back only when a value was read, so that after an error this is its place.
    path: Vec<Step>,
}

impl Reader<'_> {
    /// RFC 6901.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.path {
            pointer.push('/');
            match step {
                Step::Key(key) => pointer.push_str(&key.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    /// Checks what kind of value comes, before it is read as something.
    fn expect(&mut self, kind: Kind) -> Result<(), Error> {
        match self.scanner.kind()? {
            found if found == kind => Ok(()),
            found => Err(Error::kind(found, kind.name())),
        }
    }

    fn object<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::Object)?;
        self.deeper()?;
        self.scanner.open();
        let value = visitor.visit_map(Items::new(self))?;
        self.scanner.close(b'}')?;
        Ok(value)
    }

    fn list<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::List)?;
        self.deeper()?;
        self.scanner.open();
        let value = visitor.visit_seq(Items::new(self))?;
        self.scanner.close(b']')?;
        Ok(value)
    }

    fn deeper(&self) -> Result<(), Error> {
        if self.path.len() < DEEPEST {
            return Ok(());
        }
        Err(Error::new(format!("This is nested deeper than {DEEPEST} levels.")))
    }

    fn whole<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::Number)?;
        let text = self.scanner.number()?;
        if let Ok(number) = text.parse::<u64>() {
            return visitor.visit_u64(number);
        }
        match text.parse::<i64>() {
            Ok(number) => visitor.visit_i64(number),
            Err(_) => Err(Error::new(format!("`{text}` is no whole number of 64 bits."))),
        }
    }

    fn fraction<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::Number)?;
        let text = self.scanner.number()?;
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => visitor.visit_f64(number),
            _ => Err(Error::new(format!("`{text}` is too large a number."))),
        }
    }

    fn text<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::Text)?;
        visitor.visit_string(self.scanner.text()?)
    }
}

/// Methods that read the same kind of value.
macro_rules! alike {
    ($read:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.$read(visitor)
        })*
    };
}

impl<'de> de::Deserializer<'de> for &mut Reader<'_> {
    type Error = Error;

    alike!(whole: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);
    alike!(fraction: deserialize_f32 deserialize_f64);
    alike!(text: deserialize_char deserialize_str deserialize_string deserialize_identifier);
    alike!(list: deserialize_seq deserialize_bytes deserialize_byte_buf);
    alike!(object: deserialize_map);

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.scanner.kind()? {
            Kind::Null => self.deserialize_unit(visitor),
            Kind::Bool => self.deserialize_bool(visitor),
            Kind::Number if self.scanner.is_whole() => self.whole(visitor),
            Kind::Number => self.fraction(visitor),
            Kind::Text => self.text(visitor),
            Kind::List => self.list(visitor),
            Kind::Object => self.object(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::Bool)?;
        visitor.visit_bool(self.scanner.word()? == "true")
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.expect(Kind::Null)?;
        self.scanner.word()?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.scanner.kind()? == Kind::Null {
            self.scanner.word()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        self.list(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.list(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.object(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.scanner.kind()? == Kind::Text {
            return visitor.visit_enum(self.scanner.text()?.into_deserializer());
        }
        self.expect(Kind::Object)?;
        self.deeper()?;
        self.scanner.open();
        let value = visitor.visit_enum(Items::new(self))?;
        self.scanner.close(b'}')?;
        Ok(value)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.scanner.skip(DEEPEST)?;
        visitor.visit_unit()
    }
}

/// What stands between two brackets.
struct Items<'r, 'a> {
    reader: &'r mut Reader<'a>,
    count: usize,
}

impl<'r, 'a> Items<'r, 'a> {
    fn new(reader: &'r mut Reader<'a>) -> Self {
        Self { reader, count: 0 }
    }

    /// Whether one more item comes; reads the comma before it.
    fn more(&mut self, end: u8) -> Result<bool, Error> {
        let more = self.reader.scanner.more(end, self.count == 0)?;
        self.count += 1;
        Ok(more)
    }

    fn key<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let key = self.reader.scanner.text()?;
        self.reader.scanner.colon()?;
        // Before the key is looked at: one that is not known is wrong at its own place.
        self.reader.path.push(Step::Key(key.clone()));
        seed.deserialize(key.into_deserializer())
    }

    fn value<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = seed.deserialize(&mut *self.reader)?;
        self.reader.path.pop();
        Ok(value)
    }
}

impl<'de> de::MapAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        match self.more(b'}')? {
            true => self.key(seed).map(Some),
            false => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.value(seed)
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        if !self.more(b']')? {
            return Ok(None);
        }
        self.reader.path.push(Step::Index(self.count - 1));
        self.value(seed).map(Some)
    }
}

impl<'de> de::EnumAccess<'de> for Items<'_, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<(S::Value, Self), Error> {
        if !self.more(b'}')? {
            return Err(Error::new("One key is expected here, and there is none."));
        }
        Ok((self.key(seed)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn unit_variant(mut self) -> Result<(), Error> {
        self.value(std::marker::PhantomData::<()>)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, Error> {
        self.value(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        let value = self.reader.list(visitor)?;
        self.reader.path.pop();
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(self, _fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        let value = self.reader.object(visitor)?;
        self.reader.path.pop();
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
