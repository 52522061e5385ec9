use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn pointer(text: &str) -> Pointer {
    Pointer::new(&text.parse().unwrap())
}

/// What a search comes to, and the id.
fn scan<'a>(text: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Search, Option<Vec<u8>>) {
    let pointer = pointer(text);
    let mut scanner = Scanner::default();
    for piece in pieces {
        scanner.read(&pointer, piece);
    }
    (scanner.search(), scanner.id().map(<[u8]>::to_vec))
}

/// Kept: the id is found by its pointer, whatever stands beside the way, and nothing else is taken for it.
#[test]
fn finds_the_id_in_its_place() {
    let found = |id: &str| (Search::Found, Some(id.as_bytes().to_vec()));
    let none = |search| (search, None);
    let cases = [
        ("/id", r#"{"id":"a"}"#, found("a")),
        ("/id", " {\n\"x\" : [1,{\"id\":\"no\"}] ,\t\"id\" : \"a b\" } ", found("a b")),
        ("/id", r#"{"idx":1,"i":2,"xid":"n","id":42}"#, found("42")),
        ("/id", r#"{"id":-1.5e3,"x":"#, found("-1.5e3")),
        ("/id", r#"{"\u0069d":"\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00"}"#, found("\"\\/\u{8}\u{c}\n\r\té\u{e9}😀")),
        ("/id", r#"{"id":"a\ud800b\udc00c\ud800"}"#, found("abc")),
        ("/id", r#"{"id":"first","id":"second"}"#, found("first")),
        ("/a/b/c", r#"{"a":{"x":"}]","b":{"c":"deep"}}}"#, found("deep")),
        ("/a/b", r#"{"a":{"c":1},"b":"no"}"#, none(Search::Missing)),
        ("/messages/1/id", r#"{"messages":[{"id":"0"},{"id":"1"},{"id":"2"}]}"#, found("1")),
        ("/1", r#"[[],"one"]"#, found("one")),
        ("/0", "[]", none(Search::Missing)),
        ("/01", r#"["a","b"]"#, none(Search::Missing)),
        ("/0", r#"{"0":"key"}"#, found("key")),
        ("/a~1b~0c/~01", r#"{"a/b~c":{"~1":"x"}}"#, found("x")),
        ("/id", "{}", none(Search::Missing)),
        ("/id", r#"{"id":""}"#, none(Search::Missing)),
        ("/id", r#"{"id":null}"#, none(Search::Missing)),
        ("/id", r#"{"id":true}"#, none(Search::Missing)),
        ("/id", r#"{"id":{"id":"no"}}"#, none(Search::Missing)),
        ("/id", r#"{"id":["no"]}"#, none(Search::Missing)),
        ("/id", r#""id""#, none(Search::Missing)),
        ("/id/x", r#"{"id":"a"}"#, none(Search::Missing)),
        ("/id", r#"{"x":"{\"id\":\"no\"}"}"#, none(Search::Missing)),
        ("/id", r#"{"x":1"#, none(Search::Open)),
        ("/id", r#"{"id":"a"#, none(Search::Open)),
        ("/id", r#"{"id":4"#, none(Search::Open)),
        ("/id", "", none(Search::Open)),
        ("/id", "id=a", none(Search::Malformed)),
        ("/id", r#"{id:"a"}"#, none(Search::Malformed)),
        ("/id", r#"{"x" "id":"a"}"#, none(Search::Malformed)),
        ("/id", r#"{"x":1 2}"#, none(Search::Malformed)),
        ("/id", r#"{"x":1]"#, none(Search::Malformed)),
        ("/id", r#"{"x":,"id":"a"}"#, none(Search::Malformed)),
        ("/id", r#"{"x":"\q","id":"a"}"#, none(Search::Malformed)),
        ("/id", r#"{"x":"\u00g0"}"#, none(Search::Malformed)),
        ("/id", "{\"x\":\"\n\"}", none(Search::Malformed)),
        ("/0", r#"[1,]"#, found("1")),
        ("/2", r#"[1,]"#, none(Search::Malformed)),
        ("/id", "\u{1f}\u{8b}", none(Search::Malformed)),
    ];
    for (text, document, wanted) in cases {
        assert_eq!(scan(text, [document.as_bytes()]), wanted, "{text} in {document}");
        let bytes: Vec<_> = document.as_bytes().chunks(1).collect();
        assert_eq!(scan(text, bytes), wanted, "{text} in {document}, byte by byte");
    }
}

/// Bounded: an id that is too long is none, and is not kept.
#[test]
fn long_ids_are_none() {
    for (length, wanted) in [(ID_MAX, Search::Found), (ID_MAX + 1, Search::Missing)] {
        let document = format!(r#"{{"id":"{}"}}"#, "x".repeat(length));
        assert_eq!(scan("/id", [document.as_bytes()]).0, wanted, "{length}");
    }
}

/// Any JSON, of keys that pointers often name.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c\"\\\\{}\\[\\],:\\PC]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]|\\PC|\"", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Kept: the id is what a whole reader finds by the same pointer, however the stream is cut, pretty or not.
    #[test]
    fn agrees_with_a_whole_reader(
        document in json(),
        tokens in proptest::collection::vec("[a-c0-2]", 1..4),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        pretty in any::<bool>(),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        let place = format!("/{}", tokens.join("/"));
        let wanted = match document.pointer(&place) {
            Some(Value::String(id)) if !id.is_empty() => Some(id.clone().into_bytes()),
            Some(Value::Number(id)) => Some(id.to_string().into_bytes()),
            _ => None,
        };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| text.as_bytes().get(cut[0]..cut[1]).unwrap());
        let (search, id) = scan(&place, pieces);
        prop_assert_eq!(&id, &wanted, "{} in {}", place, text);
        prop_assert!(matches!(search, Search::Found | Search::Missing), "{:?}: {} in {}", search, place, text);
    }

    /// Total: no bytes are too odd, and cutting them changes nothing.
    #[test]
    fn total(bytes in proptest::collection::vec("[{}\\[\\]\",:\\\\a0u \\PC]".prop_map(|text| text.into_bytes()), 0..40)) {
        let bytes = bytes.concat();
        let whole = scan("/a/0", [bytes.as_slice()]);
        prop_assert_eq!(scan("/a/0", bytes.chunks(1)), whole);
    }
}
