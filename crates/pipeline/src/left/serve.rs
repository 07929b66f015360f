//! A file of a run over HTTP: in parts where that is asked, and never as something that a browser would run.
//!
//! What a run leaves may come from anybody who can send a change. So nothing is ever shown as a page of this origin: text and plain images
//! keep their type, everything else is a download, and a policy forbids whatever a browser might still do.
//! <https://www.rfc-editor.org/rfc/rfc9110#name-range-requests>

use std::{
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serve::{Body, body};

use super::parcel::{Entry, Parcel};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// Types that may be shown, by the ending of a name.
const SHOWN: [(&str, &[&str]); 6] = [
    (
        "text/plain; charset=utf-8",
        &["txt", "log", "md", "json", "xml", "yaml", "yml", "csv", "properties", "diff", "patch", "toml"],
    ),
    ("image/png", &["png"]),
    ("image/jpeg", &["jpg", "jpeg"]),
    ("image/gif", &["gif"]),
    ("image/webp", &["webp"]),
    ("video/webm", &["webm"]),
];

/// Which bytes of a file are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// From the first to before the second.
    Some(u64, u64),
    /// Some that are not there.
    Beyond,
}

/// What the header `Range` says of a file of a size. Several ranges, and what cannot be read, are answered with all.
pub fn part(range: Option<&str>, size: u64) -> Part {
    let Some(spec) = range.and_then(|range| range.trim().strip_prefix("bytes=")) else { return Part::All };
    let Some((from, to)) = spec.trim().split_once('-').filter(|_| !spec.contains(',')) else { return Part::All };
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().unwrap_or(u64::MAX));
    match (from.is_empty(), to.is_empty()) {
        (true, true) => Part::All,
        // The last ones.
        (true, false) => match number(to) {
            None => Part::All,
            Some(0) => Part::Beyond,
            Some(_) if size == 0 => Part::Beyond,
            Some(count) => Part::Some(size.saturating_sub(count), size),
        },
        (false, open) => {
            let (Some(from), Some(to)) = (number(from), if open { Some(u64::MAX) } else { number(to) }) else {
                return Part::All;
            };
            match () {
                () if to < from => Part::All,
                () if from >= size => Part::Beyond,
                () => Part::Some(from, to.saturating_add(1).min(size)),
            }
        }
    }
}

/// The type of a name, where it may be shown.
fn shown(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    let ending = ending.to_ascii_lowercase();
    SHOWN.iter().find(|(_, endings)| endings.contains(&ending.as_str())).map(|(kind, _)| *kind)
}

/// A name as a header can carry it.
fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "-_. ".contains(letter) { letter } else { '_' })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", escaped(name))
}

/// A part of an address.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Answers with a file of a parcel.
///
/// # Errors
/// It cannot be opened.
pub fn file(parcel: &Parcel, entry: &Entry, asked: &HeaderMap, with_body: bool) -> io::Result<Response<Body>> {
    let text = |name: header::HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    let tag = format!("\"{}\"", entry.sha256);
    let mut response = Response::new(body::empty());
    let headers = response.headers_mut();
    let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
    let mut set = |name: header::HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, tag.clone());
    set(header::ACCEPT_RANGES, "bytes".into());
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff".into());
    set(header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; frame-ancestors 'none'".into());
    set(header::CACHE_CONTROL, "private, no-cache".into());
    match shown(name) {
        Some(kind) => set(header::CONTENT_TYPE, kind.into()),
        None => {
            set(header::CONTENT_TYPE, "application/octet-stream".into());
            set(header::CONTENT_DISPOSITION, disposition(name));
        }
    }
    if text(header::IF_NONE_MATCH)
        .is_some_and(|given| given.split(',').any(|one| one.trim() == tag || one.trim() == "*"))
    {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    // A part of another file is of no use to who has the rest of this one.
    let same = text(header::IF_RANGE).is_none_or(|given| given == tag);
    let part = if same { part(text(header::RANGE), entry.size) } else { Part::All };
    let (from, to) = match part {
        Part::All => (0, entry.size),
        Part::Some(from, to) => {
            set(header::CONTENT_RANGE, format!("bytes {from}-{}/{}", to - 1, entry.size));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            (from, to)
        }
        Part::Beyond => {
            set(header::CONTENT_RANGE, format!("bytes */{}", entry.size));
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return Ok(response);
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    if with_body {
        *response.body_mut() = pieces(parcel.read(entry, from)?.into_inner(), to - from);
    }
    Ok(response)
}

/// Bytes of a file from where it stands, read as they are sent.
pub(crate) fn pieces(file: File, count: u64) -> Body {
    let stream = futures::stream::try_unfold((file, count), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)];
            let count = file.read(&mut chunk)?;
            chunk.truncate(count);
            io::Result::Ok((file, chunk))
        });
        let (file, chunk) = read.await.map_err(io::Error::other)??;
        if chunk.is_empty() {
            return Err(body::Error::from(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        let left = left - chunk.len() as u64;
        Ok(Some((Bytes::from(chunk), (file, left))))
    });
    body::stream(stream)
}

#[cfg(test)]
mod tests;
