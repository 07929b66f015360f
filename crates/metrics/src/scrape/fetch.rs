//! The request to a target, and its answer piece by piece.
//!
//! Pieces go to the ledger as they come, so that no answer is in memory as a whole: not one without end, and not what a
//! few kilobytes of gzip unpack to. They are unpacked a little at a time, each little counted before the next.

use std::{io::Write, time::Duration};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, HeaderValue, Uri, header};
use http_body_util::BodyExt;
use memchr::memchr;

use super::ledger::Ledger;
use crate::{
    config::scrape::Scrape,
    format::{
        negotiate::{Format, accept, format},
        protobuf,
        text::{LONGEST, Lines},
    },
    http_client::Client,
};

/// Bytes of an answer at most where none are configured.
const CEILING: usize = 4 << 30;
/// Bytes of a metric family of protocol buffers at most.
const FAMILY: usize = 256 << 20;
/// Packed bytes that are unpacked at once.
const STEP: usize = 2048;
/// Unpacked bytes after which others get their turn.
const TURN: usize = 256 << 10;

/// How a target is asked.
#[derive(Clone, Debug)]
pub struct Fetch {
    client: Client,
    uri: Uri,
    headers: HeaderMap,
    limit: Option<usize>,
    fallback: crate::config::scrape::Protocol,
}

/// Why a scrape failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The answer is longer than allowed.
    TooLong,
    /// Anything else.
    Because(String),
}

impl Failed {
    /// What is told.
    pub fn reason(&self) -> &str {
        match self {
            Self::TooLong => "body size limit exceeded",
            Self::Because(reason) => reason,
        }
    }
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self::Because(reason)
    }
}

impl Fetch {
    /// How a target of a job is asked.
    pub fn new(client: Client, url: &str, timeout: Duration, job: &Scrape) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("parse {}: {error}", tsdb::labels::quote(url)))?;
        let mut headers = HeaderMap::new();
        let mut put = |name: header::HeaderName, value: String| match HeaderValue::try_from(value) {
            Ok(value) => {
                headers.insert(name, value);
                Ok(())
            }
            Err(error) => Err(format!("header {name}: {error}")),
        };
        put(header::ACCEPT, accept(&job.scrape_protocols, &job.metric_name_escaping_scheme))?;
        put(header::ACCEPT_ENCODING, if job.enable_compression { "gzip" } else { "identity" }.to_owned())?;
        put(header::USER_AGENT, concat!("madang/", env!("CARGO_PKG_VERSION")).to_owned())?;
        let seconds = header::HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
        put(seconds, timeout.as_secs_f64().to_string())?;
        let limit = job.body_size_limit.bound();
        Ok(Self { client, uri, headers, limit, fallback: job.fallback_scrape_protocol.clone() })
    }

    /// Asks, and hands what comes to the ledger. Says how many bytes came, unpacked.
    pub async fn run(&self, ledger: &mut Ledger) -> Result<usize, Failed> {
        let answer =
            self.client.get(self.uri.clone(), self.headers.clone()).await.map_err(|error| error.to_string())?;
        let (head, mut body) = answer.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(format!("server returned HTTP status {}", head.status).into());
        }
        let text =
            |name: header::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut intake = Intake::new(format(text(header::CONTENT_TYPE), &self.fallback), self.limit);
        let mut unpack = match text(header::CONTENT_ENCODING) {
            "gzip" => Some(MultiGzDecoder::new(Vec::new())),
            _ => None,
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("read answer: {error}"))?;
            let Ok(piece) = frame.into_data() else { continue };
            match &mut unpack {
                None => intake.take(&piece, ledger)?,
                Some(decoder) => intake.unpack(&piece, decoder, ledger).await?,
            }
        }
        if let Some(mut decoder) = unpack {
            decoder.try_finish().map_err(|error| format!("gzip: {error}"))?;
            let rest = std::mem::take(decoder.get_mut());
            intake.take(&rest, ledger)?;
        }
        intake.finish(ledger)
    }
}

/// What has come of an answer and is not taken yet.
#[derive(Debug)]
pub struct Intake {
    format: Result<Format, String>,
    lines: Lines,
    /// The beginning of a line or of a family.
    tail: Vec<u8>,
    bytes: usize,
    turn: usize,
    limit: Option<usize>,
}

impl Intake {
    /// An answer in a format; a wrong one is told with the first byte. Longer than `limit` it is refused.
    pub fn new(format: Result<Format, String>, limit: Option<usize>) -> Self {
        let open = format == Ok(Format::OpenMetrics);
        Self { format, lines: Lines::new(open), tail: Vec::new(), bytes: 0, turn: 0, limit }
    }

    async fn unpack(
        &mut self,
        piece: &Bytes,
        decoder: &mut MultiGzDecoder<Vec<u8>>,
        ledger: &mut Ledger,
    ) -> Result<(), Failed> {
        for step in piece.chunks(STEP) {
            decoder.write_all(step).map_err(|error| format!("gzip: {error}"))?;
            let mut out = std::mem::take(decoder.get_mut());
            self.take(&out, ledger)?;
            out.clear();
            *decoder.get_mut() = out;
            if self.turn > TURN {
                self.turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Takes a piece.
    pub fn take(&mut self, piece: &[u8], ledger: &mut Ledger) -> Result<(), Failed> {
        if piece.is_empty() {
            return Ok(());
        }
        self.bytes += piece.len();
        self.turn += piece.len();
        if self.bytes > CEILING || self.limit.is_some_and(|limit| self.bytes >= limit) {
            return Err(Failed::TooLong);
        }
        match self.format.clone()? {
            Format::Protobuf => self.families(piece, ledger),
            Format::Text | Format::OpenMetrics => self.text(piece, ledger),
        }
    }

    fn text(&mut self, piece: &[u8], ledger: &mut Ledger) -> Result<(), Failed> {
        let mut rest = piece;
        if !self.tail.is_empty() {
            let Some(end) = memchr(b'\n', rest) else { return self.keep(rest) };
            let mut line = std::mem::take(&mut self.tail);
            line.extend_from_slice(&rest[..end]);
            ledger.line(&mut self.lines, &line)?;
            line.clear();
            self.tail = line;
            rest = &rest[end + 1..];
        }
        while let Some(end) = memchr(b'\n', rest) {
            ledger.line(&mut self.lines, &rest[..end])?;
            rest = &rest[end + 1..];
        }
        self.keep(rest)
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), Failed> {
        if self.tail.len() + rest.len() > LONGEST {
            return Err(format!("a line is longer than {LONGEST} bytes").into());
        }
        self.tail.extend_from_slice(rest);
        Ok(())
    }

    fn families(&mut self, piece: &[u8], ledger: &mut Ledger) -> Result<(), Failed> {
        self.tail.extend_from_slice(piece);
        let mut start = 0;
        while let Some((family, length)) = protobuf::split(&self.tail[start..])? {
            ledger.family(family)?;
            start += length;
        }
        self.tail.drain(..start);
        if self.tail.len() > FAMILY {
            Err(format!("a metric family is longer than {FAMILY} bytes").into())
        } else {
            Ok(())
        }
    }

    /// The answer has ended: takes what is left. Says how many bytes came.
    pub fn finish(mut self, ledger: &mut Ledger) -> Result<usize, Failed> {
        if self.bytes > 0 {
            match self.format.clone()? {
                Format::Protobuf if !self.tail.is_empty() => return Err("unexpected EOF".to_owned().into()),
                Format::Protobuf => {}
                Format::Text | Format::OpenMetrics => {
                    let tail = std::mem::take(&mut self.tail);
                    if !tail.is_empty() {
                        ledger.line(&mut self.lines, &tail)?;
                    }
                    self.lines.finish()?;
                }
            }
        }
        ledger.end()?;
        Ok(self.bytes)
    }
}
