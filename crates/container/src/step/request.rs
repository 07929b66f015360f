//! What a step is: fields of a request, read from standard input.
//!
//! ```text
//! NAME LENGTH\n
//! LENGTH bytes\n          repeated; an empty line ends the request
//! ```

use std::io::{BufRead, Read};

use super::Error;

/// Bytes of a whole request.
const LONGEST: u64 = 64 << 20;
/// Bytes of a field's head.
const HEAD: u64 = 200;

/// A step that is to be run, or followed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Request {
    /// What names it.
    pub key: String,
    /// Where it runs.
    pub directory: String,
    /// `NAME=VALUE`; `NAME+=VALUE` puts it and a colon before what there is.
    pub environment: Vec<String>,
    /// The script.
    pub script: String,
    /// Whether standard output goes to a file of its own.
    pub capture: bool,
    /// How much of the log is known already.
    pub offset: u64,
    /// Whether it is only followed: one that is not there is lost.
    pub follow: bool,
}

impl Request {
    /// Reads a request.
    pub fn read(from: &mut impl BufRead) -> Result<Self, Error> {
        let wrong = |text: &str| Error::Wrong(format!("request: {text}"));
        let mut from = from.take(LONGEST);
        let mut request = Self::default();
        loop {
            let mut head = Vec::new();
            (&mut from).take(HEAD).read_until(b'\n', &mut head).map_err(Error::io("read the request"))?;
            let head = String::from_utf8(head).map_err(|_| wrong("no text"))?;
            if head == "\n" {
                break;
            }
            let head = head.strip_suffix('\n').ok_or_else(|| wrong("it ends too early"))?;
            let (name, length) = head.split_once(' ').ok_or_else(|| wrong("a field without length"))?;
            let length: u64 = length.parse().map_err(|_| wrong("a length that is no number"))?;
            let mut value = Vec::new();
            (&mut from).take(length).read_to_end(&mut value).map_err(Error::io("read the request"))?;
            let mut end = [0];
            from.read_exact(&mut end).map_err(|_| wrong("it ends too early"))?;
            if value.len() as u64 != length || end != *b"\n" {
                return Err(wrong("a field of another length"));
            }
            let value = String::from_utf8(value).map_err(|_| wrong("no text"))?;
            match name {
                "key" => request.key = value,
                "directory" => request.directory = value,
                "environment" => request.environment.push(value),
                "script" => request.script = value,
                "capture" => request.capture = value == "yes",
                "offset" => request.offset = value.parse().map_err(|_| wrong("an offset that is no number"))?,
                "follow" => request.follow = value == "yes",
                // A newer pipeline may say more.
                _ => {}
            }
        }
        if !is_key(&request.key) {
            return Err(wrong("its key cannot name a directory"));
        }
        Ok(request)
    }
}

/// Whether a key can name a directory.
pub(super) fn is_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !key.is_empty() && key.len() <= 200 && key.bytes().all(plain) && !key.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, String> {
        Request::read(&mut text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_is_read_field_by_field() {
        let text = "key 3\n0_1\nscript 7\necho\nhi\nenvironment 3\nA=b\noffset 2\n12\ncapture 3\nyes\nnew 1\nx\n\n";
        let expected = Request {
            key: "0_1".into(),
            script: "echo\nhi".into(),
            environment: vec!["A=b".into()],
            offset: 12,
            capture: true,
            ..Request::default()
        };
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in
            ["", "\n", "key\n\n", "key x\n\n", "key 9\nab\n\n", "key 2\nabc\n\n", "key 2\n..\n\n", "key 3\na/b\n\n"]
        {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
