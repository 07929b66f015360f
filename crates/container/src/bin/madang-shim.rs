//! The shim's program: `pod` is the shim of a pod, `pause` the first process of a shared process namespace.

use std::process::exit;

fn main() {
    let argument = std::env::args_os().nth(1);
    match argument.as_ref().and_then(|argument| argument.to_str()) {
        Some("pod") => exit(container::pod::main()),
        Some("pause") => container::pause::main(),
        _ => {
            eprintln!("madang-shim is run by madang");
            exit(2)
        }
    }
}
