//! Acknowledged survives a loss of power.
//!
//! A process that is killed leaves its unsynced writes to the kernel, so killing alone would not miss a sync. Here the store
//! is on a file system of its own, on a loop device, that writes back nothing by itself. The file behind the device is then
//! what a disk would hold if the power went away: only what was synced. It is copied right after the kill, and the copy is
//! mounted and opened.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::crash::{Model, random, run_and_kill};

const LOSSES: u64 = 12;

/// A mounted disk image.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn mount(image: PathBuf, at: PathBuf) -> Result<Self, String> {
        std::fs::create_dir_all(&at).map_err(|error| error.to_string())?;
        // The journal is not committed by itself for as long as the test runs.
        run(Command::new("mount").args(["-o", "loop,commit=3000"]).arg(&image).arg(&at))?;
        Ok(Self { image, at })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if run(Command::new("umount").arg(&self.at)).is_err() {
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.at));
        }
        let _ = std::fs::remove_file(&self.image);
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// An empty disk; says so when there can be none, and fails where there must be one.
fn disk(dir: &Path) -> Option<Disk> {
    let made = (|| {
        let image = dir.join("0.img");
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(128 << 20).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        Disk::mount(image, dir.join("0"))
    })();
    match made {
        Ok(disk) => Some(disk),
        Err(error) => {
            let possible = Path::new("/dev/loop-control").exists();
            assert!(std::env::var_os("CI").is_none() || !possible, "a disk image cannot be mounted: {error}");
            eprintln!("did not run: a disk image cannot be mounted: {error}");
            None
        }
    }
}

#[test]
fn every_acknowledged_revision_survives_a_loss_of_power() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let Some(mut disk) = disk(dir.path()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let mut seed = 7;
    let mut model = Model::default();
    let mut acknowledged = 0;
    for loss in 1..=LOSSES {
        let told = run_and_kill(&disk.at.join("store"), Duration::from_micros(random(&mut seed) % 150_000));
        let copy = dir.path().join(format!("{loss}.img"));
        run(Command::new("cp").arg("--sparse=always").arg(&disk.image).arg(&copy)).expect("copy the disk");
        acknowledged += told.len();
        drop(disk);
        disk = Disk::mount(copy, dir.path().join(loss.to_string())).expect("mount the copy");
        runtime.block_on(model.check(&disk.at.join("store"), told));
    }
    println!("{LOSSES} losses of power, {acknowledged} acknowledged transactions, all there");
}
