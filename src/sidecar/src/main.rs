//! colorfast: the sidecar (`colorfast serve`) and the command line of the operator, one binary.

mod api;
mod cli;
mod data_dir;
#[cfg(test)]
mod docs;
mod replace;
mod server;
mod store;

fn main() -> std::process::ExitCode {
    cli::main()
}
