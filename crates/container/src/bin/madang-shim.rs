//! The shim's program: `pod` is the shim of a pod, `make` a part of the OCI runtime's command line, `step` what runs a pipeline's
//! steps; run by the name `/pause` it is the first process of a shared process namespace.

use std::process::exit;

fn main() {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    if name.is_some_and(|name| name == container::pause::NAME) {
        container::pause::main();
    }
    match arguments.next().as_ref().and_then(|argument| argument.to_str()) {
        Some("pod") => exit(container::pod::main()),
        Some("make") => exit(container::command::main(arguments.next().as_ref().and_then(|file| file.to_str()))),
        Some("step") => {
            let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
            exit(container::step::main(&words))
        }
        _ => {
            eprintln!("madang-shim is run by madang");
            exit(2)
        }
    }
}
