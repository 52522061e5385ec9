//! Where in a file a field stands: rules are checked on values, which know no lines.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// A place in a text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column, in characters.
    pub column: u64,
}

/// The place of the field at `path` (as in `slots[1].weight`), or of the nearest thing around it that is written down.
pub fn of(text: &str, path: &str) -> Option<Position> {
    let steps: Vec<_> = path.split(['.', '[']).map(|step| step.trim_end_matches(']')).collect();
    (0..=steps.len()).rev().find_map(|depth| {
        let steps = steps.get(..depth)?;
        serde_saphyr::with_deserializer_from_str(text, |document| Seek(steps).deserialize(document)).ok()?
    })
}

/// Walks down a document and tells where the walk ends; nothing where a step leads nowhere.
struct Seek<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<Position>;

    fn deserialize<D: Deserializer<'de>>(self, here: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => {
                let here: Spanned<IgnoredAny> = serde::Deserialize::deserialize(here)?;
                Ok(Some(Position { line: here.referenced.line(), column: here.referenced.column() }))
            }
            _ => here.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<Position>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a sequence")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let (Some(key), Some((step, rest))) = (map.next_key::<String>()?, self.0.split_first()) {
            match key == *step {
                true => found = map.next_value_seed(Seek(rest))?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let wanted = self.0.split_first().and_then(|(step, rest)| Some((step.parse::<usize>().ok()?, rest)));
        for index in 0_usize.. {
            let more = match wanted {
                Some((step, rest)) if step == index => {
                    items.next_element_seed(Seek(rest))?.map(|position| found = position)
                }
                _ => items.next_element::<IgnoredAny>()?.map(drop),
            };
            if more.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field is found where it is written; one that is not, at what would hold it.
    #[test]
    fn finds_fields() {
        let text = "service: chat\nslots:\n  - blue\n  - green\npin:\n  max_age_seconds: 60\n  cookie: always\n";
        let cases = [
            ("slots[1]", (4, 5)),
            ("slots", (3, 3)),
            ("pin.cookie", (7, 11)),
            ("pin.idle_timeout_seconds", (6, 3)),
            ("headers.slot", (1, 1)),
            ("slots[7]", (3, 3)),
        ];
        for (path, (line, column)) in cases {
            assert_eq!(of(text, path), Some(Position { line, column }), "{path}");
        }
        assert_eq!(of("{\"pin\": {\"cookie\": 1}}", "pin.cookie"), Some(Position { line: 1, column: 20 }));
    }
}
