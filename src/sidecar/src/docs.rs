//! What stands in `docs` about the APIs: written from the code by `make docs`, and compared with it by every test run.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::api::PROBLEM_PREFIX;
use crate::server::{apis, problems};

/// Where a document stands, from the root of the repository.
fn check(path: &str, text: &str) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("COLORFAST_DOCS").is_some_and(|wish| wish == "write") {
        fs::write(&place, text).unwrap();
    }
    let written = fs::read_to_string(&place).unwrap_or_default();
    assert!(written == text, "{path} is not what the code says: run `make docs`");
}

/// The documents in the repository are those that a sidecar serves, and the page is made of them.
#[test]
fn written_documents_are_those_of_the_code() {
    let apis = apis();
    for (file, document) in &apis {
        check(&format!("docs/{file}"), &format!("{}\n", serde_json::to_string_pretty(document).unwrap()));
    }
    check("docs/api.md", &page(&apis));
}

const HEAD: &str = "# The APIs of colorfast

This page is made from the OpenAPI documents by `make docs`. A sidecar serves them, to whoever has a token: the control
API at `/v1/openapi.json` ([as a file](openapi.json)), discovery at `/v3/openapi.json`
([as a file](openapi-discovery.json)).

Every error is a problem document (RFC 9457, `application/problem+json`) with a stable `type`; [they are listed
below](#problems). Unknown fields and unknown parameters are refused. Nothing is carried out by a request that ends in a
problem, but for `outage`, where only asking again tells.

## Try it

With a sidecar that runs, and its data directory in `$DATA`:

```sh
control=\"$(sed -n 's/.*\"control\": *\"\\([^\"]*\\)\".*/\\1/p' \"$DATA/serve.json\")\"
token=\"$(cat \"$DATA/control.token\")\"
```

A service, and a verb that is safe to send again:

```sh
curl --silent --fail-with-body --header \"authorization: Bearer $token\" \\
    --header 'idempotency-key: make-chat' --data '{\"verb\": \"apply\", \"settings\": {}}' \\
    \"$control/v1/services/chat/verbs\"
```

What it is now, and what happened:

```sh
curl --silent --fail-with-body --header \"authorization: Bearer $token\" \"$control/v1/services/chat\"
curl --silent --fail-with-body --header \"authorization: Bearer $token\" \"$control/v1/events?service=chat&limit=10\"
```

A bundle into a slot, and the slot live, provided that nobody was faster:

```sh
verb() { curl --silent --fail-with-body --header \"authorization: Bearer $token\" --data \"$1\" \"$control/v1/services/chat/verbs\"; }
verb '{\"verb\": \"add_bundle\", \"id\": \"v1\", \"manifest\": {\"code\": \"c1\", \"model\": \"m1\", \"prompts\": \"p1\"}}'
verb '{\"verb\": \"stage\", \"slot\": \"blue\", \"bundle\": \"v1\"}'
verb '{\"verb\": \"switch\", \"slot\": \"blue\", \"expected_version\": 4}'
```

The log as it grows, here for two seconds:

```sh
curl --silent --no-buffer --max-time 2 --header \"authorization: Bearer $token\" \\
    \"$control/v1/events/stream?service=chat\" || [ $? = 28 ]
```
";

/// The page: each API with its operations, then the problems.
fn page(apis: &[(&str, Value)]) -> String {
    let mut page = HEAD.to_owned();
    for (_, document) in apis {
        let info = &document["info"];
        write!(page, "\n## {}\n\n{}\n", text(&info["title"]), text(&info["description"])).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                describe(&mut page, document, path, &method.to_uppercase(), operation);
            }
        }
    }
    page.push_str("\n## Problems\n\nThe `type` of each begins with `");
    page.push_str(PROBLEM_PREFIX);
    page.push_str("`.\n\n| type | status | what it means | what to do |\n| --- | --- | --- | --- |\n");
    for (code, status, title, remedy) in problems() {
        writeln!(page, "| `{code}` | {status} | {title} | {remedy} |").unwrap();
    }
    page
}

fn describe(page: &mut String, document: &Value, path: &str, method: &str, operation: &Value) {
    let (summary, description) = (text(&operation["summary"]), text(&operation["description"]));
    write!(page, "\n### `{method} {path}`\n\n{summary}. {description}\n").unwrap();
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        page.push_str("\n| parameter | in | value | meaning |\n| --- | --- | --- | --- |\n");
        for parameter in parameters {
            let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
            let need = if parameter["required"] == true { "" } else { ", optional" };
            let value = value(document, &parameter["schema"]);
            writeln!(page, "| `{name}` | {place}{need} | {value} | {} |", text(&parameter["description"])).unwrap();
        }
    }
    if let Some(body) = operation.get("requestBody") {
        let schema = &body["content"]["application/json"]["schema"];
        write!(page, "\nBody: {}\n", text(&body["description"])).unwrap();
        fields(page, document, schema);
    }
    page.push('\n');
    for (status, response) in operation["responses"].as_object().unwrap() {
        let problem = &response["content"]["application/problem+json"]["schema"];
        if let Some(types) = problem["allOf"][1]["properties"]["type"]["enum"].as_array() {
            let codes = types.iter().map(|of| format!("`{}`", text(of).trim_start_matches(PROBLEM_PREFIX)));
            writeln!(page, "- {status}: {}", codes.collect::<Vec<_>>().join(", ")).unwrap();
            continue;
        }
        let schema = response["content"]["application/json"].get("schema");
        let of = schema.map_or_else(String::new, |schema| format!(" ({})", value(document, schema)));
        writeln!(page, "- {status}: {}{of}", text(&response["description"])).unwrap();
    }
}

/// The fields of a document, or of each of its alternatives.
fn fields(page: &mut String, document: &Value, schema: &Value) {
    let schema = resolve(document, schema);
    if let Some(alternatives) = schema["oneOf"].as_array() {
        for alternative in alternatives {
            let alternative = resolve(document, alternative);
            let verb = text(&alternative["properties"]["verb"]["const"]);
            write!(page, "\n`{verb}`: {}\n", text(&alternative["description"])).unwrap();
            fields(page, document, alternative);
        }
        return;
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    page.push_str("\n| field | value | meaning |\n| --- | --- | --- |\n");
    for (name, property) in properties {
        let required = schema["required"].as_array().is_some_and(|required| required.iter().any(|r| r == name));
        let need = if required { "" } else { ", optional" };
        let meaning = text(&property["description"]).replace('\n', " ");
        writeln!(page, "| `{name}` | {}{need} | {meaning} |", value(document, property)).unwrap();
    }
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// What a value may be, in few words.
fn value(document: &Value, schema: &Value) -> String {
    if let Some(place) = schema["$ref"].as_str() {
        let name = place.rsplit('/').next().unwrap();
        let schema = resolve(document, schema);
        return match schema["pattern"].as_str() {
            Some(pattern) => format!("`{}`", escaped(pattern)),
            None => name.to_owned(),
        };
    }
    if let Some(constant) = schema.get("const") {
        return format!("`{constant}`");
    }
    if let Some(alternatives) = schema["anyOf"].as_array() {
        return alternatives.iter().map(|schema| value(document, schema)).collect::<Vec<_>>().join(" or ");
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        kind => text(kind).to_owned(),
    };
    let bounds = match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (Some(least), Some(most)) if most < u64::from(u32::MAX) => format!(", {least} to {most}"),
        (Some(least), _) => format!(", from {least}"),
        _ => String::new(),
    };
    let items = schema.get("items").map_or_else(String::new, |items| format!(" of {}", value(document, items)));
    let pattern = schema["pattern"].as_str().map_or_else(String::new, |pattern| format!(" `{}`", escaped(pattern)));
    format!("{kinds}{items}{bounds}{pattern}")
}

/// A pattern within a table, where a bar would end the cell.
fn escaped(pattern: &str) -> String {
    pattern.replace('|', "\\|")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
