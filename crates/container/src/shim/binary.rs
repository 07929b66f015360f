//! The shim's program, in a sealed memory file.
//!
//! One file for all shims, so that they share its pages; sealed, so that a container that reaches it through
//! `/proc/PID/exe` cannot overwrite it (CVE-2019-5736). Replacing the daemon's own file does not touch it either.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::fs::{MemfdFlags, SealFlags};

use super::Error;

const NAME: &CStr = c"madang-shim";

/// The shim's program. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Binary(Arc<OwnedFd>);

impl Binary {
    /// From an ELF file's bytes, which `madang` carries.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        seal(&mut &*bytes).map(|file| Self(Arc::new(file))).map_err(Error::io("copy the shim into memory"))
    }

    /// From a file, as `MADANG_SHIM` names one.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let copy = || seal(&mut File::open(path)?);
        copy().map(|file| Self(Arc::new(file))).map_err(Error::io(format!("read shim {}", path.display())))
    }

    /// Becomes the shim's part of the OCI runtime's command line, to carry out the order in a file. Returns only what
    /// went wrong.
    pub fn carry_out(&self, order: &Path) -> Error {
        use std::os::unix::process::CommandExt;
        let error = std::process::Command::new(self.path()).arg0("madang-shim").arg("make").arg(order).exec();
        Error::io("run the shim's program")(error)
    }

    /// Where the daemon's child finds it to execute.
    pub fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

fn seal(from: &mut impl io::Read) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels from 6.3 want to be told that it is executed; older ones do not know the flag.
    let file = match rustix::fs::memfd_create(NAME, flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(NAME, flags)?,
        other => other?,
    };
    let mut file = File::from(file);
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    if &head != b"\x7fELF" {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an executable file"));
    }
    file.write_all(&head)?;
    io::copy(from, &mut file)?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o555))?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_change_the_program() {
        let binary = Binary::from_bytes(b"\x7fELF and so on").unwrap();
        let seals = rustix::fs::fcntl_get_seals(&*binary.0).unwrap();
        assert_eq!(seals, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL);
        let path = binary.path();
        assert_eq!(std::fs::read(&path).unwrap(), b"\x7fELF and so on");
        for truncate in [false, true] {
            // User 0 may open it all the same; what it writes is refused.
            let opened = std::fs::OpenOptions::new().write(true).truncate(truncate).open(&path);
            assert!(opened.and_then(|mut file| file.write_all(b"other")).is_err());
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"\x7fELF and so on");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(Binary::from_bytes(b"#!/bin/sh").is_err());
        assert!(Binary::from_bytes(b"").is_err());
        assert!(Binary::from_file(Path::new("/etc/hostname")).is_err());
        assert!(Binary::from_file(Path::new("/no/such")).unwrap_err().to_string().contains("/no/such"));
    }
}
