//! The filter and its neighbours.

use std::fs;

use colorfast_core::ids::Digest;
use colorfast_core::names::{ENV_KEYS, ENV_TOKEN};
use data_encoding::BASE64;

use crate::cli::doctor::evidence::{Evidence, Site};
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::plugin::{Code, Plugin};
use crate::cli::doctor::proxy::Extension;

/// Filters that decide who may pass, or what the agent gets to see: ours must see the request as they leave it.
const BEFORE_OURS: [&str; 14] = [
    "api_key_auth",
    "basic_auth",
    "credential_injector",
    "dynamic_modules",
    "ext_authz",
    "ext_proc",
    "grpc_json_transcoder",
    "header_mutation",
    "header_to_metadata",
    "jwt_authn",
    "lua",
    "oauth2",
    "rbac",
    "wasm",
];

/// No listener has the filter.
pub fn absent() -> Finding {
    Finding::problem(
        "no-filter",
        "no listener has the filter",
        "no request gets a slot: every one takes the default route",
        "part (2) of envoy/bootstrap.yaml, before the router",
    )
}

/// The configuration of the plugin.
pub fn configuration(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let refused = |error: &String| {
        Finding::problem(
            "plugin-configuration",
            format!("the plugin's configuration cannot be read: {error}"),
            "the filter refuses it, and Envoy the listener with it",
            r#"{"sidecar_cluster": "colorfast_sidecar", "services": [{"name": "chat"}]}"#,
        )
    };
    site.config.as_ref().err().map(refused).into_iter().collect()
}

/// Two of ours in one chain.
pub fn twice(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let ours = site.http.http_filters.iter().filter(|filter| Plugin::of(filter).is_some()).count();
    let found = (ours > 1).then(|| {
        Finding::problem(
            "filter-twice",
            format!("the filter stands {ours} times in the chain"),
            "the second finds the stamps of the first, and both mint pins for one session",
            "one of them; all services of a listener go into its configuration",
        )
    });
    found.into_iter().collect()
}

/// The place of ours among the filters.
pub fn order(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let filters = &site.http.http_filters;
    let router = filters.iter().position(|filter| filter.is("Router"));
    if router.is_some_and(|router| router < site.at) {
        return vec![Finding::problem(
            "filter-order",
            format!("{} stands after the router", site.filter_name()),
            "the router ends the chain: the filter is never asked",
            "the filter directly before envoy.filters.http.router",
        )];
    }
    let later = filters.iter().skip(site.at + 1).filter(|filter| goes_before(filter));
    let wrong = |filter: &Extension| {
        Finding::problem(
            "filter-order",
            format!("{} stands before {}", site.filter_name(), filter.name),
            "a request that is refused or rewritten after the decision is stamped, counted and pinned as if it had been served",
            format!("{}, then {}, then the router", filter.name, site.filter_name()),
        )
    };
    later.map(wrong).collect()
}

fn goes_before(filter: &Extension) -> bool {
    let kind = filter.kind();
    let family = kind.split("filters.http.").nth(1).and_then(|rest| rest.split('.').next());
    family.is_some_and(|family| BEFORE_OURS.contains(&family)) && Plugin::of(filter).is_none()
}

/// What becomes of requests after a crash.
pub fn failure_policy(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let Plugin { failure_policy, fail_open, .. } = &site.plugin;
    let (what, why) = match (failure_policy.as_str(), fail_open) {
        ("FAIL_RELOAD", _) => return Vec::new(),
        ("FAIL_OPEN", _) | (_, true) => (
            "failure_policy is FAIL_OPEN",
            "after a crash requests pass without a stamp to the default route, away from the bundle they belong to",
        ),
        ("FAIL_CLOSED", _) => {
            ("failure_policy is FAIL_CLOSED", "after a crash a worker answers 503 until Envoy is restarted")
        }
        _ => ("failure_policy is not said", "after a crash a worker answers 503 until Envoy is restarted"),
    };
    vec![Finding::problem("failure-policy", what, why, "failure_policy: FAIL_RELOAD")]
}

/// What the filter finds in its environment.
pub fn environment(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let environment = &site.plugin.vm_config.environment_variables;
    let mut findings = Vec::new();
    for secret in [ENV_TOKEN, ENV_KEYS].into_iter().filter(|name| environment.key_values.contains_key(*name)) {
        findings.push(Finding::problem(
            "secret-in-configuration",
            format!("the value of {secret} stands in the configuration"),
            "whoever reads a configuration dump has it",
            format!("environment_variables: {{ host_env_keys: [{ENV_KEYS}, {ENV_TOKEN}] }}, and {secret} in Envoy's environment"),
        ));
    }
    let given = |name: &str| {
        environment.host_env_keys.iter().any(|key| key == name) || environment.key_values.contains_key(name)
    };
    let has_sidecar = site.config.as_ref().is_ok_and(|config| config.has_sidecar());
    if !has_sidecar && site.config.is_ok() && !given(ENV_KEYS) {
        findings.push(Finding::problem(
            "host-env-keys",
            format!("host_env_keys lacks {ENV_KEYS}"),
            "without keys, which no sidecar brings here, sessions are placed by hash alone and get no pin",
            format!("environment_variables: {{ host_env_keys: [{ENV_KEYS}] }}"),
        ));
    }
    if has_sidecar && !given(ENV_TOKEN) {
        findings.push(Finding::problem(
            "host-env-keys",
            format!("host_env_keys lacks {ENV_TOKEN}"),
            "without the token the sidecar gives the filter no snapshot",
            format!("environment_variables: {{ host_env_keys: [{ENV_KEYS}, {ENV_TOKEN}] }}"),
        ));
    }
    findings
}

/// The code of the filter.
pub fn digest(site: &Site<'_>, evidence: &Evidence) -> Vec<Finding> {
    let Some(release) = &evidence.release else { return Vec::new() };
    let found = match digest_of(&site.plugin.vm_config.code) {
        Ok(Some(digest)) if digest != *release => format!("the filter is {digest}, this release's is {release}"),
        Ok(_) => return Vec::new(),
        Err(error) => error,
    };
    vec![Finding::problem(
        "wasm-digest",
        found,
        "sidecar, command line and filters of one release understand each other; of others that is not tested",
        "the colorfast_filter.wasm that came with this colorfast",
    )]
}

/// None where the code is not to be had here.
fn digest_of(code: &Code) -> Result<Option<Digest>, String> {
    if let Some(hex) = &code.remote.sha256 {
        return format!("sha256:{}", hex.to_ascii_lowercase()).parse().map(Some).map_err(|error| format!("{error}"));
    }
    if let Some(inline) = &code.local.inline_bytes {
        let bytes = BASE64.decode(inline.as_bytes()).map_err(|error| format!("inline_bytes: {error}"))?;
        return Ok(Some(Digest::of(&bytes)));
    }
    let Some(file) = &code.local.filename else { return Ok(None) };
    // Of an Envoy on another machine the file may be missing here: that says nothing.
    Ok(fs::read(file).ok().map(|bytes| Digest::of(&bytes)))
}

/// Whether bodies come to requests that wait for them.
pub fn body_buffering(site: &Site<'_>, _: &Evidence) -> Vec<Finding> {
    let found = (!site.plugin.allow_on_headers_stop_iteration).then(|| {
        Finding::note(
            "stop-iteration",
            "allow_on_headers_stop_iteration is off",
            "session ids in bodies are not found: a service whose session_sources look there takes the next source",
            "allow_on_headers_stop_iteration: true",
        )
    });
    found.into_iter().collect()
}
