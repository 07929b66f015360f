//! Archives in the form that Linux unpacks as its first file system.
//!
//! Specification: <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>

use std::{
    fs,
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// The entry after the last.
const END: &str = "TRAILER!!!";

/// An archive that is being written. Directories come before what is in them.
#[derive(Debug)]
pub struct Archive<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    /// A directory of root's.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    /// A file of root's.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | mode, (0, 0), content)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, LINK | 0o777, (0, 0), target.as_bytes())
    }

    /// Everything below `from`, with modes and owners, below `to`; empty for the root. Devices and sockets are left out.
    pub fn tree(&mut self, to: &str, from: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{} is not UTF-8", name.display()))
            })?;
            let path = if to.is_empty() { name } else { format!("{to}/{name}") };
            let meta = entry.metadata()?;
            let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
            if meta.is_dir() {
                self.entry(&path, mode, owner, &[])?;
                self.tree(&path, &entry.path())?;
            } else if meta.is_symlink() {
                self.entry(&path, mode, owner, fs::read_link(entry.path())?.as_os_str().as_bytes())?;
            } else if meta.is_file() {
                self.entry(&path, mode, owner, &fs::read(entry.path())?)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(END, 0, (0, 0), &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &str, mode: u32, owner: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let length = u32::try_from(content.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{path} is larger than 4 GiB")))?;
        // Number, mode, owners, links, time, length, device (4), length of the name with its end, no checksum.
        let fields = [self.entries, mode, owner.0, owner.1, 1, 0, length, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        let mut head = "070701".to_owned();
        for field in fields {
            head.push_str(&format!("{field:08x}"));
        }
        head.push_str(path);
        head.push('\0');
        self.padded(head.as_bytes())?;
        self.padded(content)
    }

    /// Every part begins at a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.to.write_all(&[0; 3][..bytes.len().wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("d").unwrap();
        archive.file("d/f", 0o644, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let head = |at: usize| std::str::from_utf8(&bytes[at..at + 110]).unwrap().to_owned();
        assert_eq!(
            head(0),
            format!("070701{:08x}{:08x}{}", 1, 0o040_755, "00000000000000000000000100000000")
                + &"0".repeat(40)
                + "0000000200000000"
        );
        // 110 bytes and a name of two, padded to 112; no content.
        assert_eq!(&bytes[110..112], b"d\0");
        assert_eq!(&head(112)[6 + 6 * 8..6 + 7 * 8], "00000005");
        assert_eq!(&bytes[222..226], b"d/f\0");
        // 114 bytes padded to 116, the content's 5 to 8.
        assert_eq!(&bytes[228..236], b"hello\0\0\0");
        assert!(bytes[236..].windows(11).any(|window| window == b"TRAILER!!!\0"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
