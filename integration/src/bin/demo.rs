//! `make demo`: see [`integration::demo`].

use std::process::ExitCode;

fn main() -> ExitCode {
    integration::demo::main()
}
