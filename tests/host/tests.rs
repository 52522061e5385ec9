//! The host against guests of a few lines, each one odd in a single way.

use crate::{Action, Cause, HeaderPause, Plugin, Process, Status, Vm, Wasm};

/// A guest with memory, an allocator, and these imports and functions.
fn guest(imports: &str, functions: &str) -> Wasm {
    let text = format!(
        r#"(module
            (import "env" "proxy_set_tick_period_milliseconds" (func $tick_every (param i32) (result i32)))
            (import "env" "proxy_set_effective_context" (func $speak_for (param i32) (result i32)))
            (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
            {imports}
            (memory (export "memory") 1)
            (global $free (mut i32) (i32.const 4096))
            (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
                (global.get $free)
                (global.set $free (i32.add (global.get $free) (local.get $size))))
            (func (export "_initialize"))
            {functions}
        )"#
    );
    Wasm::from_bytes(text).expect("a module")
}

fn start(wasm: &Wasm) -> Vm {
    Process::new().start(wasm, Plugin::config("")).expect("a VM")
}

/// An import that nobody plays does no harm until it is called; then it is named, and the VM is dead.
#[test]
fn an_unknown_import_fails_by_name_when_called() {
    let wasm = guest(
        r#"(import "env" "proxy_from_the_future" (func $future (param i64) (result i32)))"#,
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $future (i64.const 1)))"#,
    );
    let vm = start(&wasm);
    let error = vm.stream().request_headers([(":path", "/")]).unwrap_err();
    let unknown = Cause::UnknownImport("env.proxy_from_the_future".to_owned());
    assert_eq!((error.cause, error.during.as_str()), (unknown.clone(), "proxy_on_request_headers"));
    let error = vm.stream().request_headers([(":path", "/")]).unwrap_err();
    assert_eq!(error.cause, Cause::Dead(Box::new(unknown)));
}

/// A guest that never returns is stopped, by name.
#[test]
fn an_endless_loop_ends() {
    let wasm = guest(
        "",
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (loop $l (br $l)) (i32.const 1))"#,
    );
    let error = Process::new().start(&wasm, Plugin::config("").fuel(100_000)).err().expect("an error");
    assert_eq!((error.cause, error.during.as_str()), (Cause::Endless { fuel: 100_000 }, "proxy_on_vm_start"));
}

/// A guest that refuses its configuration does not start.
#[test]
fn a_refused_configuration_is_an_error() {
    let wasm = guest("", r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 0))"#);
    let error = Process::new().start(&wasm, Plugin::config("{}")).err().expect("an error");
    assert_eq!((error.cause, error.during.as_str()), (Cause::Refused, "proxy_on_configure"));
}

/// A pointer outside the guest's memory is refused, and noted.
#[test]
fn pointers_are_checked() {
    let wasm = guest(
        r#"(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))"#,
        r#"(func (export "proxy_on_log") (param i32) (drop (call $log (i32.const 2) (i32.const 65535) (i32.const 2))))"#,
    );
    let vm = start(&wasm);
    vm.stream().finish().unwrap();
    let complaints = vm.complaints();
    assert_eq!(complaints[0].import, "proxy_log");
    assert_eq!(complaints[0].status, Status::InvalidMemoryAccess);
}

/// A root that set no tick period is never ticked, and asking for it does not harm the VM.
#[test]
fn no_tick_without_a_period() {
    let vm = start(&guest("", ""));
    assert!(matches!(vm.tick().unwrap_err().cause, Cause::Misuse(_)));
    assert_eq!(vm.stream().request_headers([(":path", "/")]).unwrap(), Action::Continue);
}

/// Pauses every request, and the body too; its tick continues the first stream.
const WAITS: &str = r#"
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $tick_every (i32.const 100))) (i32.const 1))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))
    (func (export "proxy_on_tick") (param i32)
        (drop (call $speak_for (i32.const 2)))
        (drop (call $continue (i32.const 0))))"#;

/// Without the flag, a body waits unseen behind paused headers, and comes whole once the root continues.
#[test]
fn a_body_is_held_behind_paused_headers() {
    let vm = start(&guest("", WAITS));
    let stream = vm.stream();
    assert_eq!(stream.request_headers_before_body([(":path", "/")]).unwrap(), Action::Pause);
    assert_eq!(stream.request_body("one ").unwrap(), Action::Held);
    assert_eq!(stream.request_body_last("two").unwrap(), Action::Held);
    assert_eq!(stream.forwarded_request(), None);
    vm.tick().unwrap();
    assert_eq!(stream.continued_by(), Some(vm.root().id()));
    assert!(stream.forwarded_request().is_some());
    assert_eq!(stream.forwarded_request_body(), b"one two");
    assert_eq!(vm.complaints(), []);
}

/// With the flag, a body callback that continues lets the paused headers go.
#[test]
fn a_continued_body_releases_paused_headers_with_the_flag() {
    let plugin = Plugin::config("").header_pause(HeaderPause::Headers);
    let vm = Process::new().start(&guest("", WAITS), plugin).unwrap();
    let stream = vm.stream();
    assert_eq!(stream.request_headers_before_body([(":path", "/")]).unwrap(), Action::Pause);
    assert_eq!(stream.request_body("one").unwrap(), Action::Continue);
    assert!(stream.forwarded_request().is_some());
}

/// Continuing what does not wait is noted: it is a race in the guest.
#[test]
fn continuing_twice_is_noted() {
    let vm = start(&guest("", WAITS));
    vm.stream().request_headers([(":path", "/")]).unwrap();
    vm.tick().unwrap();
    assert_eq!(vm.complaints(), []);
    vm.tick().unwrap();
    assert_eq!(vm.complaints()[0].import, "proxy_continue_stream");
}
