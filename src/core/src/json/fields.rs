//! Types off a tree: objects by their fields, lists, maps, words, numbers and texts.

use std::collections::BTreeMap;

use super::error::Error;
use super::tree::Tree;

/// What can be read off a tree.
pub trait FromTree: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// Says what is wrong, from here on.
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error>;
}

/// What can be the key of a map.
pub trait Key: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn from_key(key: &str) -> Result<Self, Error>;
}

/// What becomes of fields that the reader does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// They are refused.
    Refused,
    /// They are passed over.
    PassedOver,
}

/// Longest name of an unknown field, or unknown word, that an error repeats.
const FOUND_MAX: usize = 80;

/// The fields of an object.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'t>(&'t [(std::borrow::Cow<'t, str>, Tree<'t>)]);

impl<'t> Fields<'t> {
    /// Those of `tree`, which knows the fields `known`.
    ///
    /// # Errors
    /// Where it is no object, has a field twice, or one that it must not have.
    pub fn of(tree: &'t Tree<'_>, known: &[&str], unknown: Unknown) -> Result<Self, Error> {
        let entries = tree.object()?;
        let mut seen: u64 = 0;
        for (name, _) in entries {
            let Some(place) = known.iter().position(|known| known == name) else {
                if unknown == Unknown::PassedOver {
                    continue;
                }
                let name: String = name.chars().take(FOUND_MAX).collect();
                let rule = format_args!("there is no such field; there are: {}", known.join(", "));
                return Err(Error::new(rule).in_field(&name));
            };
            let bit = 1u64.checked_shl(place as u32).unwrap_or(0);
            if seen & bit != 0 {
                return Err(Error::new(format_args!("stands twice")).in_field(name));
            }
            seen |= bit;
        }
        Ok(Self(entries))
    }

    fn find(&self, name: &str) -> Option<&'t Tree<'t>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Reads a field over `value`, which stays where the field is absent.
    ///
    /// # Errors
    /// Those of its value.
    #[inline(never)]
    pub fn may<T: FromTree>(&self, name: &str, value: &mut T) -> Result<(), Error> {
        if let Some(tree) = self.find(name) {
            *value = T::from_tree(tree).map_err(|error| error.in_field(name))?;
        }
        Ok(())
    }

    /// Reads a field over `value`.
    ///
    /// # Errors
    /// Where it is absent, and those of its value.
    pub fn must<T: FromTree>(&self, name: &str, value: &mut T) -> Result<(), Error> {
        self.has(name)?;
        self.may(name, value)
    }

    /// A field that must stand there.
    ///
    /// # Errors
    /// Where it is absent, and those of its value.
    #[inline(never)]
    pub fn required<T: FromTree>(&self, name: &str) -> Result<T, Error> {
        T::from_tree(self.has(name)?).map_err(|error| error.in_field(name))
    }

    fn has(&self, name: &str) -> Result<&'t Tree<'t>, Error> {
        self.find(name).ok_or_else(|| Error::new(format_args!("is missing")).in_field(name))
    }
}

/// The place of a word among those that are known.
///
/// # Errors
/// Where it is none of them.
pub fn word(found: &str, known: &[&str]) -> Result<usize, Error> {
    known.iter().position(|known| *known == found).ok_or_else(|| {
        let found: String = found.chars().take(FOUND_MAX).collect();
        Error::new(format_args!("is {found:?}; there are: {}", known.join(", ")))
    })
}

/// Reads a struct of the fields it names: those in parentheses are read by `start`, those in the first brackets must
/// stand there, the others may. It is filled in from `start`, field by field: a literal would have a way out, with all
/// that is to be dropped, at each of them.
macro_rules! record {
    (
        $type:ty, $unknown:ident, ($($started:ident),*), [$($must:ident),*], [$($may:ident),*],
        |$fields:ident| $start:expr
    ) => {
        impl $crate::json::FromTree for $type {
            #[inline(never)]
            fn from_tree(tree: &$crate::json::Tree<'_>) -> Result<Self, $crate::json::Error> {
                const KNOWN: &[&str] =
                    &[$(stringify!($started),)* $(stringify!($must),)* $(stringify!($may),)*];
                let $fields = $crate::json::Fields::of(tree, KNOWN, $crate::json::Unknown::$unknown)?;
                let mut value: Self = $start;
                // A field that is not named above does not compile.
                let Self { $($started: _,)* $($must,)* $($may,)* } = &mut value;
                $($fields.must(stringify!($must), $must)?;)*
                $($fields.may(stringify!($may), $may)?;)*
                Ok(value)
            }
        }
    };
    ($type:ty, $unknown:ident, [$($may:ident),*]) => {
        $crate::json::record!($type, $unknown, (), [], [$($may),*], |fields| Self::default());
    };
}

/// Reads an enum of words.
macro_rules! words {
    ($type:ty, $($word:literal => $variant:ident),+) => {
        impl $crate::json::FromTree for $type {
            fn from_tree(tree: &$crate::json::Tree<'_>) -> Result<Self, $crate::json::Error> {
                <Self as $crate::json::Key>::from_key(tree.text()?)
            }
        }

        impl $crate::json::Key for $type {
            fn from_key(word: &str) -> Result<Self, $crate::json::Error> {
                const KNOWN: &[&str] = &[$($word),+];
                const ALL: &[$type] = &[$(<$type>::$variant),+];
                // A variant without its word does not compile.
                const _: fn($type) = |every| match every {
                    $(<$type>::$variant => {})+
                };
                let place = $crate::json::word(word, KNOWN)?;
                ALL.get(place).copied().ok_or_else(|| $crate::json::Error::new(format_args!("is no word")))
            }
        }
    };
}

/// Reads a struct of one unnamed field as that field.
macro_rules! newtype {
    ($type:ty, $inner:ty) => {
        impl $crate::json::FromTree for $type {
            fn from_tree(tree: &$crate::json::Tree<'_>) -> Result<Self, $crate::json::Error> {
                <$inner as $crate::json::FromTree>::from_tree(tree).map(Self)
            }
        }
    };
}

pub(crate) use {newtype, record, words};

impl<T: FromTree> FromTree for Option<T> {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        match tree {
            Tree::Null => Ok(None),
            _ => T::from_tree(tree).map(Some),
        }
    }
}

impl<T: FromTree> FromTree for Vec<T> {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        let mut list = Self::new();
        for (index, item) in tree.list()?.iter().enumerate() {
            list.push(T::from_tree(item).map_err(|error| error.in_item(index))?);
        }
        Ok(list)
    }
}

impl<K: Key + Ord, V: FromTree> FromTree for BTreeMap<K, V> {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        let mut map = Self::new();
        for (key, value) in tree.object()? {
            // A key in the wrong place may be a secret: an error of its own never repeats it.
            let read = K::from_key(key)?;
            if map.insert(read, V::from_tree(value).map_err(|error| error.in_field(key))?).is_some() {
                return Err(Error::new(format_args!("has a key twice")));
            }
        }
        Ok(map)
    }
}

impl FromTree for String {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        tree.text().map(str::to_owned)
    }
}

impl FromTree for u64 {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        tree.whole(Self::MAX)
    }
}

impl FromTree for u32 {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        tree.whole(Self::MAX.into()).map(|number| number as Self)
    }
}

impl FromTree for u16 {
    fn from_tree(tree: &Tree<'_>) -> Result<Self, Error> {
        tree.whole(Self::MAX.into()).map(|number| number as Self)
    }
}
