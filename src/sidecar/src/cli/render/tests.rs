use colorfast_core::ids::{Epoch, KeyId};
use colorfast_core::keys::Ring;
use colorfast_core::time::UnixMillis;

use super::*;

fn snapshot(service: &str, version: u64) -> Snapshot {
    let ring = Some(Ring { signing: KeyId(1), verifying: vec![KeyId(1)] });
    let epoch = Epoch(UnixMillis(1_795_258_707_000));
    Snapshot { epoch, version, ring, ..Snapshot::empty(service.parse().unwrap()) }
}

/// The plugin configurations in a rendered text, as a filter reads them.
fn configurations(text: &str) -> Vec<PluginConfig> {
    fn walk(value: &Value, found: &mut Vec<PluginConfig>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(fields) if fields.get("@type") == Some(&json!(STRING_VALUE)) => {
                found.extend(json::read(fields["value"].as_str().unwrap().as_bytes()));
            }
            Value::Object(fields) => fields.values().for_each(|field| walk(field, found)),
            _ => {}
        }
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let mut found = Vec::new();
    documents.iter().for_each(|document| walk(document, &mut found));
    found
}

fn refusal(text: &str, snapshots: &[Snapshot]) -> String {
    match fill("filter.yaml", text, snapshots) {
        Err(Failure::Told(told)) => told.problem.detail,
        found => panic!("{found:?}"),
    }
}

/// Both shipped configurations take the snapshot of a service of any name, and say nothing else than before.
#[test]
fn shipped_configurations_are_filled() {
    for format in [Shipped::Istio, Shipped::Envoy] {
        let snapshots = [snapshot("support", 7)];
        let text = fill("shipped", &shipped(format, &snapshots).unwrap(), &snapshots).unwrap();
        let found = configurations(&text);
        assert_eq!(found.len(), 1, "{text}");
        assert_eq!(found[0].services[0].snapshot.as_ref(), Some(&snapshots[0]));
        assert_eq!(found[0].validate(), Ok(()));
        assert!(
            text.starts_with(&format!(
                "# Rendered by colorfast {}: support 1795258707000.7. ",
                env!("CARGO_PKG_VERSION")
            ))
        );
        let shipped: Vec<Value> = serde_saphyr::from_multiple(format.text()).unwrap();
        let mut rendered: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let place = match format {
            Shipped::Istio => "/spec/configPatches/0/patch/value/typed_config/config/configuration/value",
            Shipped::Envoy => "/resources/0/typed_config/config/configuration/value",
        };
        *rendered[0].pointer_mut(place).unwrap() = shipped[0].pointer(place).unwrap().clone();
        assert_eq!(rendered, shipped);
    }
}

/// A file of one's own keeps its documents and its services; each service of the store gets its snapshot, and one from
/// before makes room for the newer.
#[test]
fn own_files_are_filled() {
    let text = r#"
kind: Service
---
kind: EnvoyFilter
a:
  - configuration: {"@type": type.googleapis.com/google.protobuf.StringValue, value: '{"sidecar_cluster": "s", "services": [
      {"name": "chat", "match": {"hosts": ["chat.example.com"]}}, {"name": "code"}, {"name": "other"}]}'}
  - {"@type": type.googleapis.com/google.protobuf.StringValue, value: "something else"}
"#;
    let once = fill("filter.yaml", text, &[snapshot("chat", 7), snapshot("code", 9)]).unwrap();
    let twice = fill("filter.yaml", &once, &[snapshot("chat", 8)]).unwrap();
    assert!(twice.contains("kind: Service\n---\n") && twice.contains("something else"), "{twice}");
    let found = configurations(&twice);
    let versions: Vec<_> =
        found[0].services.iter().map(|service| service.snapshot.as_ref().map(|snapshot| snapshot.version)).collect();
    assert_eq!(versions, [Some(8), Some(9), None]);
    assert_eq!(found[0].services[0].matches.hosts, ["chat.example.com"]);
}

/// What cannot be filled is refused with what was looked for, and where.
#[test]
fn what_has_no_place_is_refused() {
    let chat = [snapshot("chat", 7)];
    assert!(refusal("a: b", &chat).contains("filter.yaml: there is no plugin configuration in it"));
    let with =
        |json: &str| format!("a: {{\"@type\": type.googleapis.com/google.protobuf.StringValue, value: '{json}'}}");
    assert!(
        refusal(&with(r#"{"services": [{"name": "code"}]}"#), &chat).contains("names code, and the store has chat")
    );
    let two = with(r#"{"services": [{"name": "chat"}, {"name": "code"}]}"#);
    assert!(refusal(&two, &chat).contains("plugin configuration: sidecar_cluster: is empty"));
    assert!(refusal("a: [", &chat).contains("filter.yaml: is no YAML"));
    let both = [snapshot("chat", 7), snapshot("code", 9)];
    let Err(Failure::Told(told)) = shipped(Shipped::Istio, &both) else { panic!("taken") };
    assert!(told.problem.detail.ends_with("the store has chat, code"), "{}", told.problem.detail);
}

/// A file that is watched for is replaced at once, and nothing is left beside it.
#[test]
fn files_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("colorfast.yaml");
    let args = Render { format: Shipped::Envoy, template: None, output: Some(path.clone()) };
    for version in [7, 8] {
        run(
            &args,
            vec![snapshot("chat", version), snapshot("code", 9)],
            Some(&"chat".parse().unwrap()),
            &Output::plain(),
        )
        .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(configurations(&text)[0].services[0].snapshot.as_ref().unwrap().version, version);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
