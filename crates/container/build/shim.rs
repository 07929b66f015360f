// Builds the shim's program. Included by the build script of whoever carries it:
//
//     include!("../container/build/shim.rs");
//     fn main() { build_shim(); }
//
// and then, in the crate:
//
//     static SHIM: &[u8] = include_bytes!(env!("MADANG_SHIM_FILE"));
//     let binary = container::shim::Binary::from_bytes(SHIM)?;
//
// `MADANG_SHIM=FILE` takes a file instead. Otherwise cargo is run again: with a target directory of its own, because the
// outer cargo holds the lock of the other; with `--target`, because static linking breaks procedural macros without it;
// without the flags and wrappers of the outer one, which are meant for other programs. The result is a static
// executable without relocations, so that all shims share its pages.

/// Sets `MADANG_SHIM_FILE` for the crate that is being built.
fn build_shim() {
    use std::{env, path::Path, path::PathBuf, process::Command};

    println!("cargo::rerun-if-env-changed=MADANG_SHIM");
    if let Some(file) = env::var_os("MADANG_SHIM").filter(|file| !file.is_empty()) {
        let file = PathBuf::from(file);
        assert!(file.is_file(), "MADANG_SHIM names {}, which is not a file", file.display());
        println!("cargo::rerun-if-changed={}", file.display());
        println!("cargo::rustc-env=MADANG_SHIM_FILE={}", file.display());
        return;
    }
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest.parent().and_then(Path::parent).expect("a crate below crates/").to_owned();
    let container = workspace.join("crates/container");
    for path in ["src", "Cargo.toml", "build/shim.rs"] {
        println!("cargo::rerun-if-changed={}", container.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());
    // …/target/PROFILE/build/CRATE-HASH/out, perhaps with a triple before the profile.
    let out = PathBuf::from(variable("OUT_DIR"));
    let build = out.ancestors().find(|path| path.ends_with("build")).expect("a directory of build scripts");
    let target_directory = build.parent().and_then(Path::parent).expect("a target directory").join("shim");
    let target = variable("TARGET");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(&workspace)
        .args(["build", "--quiet", "--package", "container", "--bin", "madang-shim", "--no-default-features"])
        .args(["--profile", "shim", "--target", &target, "--target-dir"])
        .arg(&target_directory)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    // The profile and the features are the shim's own, whatever the outer ones were changed to.
    let outer = ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"];
    let foreign = |name: &str| {
        outer.contains(&name)
            || ["CARGO_PROFILE_", "CARGO_UNSTABLE_", "CARGO_RESOLVER_"].iter().any(|start| name.starts_with(start))
    };
    for (name, _) in env::vars_os().filter(|(name, _)| foreign(&name.to_string_lossy())) {
        cargo.env_remove(name);
    }
    let status = cargo.status().expect("run cargo for the shim");
    assert!(status.success(), "the shim's build failed: {status}");
    let file = target_directory.join(target).join("shim/madang-shim");
    println!("cargo::rustc-env=MADANG_SHIM_FILE={}", file.display());
}
