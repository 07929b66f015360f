//! One keep-alive connection: HTTP/1.1 over TLS, as little of it as API servers use.

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::kubeconfig::Server;

/// A connection.
pub struct Connection {
    stream: BufReader<TlsStream<TcpStream>>,
    authorization: String,
    line: Vec<u8>,
    request: Vec<u8>,
}

/// How the bytes of an answer end.
enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    /// Connects and shakes hands.
    pub async fn open(server: &Server) -> Result<Self> {
        let socket =
            TcpStream::connect(server.address).await.with_context(|| format!("connect to {}", server.address))?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(server.tls.clone());
        let stream = connector.connect(server.name.clone(), socket).await.context("shake hands")?;
        let authorization =
            server.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let stream = BufReader::with_capacity(64 * 1024, stream);
        Ok(Self { stream, authorization, line: Vec::new(), request: Vec::new() })
    }

    /// Sends a request and reads its answer into `answer`, from the beginning of it; returns the status code.
    pub async fn request(&mut self, method: &str, path: &str, body: &[u8], answer: &mut Vec<u8>) -> Result<u16> {
        let (code, length) = self.begin(method, path, body).await?;
        answer.clear();
        match length {
            Length::Known(length) => {
                answer.resize(length, 0);
                self.stream.read_exact(answer).await?;
            }
            Length::Chunked => while self.chunk(answer).await? {},
        }
        Ok(code)
    }

    /// Begins a watch, whose lines [`Self::event`] reads.
    pub async fn watch(&mut self, path: &str) -> Result<()> {
        match self.begin("GET", path, b"").await? {
            (200, Length::Chunked) => Ok(()),
            (code, _) => bail!("watch {path}: {code}"),
        }
    }

    /// Reads on until `pending` holds a whole line, and takes that line off.
    pub async fn event(&mut self, pending: &mut Vec<u8>) -> Result<Vec<u8>> {
        let mut from = 0;
        loop {
            if let Some(end) = pending[from..].iter().position(|byte| *byte == b'\n') {
                let rest = pending.split_off(from + end + 1);
                return Ok(std::mem::replace(pending, rest));
            }
            from = pending.len();
            if !self.chunk(pending).await? {
                bail!("the watch ended");
            }
        }
    }

    async fn begin(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Length)> {
        self.request.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: api\r\nAccept: application/json\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n",
            self.authorization,
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body);
        self.stream.get_mut().write_all(&self.request).await?;
        self.stream.get_mut().flush().await?;
        let status = self.line().await?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let mut length = Length::Known(0);
        loop {
            let line = self.line().await?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok((code, length));
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Length::Known(value.trim().parse()?);
            } else if line.starts_with("transfer-encoding:") && line.contains("chunked") {
                length = Length::Chunked;
            }
        }
    }

    /// Appends one chunk of a body; `false` after the last one.
    async fn chunk(&mut self, into: &mut Vec<u8>) -> Result<bool> {
        let length = usize::from_str_radix(self.line().await?, 16).context("length of a chunk")?;
        let start = into.len();
        into.resize(start + length, 0);
        self.stream.read_exact(&mut into[start..]).await?;
        self.line().await?;
        Ok(length > 0)
    }

    async fn line(&mut self) -> Result<&str> {
        self.line.clear();
        if self.stream.read_until(b'\n', &mut self.line).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(std::str::from_utf8(&self.line)?.trim_end())
    }
}
