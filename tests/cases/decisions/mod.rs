//! The rules of a decision, as tables: each row runs against core natively, against the built filter, and through
//! `why`.

mod memory;
mod native;
mod pins;
mod table;
mod tokens;
mod wasm;
mod why;

use table::Table;

/// Every row of a table, three ways.
fn run(table: &str) {
    let table = Table::parse(table);
    for case in &table.cases {
        println!("{}: {}", case.promise, case.name);
        native::check(case);
        wasm::check(case);
        why::check(case);
    }
}

/// Kept: rules are tried in their order, and a session stays where its pin says.
#[test]
fn rules() {
    run(include_str!("../../scenarios/rules.yaml"));
}

/// Unforgeable: a pin that is not to be honoured decides nothing, and its cause is counted.
#[test]
fn refused_pins() {
    run(include_str!("../../scenarios/refused_pins.yaml"));
}

/// Kept: a session that was seen before stays where it began, though its client echoes nothing.
#[test]
fn remembered() {
    run(include_str!("../../scenarios/memory.yaml"));
}

/// Unforgeable: a preview token reaches what no session does, for its time and its service alone, and leaves nothing.
#[test]
fn previews() {
    run(include_str!("../../scenarios/previews.yaml"));
}

/// Kept: a run stays on the bundle that it began on; whoever made its token up gains nothing by it.
#[test]
fn runs() {
    run(include_str!("../../scenarios/runs.yaml"));
}

/// Kept: a pin holds by age and by use, across clocks that differ and keys that are changed.
#[test]
fn pin_ages() {
    run(include_str!("../../scenarios/pin_ages.yaml"));
}

/// Reversible: what each phase of a slot does to new sessions and to pins.
#[test]
fn phases() {
    run(include_str!("../../scenarios/phases.yaml"));
}

/// Kept: the session id is bytes, whatever they are, from wherever the settings say.
#[test]
fn session_ids() {
    run(include_str!("../../scenarios/session_ids.yaml"));
}

/// Last good: what is decided by while there is no sidecar, or no key.
#[test]
fn starts() {
    run(include_str!("../../scenarios/starts.yaml"));
}
