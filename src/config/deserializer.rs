//! serde's view of the config file: a [`TomlNode`] is read into types that derive `Deserialize`, in the order of the file.
//! The words of an error are made in [`reader`].
//!
//! toml's own `Deserializer` is not used. Its errors are finished sentences without a key. It sorts the keys of a
//! table, so that the first error is not the first in the file. And it accepts an array of the values for a table.
//!
//! [`reader`]: super::reader

use super::ConfigError;
use super::reader::{Source, TomlNode};
use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, Expected, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use std::fmt;
use toml::Spanned;
use toml::de::{DeString, DeValue};

/// Why serde could not read a value. serde knows neither its place nor its key. Both are added on the way up.
#[derive(Debug, thiserror::Error)]
#[error("cannot be read")]
pub enum ReadError {
    /// The value is not possible. This text goes behind it.
    Value(String),
    /// The value should be this.
    Type(String),
    /// A key is none of these.
    UnknownKey(&'static [&'static str]),
    /// The table lacks this key.
    MissingKey(&'static str),
    /// Any of the above, with its place.
    Placed(ConfigError),
}

impl Error for ReadError {
    fn custom<T: fmt::Display>(complaint: T) -> Self {
        Self::Value(complaint.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type(expected.to_string())
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::UnknownKey(known)
    }

    fn missing_field(key: &'static str) -> Self {
        Self::MissingKey(key)
    }
}

impl<'a> TomlNode<'a> {
    /// Reads the value.
    ///
    /// # Errors
    /// The first key in the file that is unknown, or value that cannot be.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, ConfigError> {
        T::deserialize(self).map_err(|error| self.place(error))
    }

    fn placed(&self, error: ReadError) -> ReadError {
        ReadError::Placed(self.place(error))
    }

    /// What is said of serde's `error` with this value.
    fn place(&self, error: ReadError) -> ConfigError {
        match error {
            ReadError::Placed(error) => error,
            ReadError::Value(complaint) => self.complaint(&complaint),
            ReadError::Type(expected) => self.wrong_type(self.expected.unwrap_or(&expected)),
            // The table has given both a place already.
            ReadError::UnknownKey(_) | ReadError::MissingKey(_) => self.error(error.to_string()),
        }
    }
}

impl<'de> Deserializer<'de> for TomlNode<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Boolean(boolean) => visitor.visit_bool(*boolean),
            DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(Error::invalid_value(Unexpected::Other("number"), &visitor)),
            },
            DeValue::Array(_) => visitor.visit_seq(Items(self.items())),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => {
                Err(Error::invalid_type(Unexpected::Other("value"), &visitor))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    /// Such a type is named for what the value must be, in the words of an error.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let node = Self { expected: Some(name), ..self };
        visitor.visit_newtype_struct(node).map_err(|error| node.placed(error))
    }

    /// Such a type is named as people write the table. An array of the values is no table.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let DeValue::Table(table) = self.value.get_ref() else {
            return Err(ReadError::Type(format!("the table {name}")));
        };

        // In the order of the file, so that its first fault is reported.
        let mut pairs: Vec<_> = table.iter().collect();
        pairs.sort_by_key(|(key, _)| key.span().start);
        let pairs =
            Pairs { source: self.source, table: name, rest: pairs.into_iter(), value: None };
        visitor.visit_map(pairs).map_err(|error| match error {
            ReadError::MissingKey(key) => ReadError::Placed(self.missing_key(key, name)),
            error => error,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

/// The items of an array.
struct Items<I>(I);

impl<'a, I: Iterator<Item = TomlNode<'a>>> SeqAccess<'a> for Items<I> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some(node) = self.0.next() else { return Ok(None) };
        seed.deserialize(node).map(Some).map_err(|error| node.placed(error))
    }
}

/// The keys of a table and their values, in the order of the file.
struct Pairs<'a> {
    source: Source<'a>,
    /// What the table is called.
    table: &'static str,
    rest: std::vec::IntoIter<(&'a Spanned<DeString<'a>>, &'a Spanned<DeValue<'a>>)>,
    /// The value of the key that was read last.
    value: Option<TomlNode<'a>>,
}

impl<'a> MapAccess<'a> for Pairs<'a> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(TomlNode::new(self.source, key.get_ref(), value));
        let read = seed.deserialize(StrDeserializer::new(key.get_ref()));
        read.map(Some).map_err(|error| match error {
            ReadError::UnknownKey(known) => {
                ReadError::Placed(self.source.unknown_key(key, self.table, known))
            }
            error => error,
        })
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let node = self.value.take().ok_or(ReadError::UnknownKey(&[]))?;
        seed.deserialize(node).map_err(|error| node.placed(error))
    }
}

/// Reads a string with `read`, whose complaint is put behind the key and the string.
pub fn text<'de, D: Deserializer<'de>, T>(
    from: D,
    read: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    read(&String::deserialize(from)?).map_err(Error::custom)
}

/// The keys that a table of the type `T` may have.
pub fn keys<T: Deserialize<'static>>() -> &'static [&'static str] {
    /// Reads nothing: it answers with the keys that it is asked for.
    struct KeyList;

    impl<'de> Deserializer<'de> for KeyList {
        type Error = ReadError;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, ReadError> {
            Err(ReadError::UnknownKey(&[]))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            keys: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, ReadError> {
            Err(ReadError::UnknownKey(keys))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    match T::deserialize(KeyList) {
        Err(ReadError::UnknownKey(keys)) => keys,
        _ => &[],
    }
}
