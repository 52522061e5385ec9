//! Golden decisions: a million of them, natively and in wasm, against numbers that are committed.

use std::thread;

use colorfast_golden::{PLANS, digest};
use wasm_host::wasm_path;
use wasmi::{Caller, Config, Engine, Error, ExternType, Instance, Linker, Module, Store, Val};

/// Requests under each plan.
const REQUESTS: u64 = 100_000;

/// What a proxy of any release must come to. A change here moves sessions that carry no pin: never without need, and
/// never without saying so in the changelog.
const GOLDEN: [u64; PLANS.len()] = [
    0x12d0_7d07_670d_801d,
    0xc504_04d3_daff_800d,
    0x555b_1c6c_bd8e_9594,
    0x2515_ffd6_3476_2644,
    0xe46a_e4d0_780c_a5a1,
    0x0c18_308f_664f_ae3d,
    0x22d8_78a3_7ad0_a0db,
    0x2c02_0282_d318_9953,
    0x08f2_b852_c084_8764,
    0x65ec_ed49_4161_8f30,
];

/// Split: all proxies agree, today's with yesterday's, on every hashed session (native).
#[test]
fn native_decisions_are_golden() {
    assert_eq!(PLANS.map(|weights| digest(weights, 0..REQUESTS)), GOLDEN);
}

/// Split: all proxies agree, wasm with native, on every hashed session.
#[test]
fn wasm_decisions_are_golden() {
    let path = wasm_path().unwrap().with_file_name("colorfast_golden.wasm");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `make wasm`", path.display()));
    let engine = Engine::new(&Config::default());
    let module = Module::new(&engine, bytes).unwrap();
    // Half of the plans on each of two threads.
    let (few, many) = (0..PLANS.len() as u32).partition::<Vec<_>, _>(|plan| plan % 2 == 0);
    let run = |plans: Vec<u32>| -> Vec<(u32, u64)> {
        let (mut store, instance) = start(&engine, &module);
        let digest = instance.get_typed_func::<(u32, u64, u64), u64>(&store, "golden_digest").unwrap();
        let digest = |plan| digest.call(&mut store, (plan, 0, REQUESTS)).unwrap();
        plans.iter().copied().zip(plans.iter().copied().map(digest)).collect()
    };
    let mut digests = thread::scope(|scope| {
        let many = scope.spawn(|| run(many));
        [run(few), many.join().unwrap()].concat()
    });
    digests.sort_unstable();
    assert_eq!(digests.into_iter().map(|(_, digest)| digest).collect::<Vec<_>>(), GOLDEN);
}

/// Pure rules need no host: whatever the module imports beside them is never called.
fn start(engine: &Engine, module: &Module) -> (Store<()>, Instance) {
    let mut store = Store::new(engine, ());
    let mut linker = Linker::new(engine);
    for import in module.imports() {
        let ExternType::Func(signature) = import.ty() else { continue };
        let name = import.name().to_owned();
        let trap = move |_: Caller<'_, ()>, _: &[Val], _: &mut [Val]| Err(Error::new(format!("{name} was called")));
        linker.func_new(import.module(), import.name(), signature.clone(), trap).unwrap();
    }
    let instance = linker.instantiate_and_start(&mut store, module).unwrap();
    (store, instance)
}
