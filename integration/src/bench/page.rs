//! `report.html`: the report at a glance. One file, with nothing from elsewhere.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::bodies::Bodies;
use super::charts;
use super::look_ups::LookUps;
use super::report::{Report, Requests};
use super::room::Room;
use super::table::{known, micros, noise, range, value};
use super::told::Told;
use super::variants::Leg;

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: #24292e; max-width: 1000px; margin: 2em auto; padding: 0 1em; }
h1 { margin-bottom: 0; } h2 { margin-top: 2em; border-bottom: 1px solid #e1e4e8; }
table { border-collapse: collapse; margin: 1em 0; width: 100%; }
th, td { text-align: right; padding: .3em .7em; border-bottom: 1px solid #e1e4e8; }
th:first-child, td:first-child { text-align: left; } tr.sum td { font-weight: 600; border-top: 2px solid #24292e; }
.met { color: #1f8a5b; font-weight: 600; } .missed { color: #b3261e; font-weight: 600; }
.quiet { color: #586069; } svg { max-width: 100%; height: auto; } code { font-size: .95em; }
";

/// The whole page.
///
/// # Errors
/// Where a chart cannot be drawn.
pub fn page(report: &Report) -> Result<String> {
    let machine = &report.machine;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "colorfast " (report.release) ": benchmark" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "colorfast " (report.release) ": what it costs" }
                p.quiet {
                    (machine.cpu) ", " (machine.cores) " cores, " (machine.system) ", Envoy " (machine.envoy) ". "
                    (report.began) ", mode " (report.mode) ", load " (machine.load_before) " when it began. "
                    "How to read it: BENCHMARKS.md."
                }
                (targets(report))
                @if let Some(requests) = &report.requests { (self::requests(requests)?) }
                @if let Some(bodies) = &report.bodies { (self::bodies(bodies)) }
                @if !report.confirmation.is_empty() { (confirmation(report)?) }
                @if let Some(look_ups) = &report.look_ups { (self::look_ups(look_ups)) }
                @if let Some(told) = &report.told { (self::told(told)) }
                @if report.starts.is_some() { (starts(report)) }
                @if let Some(room) = &report.room { (self::room(room)) }
            }
        }
    };
    Ok(markup.into_string())
}

fn targets(report: &Report) -> Markup {
    html! {
        h2 { "Targets" }
        table {
            tr { th { "target" } th { "is" } th { "at most" } th { } }
            @for target in &report.targets {
                tr {
                    td { (target.title) }
                    td { (value(target.value, target.unit)) }
                    td { (value(Some(target.limit), target.unit)) }
                    td { @if target.met { span.met { "met" } } @else { span.missed { "missed" } } }
                }
            }
        }
    }
}

fn requests(requests: &Requests) -> Result<Markup> {
    let leg = |leg: Leg| -> Result<Markup> {
        let (title, costs) = match leg {
            Leg::Direct => ("CPU per request, over direct answers", &requests.direct),
            Leg::Upstream => ("CPU per request, over an agent", &requests.upstream),
        };
        let chart = charts::costs(costs)?;
        Ok(html! {
            h2 { (title) }
            p.quiet {
                "User and system time of one Envoy process that has all variants as listeners; one worker, kept connections; "
                (requests.rounds) " rounds of " (requests.per_round) " requests to each listener, in random order. "
                (noise(requests))
            }
            (PreEscaped(chart))
            table {
                tr { th { "variant" } th { "µs" } th { "quartiles" } th { "adds µs" } th { "second listener" } }
                @for cost in costs {
                    tr {
                        td { (cost.title) }
                        td { (micros(cost.cpu_us.median)) } td { (range(&cost.cpu_us)) }
                        td { (known(&cost.adds_us)) } td { (known(&cost.apart_us)) }
                    }
                }
            }
        })
    };
    let sums = &requests.sums;
    Ok(html! {
        (leg(Leg::Direct)?)
        (leg(Leg::Upstream)?)
        (differences(requests))
        h2 { "Host calls of a request" }
        p.quiet { "Each measured alone in the same run: the slope over how often a filter repeats it." }
        table {
            tr { th { "call" } th { "µs" } th { "quartiles" } th { "by hash" } th { "by pin" } th { "by pin, µs" } }
            @for call in &requests.calls {
                tr {
                    td { (call.title) @if call.call.starts_with("proxy_") { " " code.quiet { (call.call) } } }
                    td { (micros(call.cpu_us.median)) } td { (range(&call.cpu_us)) }
                    td { (call.by_hash) } td { (call.by_pin) }
                    td { (micros(call.cpu_us.median * call.by_pin as f64)) }
                }
            }
            tr.sum {
                td colspan="5" { "together, by pin" }
                td { (micros(sums.by_pin_calls_us + sums.pin_check_us)) }
            }
            tr {
                td colspan="5" { "together, by hash" }
                td { (micros(sums.by_hash_calls_us)) }
            }
        }
    })
}

fn differences(requests: &Requests) -> Markup {
    html! {
        h2 { "Pairs" }
        p.quiet {
            "What one costs beyond the other in the same round."
            @if let Some(bytes) = requests.before_wasm_bytes { " The module of the build of before has " (bytes) " bytes." }
        }
        table {
            tr { th { "pair" } th { } th { "µs" } th { "quartiles" } }
            @for pair in &requests.differences {
                tr {
                    td { (pair.title) } td { (pair.leg.title()) }
                    td { (known(&pair.differs_us)) } td { (range(&pair.differs_us)) }
                }
            }
        }
    }
}

fn bodies(bodies: &Bodies) -> Markup {
    html! {
        h2 { "Bodies that are searched for a session id" }
        p.quiet {
            "CPU of one Envoy process for each body, and the time from the first byte of the request to the last of the answer, one "
            "at a time; " (bodies.rounds) " rounds. “Adds” is beyond the filter that finds the id in a header and lets the body pass."
        }
        table {
            tr {
                th { "way" } th { "bytes" } th { "CPU µs" } th { "adds µs" } th { "p50 ms" } th { "p99" } th { "adds p50" }
                th { "adds p99" }
            }
            @for cost in &bodies.costs {
                tr {
                    td { (cost.way.title()) } td { (cost.bytes) }
                    td { (format!("{:.0}", cost.cpu_us.median)) } td { (known(&cost.adds_us)) }
                    @for ms in [cost.ms.p50, cost.ms.p99, cost.adds_p50_ms, cost.adds_p99_ms] { td { (format!("{ms:.2}")) } }
                }
            }
        }
        table {
            tr { th { "each MiB adds" } th { "CPU µs" } th { "p50 ms" } }
            @for per in &bodies.per_mib {
                tr {
                    td { (per.way.title()) } td { (format!("{:.0}", per.cpu_us)) } td { (format!("{:.2}", per.p50_ms)) }
                }
            }
        }
        p { (bodies.memory) }
    }
}

fn confirmation(report: &Report) -> Result<Markup> {
    let chart = charts::confirmation(&report.confirmation)?;
    Ok(html! {
        h2 { "From the switch command to confirmation" }
        p.quiet {
            "Two real Envoys (one, with one member), all other members simulated on the same machine; milliseconds. "
            "“Command” is what the operator waits for, the process of " code { "colorfast switch" } " included; "
            "“ready” is the first part of a switch, in which proxies come to ask the fleet and tell it their sessions; "
            "“sidecar” is from the append of the second part to the last acknowledgement."
        }
        (PreEscaped(chart))
        table {
            tr {
                th { "members" } th { "switches" } th { "command p50" } th { "p99" } th { "worst" }
                th { "ready p50" } th { "p99" } th { "worst" }
                th { "sidecar p50" } th { "p99" } th { "worst" }
            }
            @for of in &report.confirmation {
                tr {
                    td { (of.members) } td { (of.switches) }
                    @for ms in [
                        of.command_ms.p50, of.command_ms.p99, of.command_ms.max,
                        of.prepared_ms.p50, of.prepared_ms.p99, of.prepared_ms.max,
                        of.sidecar_ms.p50, of.sidecar_ms.p99, of.sidecar_ms.max,
                    ] {
                        td { (format!("{ms:.1}")) }
                    }
                }
            }
        }
    })
}

fn look_ups(of: &LookUps) -> Markup {
    html! {
        h2 { "Look-ups in the fleet" }
        p.quiet {
            "The first request of a session at a proxy that has not seen it, against the second; " (of.look_ups)
            " sessions, one after the other over one connection, while two slots hold sessions."
        }
        table {
            tr { th { "ms" } th { "p50" } th { "p99" } th { "worst" } }
            @for (title, ms) in [("with a look-up", &of.with_look_up_ms), ("by the proxy's own memory", &of.by_memory_ms)] {
                tr {
                    td { (title) }
                    @for ms in [ms.p50, ms.p99, ms.max] { td { (format!("{ms:.2}")) } }
                }
            }
            tr.sum {
                td { "a look-up adds" }
                td { (format!("{:.2}", of.added_p50_ms)) } td { (format!("{:.2}", of.added_p99_ms)) } td { }
            }
        }
    }
}

fn told(told: &Told) -> Markup {
    html! {
        h2 { "An answer that waits until the fleet knows its id" }
        p.quiet {
            (told.answers) " answers of each kind, one after the other and in turn, each of which hands out a new id in its "
            "body, while two slots hold sessions."
        }
        table {
            tr { th { "ms" } th { "p50" } th { "p99" } th { "worst" } }
            @for wait in &told.waits {
                tr {
                    td { code { "tell_wait_ms: " (wait.tell_wait_ms) } }
                    @for ms in [wait.answer_ms.p50, wait.answer_ms.p99, wait.answer_ms.max] { td { (format!("{ms:.2}")) } }
                }
            }
        }
    }
}

fn room(room: &Room) -> Markup {
    // Enough of the looks to see how it goes.
    let looks = room.fill.iter().step_by(4);
    html! {
        h2 { "Many sessions" }
        p { (room) }
        table {
            tr { th { "sessions" } th { "evictions" } th { "resident, MiB" } }
            @for fill in looks {
                tr {
                    td { (fill.came) } td { (fill.evictions) }
                    td { (format!("{:.2}", fill.resident_kib as f64 / 1024.0)) }
                }
            }
        }
    }
}

fn starts(report: &Report) -> Markup {
    let Some(starts) = &report.starts else { return html! {} };
    html! {
        h2 { "Start and memory" }
        p {
            "The filter adds " strong { (format!("{:.0} ms", starts.added_ms)) } " to the start of an Envoy (from the "
            "start of the process to the first answer: " (format!("{:.0}", starts.without_filter_ms.median)) " ms without, "
            (format!("{:.0}", starts.with_filter_ms.median)) " ms with it), and "
            strong { (format!("{:.1} MiB", starts.vm_kib / 1024.0)) } " of memory to each worker, beside the "
            (format!("{:.1} MiB", starts.worker_kib / 1024.0)) " that a worker takes anyway. The module has "
            strong { (starts.wasm_bytes) } " bytes."
        }
        table {
            tr { th { "workers" } th { "MiB without the filter" } th { "with it" } }
            @for memory in &starts.memory {
                tr {
                    td { (memory.workers) }
                    @for kib in [memory.without_filter_kib, memory.with_filter_kib] {
                        td { (format!("{:.1}", kib as f64 / 1024.0)) }
                    }
                }
            }
        }
    }
}
