//! `make bench`: see [`integration::bench`].

use std::process::ExitCode;

fn main() -> ExitCode {
    integration::bench::main()
}
