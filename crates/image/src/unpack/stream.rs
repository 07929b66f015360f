//! From the compressed bytes of a layer to its archive: decompressed, hashed, counted and bounded as it passes.

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

use oci::{
    Digest,
    digest::{Algorithm, Hasher},
    media::Compression,
};

use super::Limits;

/// Bytes hashed at a time.
const CHUNK: usize = 128 << 10;
/// Largest window that a zstd frame may ask for, as a power of two: 128 MiB, the format's default bound.
const ZSTD_WINDOW: u32 = 27;

/// How a stream of xz begins, as far as it is looked at.
const XZ: &[u8] = b"\xfd7zX";

/// The archive within a compressed layer.
pub(super) struct Layer<'a> {
    input: Decoder<'a>,
    compressed: Rc<Cell<u64>>,
    hasher: Hasher,
    limits: Limits,
    buffer: Vec<u8>,
    /// The part of `buffer` not yet taken.
    start: usize,
    end: usize,
}

enum Decoder<'a> {
    Plain(Counted<'a>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Counted<'a>>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Counted<'a>>>>),
    /// Of archives that are no layers, as `ADD` takes them.
    Bzip2(Box<bzip2_rs::DecoderReader<BufReader<Counted<'a>>>>),
    /// Likewise.
    Xz(Box<lzma_rust2::XzReader<BufReader<Counted<'a>>>>),
}

/// Counts compressed bytes.
struct Counted<'a> {
    input: Box<dyn Read + 'a>,
    count: Rc<Cell<u64>>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.count.set(self.count.get() + length as u64);
        Ok(length)
    }
}

/// Marks errors that stand for a bound rather than for damage.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Exceeded(String);

impl<'a> Layer<'a> {
    /// Looks at the first bytes to tell the compression.
    pub fn new(mut input: impl Read + 'a, limits: &Limits) -> io::Result<Self> {
        let mut prefix = Vec::with_capacity(Compression::PREFIX);
        (&mut input).take(Compression::PREFIX as u64).read_to_end(&mut prefix)?;
        let compression = Compression::of_content(&prefix);
        // Layers are packed by gzip or zstd alone.
        let (bzip2, xz) = (limits.plain && prefix.starts_with(b"BZh"), limits.plain && prefix == XZ);
        let compressed = Rc::new(Cell::new(0));
        let input = Counted { input: Box::new(io::Cursor::new(prefix).chain(input)), count: compressed.clone() };
        let buffered = |input| BufReader::with_capacity(64 << 10, input);
        let input = match compression {
            Compression::None if bzip2 => Decoder::Bzip2(Box::new(bzip2_rs::DecoderReader::new(buffered(input)))),
            Compression::None if xz => Decoder::Xz(Box::new(lzma_rust2::XzReader::new(buffered(input), true))),
            Compression::None => Decoder::Plain(input),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(input)))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered(input))?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok(Self {
            input,
            compressed,
            hasher: Hasher::new(Algorithm::Sha256),
            limits: limits.clone(),
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
        })
    }

    /// The digest of all that was read: the layer's diff id, once the end was seen.
    pub fn diff_id(self) -> Digest {
        self.hasher.finish()
    }

    fn refill(&mut self) -> io::Result<()> {
        let length = match &mut self.input {
            Decoder::Plain(input) => input.read(&mut self.buffer),
            Decoder::Gzip(input) => input.read(&mut self.buffer),
            Decoder::Zstd(input) => input.read(&mut self.buffer),
            Decoder::Bzip2(input) => input.read(&mut self.buffer),
            Decoder::Xz(input) => input.read(&mut self.buffer),
        }?;
        (self.start, self.end) = (0, length);
        self.hasher.update(&self.buffer[..length]);
        let seen = self.hasher.seen();
        let exceeded = |text: String| Err(io::Error::other(Exceeded(text)));
        if seen > self.limits.bytes {
            return exceeded(format!("layer is larger than {} bytes", self.limits.bytes));
        }
        if seen > self.limits.ratio_floor && seen / self.limits.ratio > self.compressed.get() {
            return exceeded(format!(
                "layer expands more than {} times: {} compressed bytes gave {seen}",
                self.limits.ratio,
                self.compressed.get()
            ));
        }
        Ok(())
    }
}

impl Read for Layer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Layer<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
    }
}
