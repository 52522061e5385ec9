use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn pointer(text: &str) -> Pointer {
    Pointer::new(&text.parse().unwrap())
}

/// What a search comes to, and the id.
fn scan<'a>(text: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Search, Option<Vec<u8>>) {
    let pointers = [pointer(text)];
    let mut scanner = Scanner::new(Scanner::all(1));
    for piece in pieces {
        scanner.read(&pointers, piece);
    }
    (scanner.search(0), scanner.id(0).map(<[u8]>::to_vec))
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
        ("/*/id", r#"[{"x":1},{"id":null},{"id":""},{"id":"first"},{"id":"second"}]"#, found("first")),
        ("/*/params/*/id", r#"[{"params":[]},7,{"params":{"*":{"id":"key"}}}]"#, found("key")),
        ("/*", r#"{"a":"no","*":"key"}"#, found("key")),
        ("/*", r#"[[],{},7]"#, found("7")),
        ("/*/id", r#"[{"id":{"id":"no"}}]"#, none(Search::Missing)),
        ("/*/id", r#"[{"id":{"id":"no"}}"#, none(Search::Open)),
        ("/id", r#"[{"id":"no"}]"#, none(Search::Missing)),
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

/// What a reader of whole documents finds by a pointer.
fn whole(document: &Value, tokens: &[&str]) -> Option<Vec<u8>> {
    match (document, tokens.split_first()) {
        (Value::String(id), None) if !id.is_empty() => Some(id.clone().into_bytes()),
        (Value::Number(id), None) => Some(id.to_string().into_bytes()),
        (Value::Array(items), Some((&"*", rest))) => items.iter().find_map(|item| whole(item, rest)),
        (Value::Array(_) | Value::Object(_), Some((token, rest))) => {
            whole(document.pointer(&format!("/{token}"))?, rest)
        }
        _ => None,
    }
}

proptest! {
    /// Kept: one pass finds for each of several pointers what a whole reader finds, however the document is cut.
    #[test]
    fn one_pass_agrees_with_a_whole_reader(
        document in json(),
        places in proptest::collection::vec(proptest::collection::vec("[a-c0-2*]", 1..4), 1..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        pretty in any::<bool>(),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        let pointers: Vec<_> = places.iter().map(|tokens| pointer(&format!("/{}", tokens.join("/")))).collect();
        let mut scanner = Scanner::new(Scanner::all(pointers.len()));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        for cut in cuts.windows(2) {
            scanner.read(&pointers, text.as_bytes().get(cut[0]..cut[1]).unwrap());
        }
        for (place, tokens) in places.iter().enumerate() {
            let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
            let wanted = whole(&document, &tokens);
            let ends = if wanted.is_some() { Search::Found } else { Search::Missing };
            prop_assert_eq!(scanner.id(place), wanted.as_deref(), "{:?} in {}", tokens, text);
            prop_assert_eq!(scanner.search(place), ends, "{:?} in {}", tokens, text);
        }
        prop_assert!(!scanner.is_open(), "{}", text);
    }

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

/// A plan whose answers hand out ids in both kinds of body.
fn learning() -> Plan {
    let mut snapshot = crate::snapshot::Snapshot::empty("chat".parse().unwrap());
    snapshot.settings.learn_from =
        serde_json::from_str(r#"[{"body":"/id"},{"event":"/response/id"},{"event":"/thread"}]"#).unwrap();
    snapshot.settings.body.prefix_bytes = 1_000;
    Plan::compile(&snapshot, None).unwrap()
}

/// The ids of an answer that comes in these pieces, and how far it was searched.
fn learn<'a>(content_type: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Searched) {
    let plan = learning();
    let mut scan = AnswerScan::new(&plan, content_type.as_bytes()).unwrap();
    let ids: Vec<_> = pieces.into_iter().flat_map(|piece| scan.read(&plan, piece)).collect();
    (ids.into_iter().map(|id| String::from_utf8(id).unwrap()).collect(), scan.searched())
}

/// Kept: ids are found in each kind of body where the sources of that kind look, once, in the first event that has them.
#[test]
fn answers_hand_out_ids() {
    let (json, events) = ("application/json", "text/event-stream; charset=utf-8");
    let cases: [(&str, &str, &[&str], Searched); 11] = [
        (json, r#"{"thread":"no","id":"a"}"#, &["a"], Searched::Found),
        (json, r#"{"x":1}"#, &[], Searched::Missing),
        (json, r#"{"x":1"#, &[], Searched::Open),
        (json, "no", &[], Searched::Missing),
        (events, "data: {\"id\":\"no\"}\n\n", &[], Searched::Open),
        (events, "data: {\"response\":{\"id\":\"a\"}}\n\ndata: {\"thread\":\"b\"}\n\n", &["a", "b"], Searched::Found),
        (events, "data: {\"thread\":\"b\"}\n\ndata: {\"thread\":\"c\"}\n\n", &["b"], Searched::Open),
        (events, "id: 1\ndatax: {\"thread\":\"no\"}\n: data: {\"thread\":\"no\"}\n\n", &[], Searched::Open),
        (events, "data:{\"thread\":\ndata:  7}\r\rdata\r\n\r\n", &["7"], Searched::Open),
        (events, "data: {\"thread\":\n\ndata: \"no\"}\n\n", &[], Searched::Open),
        (events, "data: [DONE]\n\ndata: {\"thread\":\"b\"}", &["b"], Searched::Open),
    ];
    for (content_type, body, wanted, searched) in cases {
        let wanted = (wanted.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>(), searched);
        assert_eq!(learn(content_type, [body.as_bytes()]), wanted, "{body}");
        assert_eq!(learn(content_type, body.as_bytes().chunks(1)), wanted, "{body}, byte by byte");
    }
    assert!(AnswerScan::new(&learning(), b"text/plain").is_none());
    let over = format!("{}data: {{\"thread\":\"b\"}}\n\n", ": x\n".repeat(250));
    assert_eq!(learn(events, over.as_bytes().chunks(300)), (vec![], Searched::Over));
}

proptest! {
    /// Kept: the ids of a stream of events are the same, however it is cut and whatever ends its lines.
    #[test]
    fn events_are_found_however_they_are_cut(
        lines in proptest::collection::vec("(data:|data: |event:|:|)(\\{\"thread\":\"[ab]\"\\}|\\{\"thread\":|\"[ab]\"\\}|[a-c\u{e9}]{0,3})", 0..12),
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        size in 1usize..9,
    ) {
        let text = lines.join(end) + end;
        let whole = learn("text/event-stream", [lines.join("\n").as_bytes(), b"\n"]);
        prop_assert_eq!(learn("text/event-stream", text.as_bytes().chunks(size)), whole);
    }
}
