//! A JSON text as a tree. Keys that stand twice stay both, so that whoever reads them can refuse that. Nesting is bounded
//! by the parser.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Error, Unreadable};

/// One value.
#[derive(Debug)]
pub enum Tree<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0 on.
    Whole(u64),
    /// Below zero, or with a fraction: no document of ours has such a number.
    Number,
    /// A string.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Tree<'a>>),
    /// An object, its entries as they stand.
    Object(Vec<(Cow<'a, str>, Tree<'a>)>),
}

impl<'a> Tree<'a> {
    /// Reads a whole text.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(json).map_err(|error| Unreadable::NotJson { line: error.line(), column: error.column() })
    }

    /// A whole number from 0 to `most`.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn whole(&self, most: u64) -> Result<u64, Error> {
        match self {
            Self::Whole(number) if *number <= most => Ok(*number),
            Self::Whole(number) => Err(Error::new(format_args!("is {number}, over {most}"))),
            _ => Err(self.is_not("a whole number from 0 on")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn text(&self) -> Result<&str, Error> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(self.is_not("a string")),
        }
    }

    /// The items of a list.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn list(&self) -> Result<&[Self], Error> {
        match self {
            Self::List(items) => Ok(items),
            _ => Err(self.is_not("a list")),
        }
    }

    /// The entries of an object.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn object(&self) -> Result<&[(Cow<'a, str>, Self)], Error> {
        match self {
            Self::Object(entries) => Ok(entries),
            _ => Err(self.is_not("an object")),
        }
    }

    /// An object of one entry: a word, and what belongs to it.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn entry(&self) -> Result<(&str, &Self), Error> {
        match self.object()? {
            [(word, value)] => Ok((word, value)),
            _ => Err(self.is_not("an object of one entry")),
        }
    }

    /// Never with the value itself: it may be a secret.
    fn is_not(&self, wanted: &str) -> Error {
        let kind = match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Whole(_) | Self::Number => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        };
        Error::new(format_args!("is {kind}, not {wanted}"))
    }
}

impl<'de> Deserialize<'de> for Tree<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Tree::Whole(number))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Tree::Number)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Tree::Number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Tree::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Tree::Text(Cow::Borrowed(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut object = Vec::new();
        // Keys are read as values are: a second visitor would bring the parser's own words for what is no text.
        while let Some((key, value)) = entries.next_entry()? {
            match key {
                Tree::Text(key) => object.push((key, value)),
                _ => return Err(de::Error::custom("a key is no string")),
            }
        }
        Ok(Tree::Object(object))
    }
}
