//! What must not be lost: how containers ended, one JSON object a line, on disk before anyone hears of it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{command::json_text, protocol};

/// The open file.
#[derive(Debug)]
pub struct Exits {
    file: File,
    /// Until its name is on disk too.
    directory: Option<File>,
}

impl Exits {
    /// Opens `exits` in the sandbox's directory.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(directory.join("exits"))?;
        Ok(Self { file, directory: Some(File::open(directory)?) })
    }

    /// Writes one exit and waits until the disk has it. A line is one write, so a crash leaves it whole, cut or absent.
    pub fn write(&mut self, id: &str, exit: &protocol::Exit) -> io::Result<()> {
        let line = format!(
            "{{\"id\":{},\"code\":{},\"signal\":{},\"oom\":{},\"finished_at\":{}}}",
            json_text(id),
            exit.code,
            exit.signal,
            exit.oom,
            exit.finished_at
        );
        // After a crash had cut the last line, the next begins on its own.
        let line = format!("\n{line}\n");
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        if let Some(directory) = self.directory.take() {
            directory.sync_all()?;
        }
        Ok(())
    }
}
