//! Packets: four hexadecimal digits of length, then content; the lengths 0, 1 and 2 separate.
//!
//! Specification: <https://git-scm.com/docs/protocol-common#_pkt_line_format>.

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};

use crate::Error;

/// The longest packet, its length included.
pub(crate) const LONGEST: usize = 65_520;

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Content.
    Data(Bytes),
    /// The end of a message.
    Flush,
    /// The end of a section.
    Delimiter,
    /// The end of an answer.
    End,
}

/// Appends a packet with content, which is short.
pub fn line(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() + 5 <= LONGEST, "packets are short");
    out.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
}

/// Appends the end of a message.
pub fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

/// Appends the end of a section.
pub fn delimiter(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0001");
}

/// Appends content on a band: 1 is content, 2 progress, 3 an error. Packets have at most `longest` bytes.
pub fn band(out: &mut Vec<u8>, band: u8, content: &[u8], longest: usize) {
    for piece in content.chunks(longest - 5) {
        out.extend_from_slice(format!("{:04x}", piece.len() + 5).as_bytes());
        out.push(band);
        out.extend_from_slice(piece);
    }
}

/// Packets of a stream of bytes.
pub struct Packets<S> {
    stream: S,
    held: BytesMut,
}

impl<S: Stream<Item = std::io::Result<Bytes>> + Unpin> Packets<S> {
    /// Reads from `stream`.
    pub fn new(stream: S) -> Self {
        Self { stream, held: BytesMut::new() }
    }

    /// The next packet; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Packet>, Error> {
        loop {
            if let Some(packet) = take(&mut self.held)? {
                return Ok(Some(packet));
            }
            match self.stream.next().await {
                Some(bytes) => self.held.extend_from_slice(&bytes?),
                None if self.held.is_empty() => return Ok(None),
                None => return Err(Error::invalid("the remote's answer ends within a packet")),
            }
        }
    }

    /// The next packet as text without its newline; nothing for all other packets and at the end.
    pub async fn text(&mut self) -> Result<Option<String>, Error> {
        match self.next().await? {
            Some(Packet::Data(data)) => {
                let text = String::from_utf8_lossy(&data).trim_end_matches('\n').to_owned();
                match text.strip_prefix("ERR ") {
                    Some(reason) => Err(Error::Remote(reason.trim().to_owned())),
                    None => Ok(Some(text)),
                }
            }
            _ => Ok(None),
        }
    }
}

/// Takes a packet from the front, where it is there as a whole.
pub fn take(held: &mut BytesMut) -> Result<Option<Packet>, Error> {
    let Some(digits) = held.get(..4) else { return Ok(None) };
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    let packet = match length {
        Some(0) => Packet::Flush,
        Some(1) => Packet::Delimiter,
        Some(2) => Packet::End,
        Some(length @ 4..=LONGEST) => {
            if held.len() < length {
                return Ok(None);
            }
            let mut packet = held.split_to(length);
            packet.advance(4);
            return Ok(Some(Packet::Data(packet.freeze())));
        }
        _ => return Err(Error::invalid("the remote's answer is no sequence of packets: is this a git repository?")),
    };
    held.advance(4);
    Ok(Some(packet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_as_they_become_whole() {
        let mut out = Vec::new();
        line(&mut out, "command=ls-refs");
        delimiter(&mut out);
        flush(&mut out);
        let mut held = BytesMut::new();
        let mut packets = Vec::new();
        for byte in out {
            held.extend_from_slice(&[byte]);
            packets.extend(take(&mut held).unwrap());
        }
        assert_eq!(packets, [Packet::Data("command=ls-refs\n".into()), Packet::Delimiter, Packet::Flush]);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for text in ["<html>", "0003", "fff1....", "+001", "zzzz"] {
            assert!(take(&mut BytesMut::from(text)).is_err(), "{text}");
        }
    }
}
