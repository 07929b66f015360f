//! Tar archives made by hand, good and bad.

#![allow(dead_code)]

use std::io::Write;

/// One header; the fields are written as they are.
#[derive(Clone)]
pub struct Header<'a> {
    pub path: &'a str,
    pub kind: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: u64,
    pub link: &'a str,
    pub device: (u32, u32),
}

impl Default for Header<'_> {
    fn default() -> Self {
        Self {
            path: "",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 1_000_000_000,
            link: "",
            device: (0, 0),
        }
    }
}

impl Header<'_> {
    pub fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, self.path.as_bytes());
        put(100, format!("{:07o}", self.mode).as_bytes());
        for (at, id) in [(108, self.uid), (116, self.gid)] {
            match id < 1 << 21 {
                true => put(at, format!("{id:07o}").as_bytes()),
                false => put(at, &(id | 1 << 63).to_be_bytes()),
            }
        }
        match self.size < 1 << 33 {
            true => put(124, format!("{:011o}", self.size).as_bytes()),
            false => {
                put(124, &[0x80, 0, 0, 0]);
                put(128, &self.size.to_be_bytes());
            }
        }
        put(136, format!("{:011o}", self.mtime).as_bytes());
        put(156, &[self.kind]);
        put(157, self.link.as_bytes());
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

impl Header<'_> {
    /// An archive that begins with this entry.
    pub fn with(self, content: &[u8]) -> Tar {
        Tar::new().entry(self, content)
    }
}

/// Writes the checksum.
pub fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// An archive being made.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn padded(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn header(self, header: Header<'_>) -> Self {
        let block = header.block();
        self.raw(&block)
    }

    pub fn entry(self, header: Header<'_>, content: &[u8]) -> Self {
        self.header(Header { size: content.len() as u64, ..header }).padded(content)
    }

    pub fn file(self, path: &str, content: &str) -> Self {
        self.entry(Header { path, ..Header::default() }, content.as_bytes())
    }

    pub fn directory(self, path: &str) -> Self {
        self.header(Header { path, kind: b'5', mode: 0o755, ..Header::default() })
    }

    pub fn symlink(self, path: &str, link: &str) -> Self {
        self.header(Header { path, link, kind: b'2', mode: 0o777, ..Header::default() })
    }

    pub fn hard_link(self, path: &str, link: &str) -> Self {
        self.header(Header { path, link, kind: b'1', ..Header::default() })
    }

    pub fn device(self, path: &str, kind: u8, device: (u32, u32)) -> Self {
        self.header(Header { path, kind, device, ..Header::default() })
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            write!(body, "{length} {key}=").unwrap();
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.entry(Header { path: "PaxHeaders/x", kind: b'x', ..Header::default() }, &body)
    }

    pub fn finish(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}
