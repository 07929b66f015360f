//! Hands a message to a mail server: STARTTLS or TLS from the beginning, authentication, one message.
//!
//! ```text
//!   connect ─ (TLS) ─ 220 ─ EHLO ─ (STARTTLS ─ TLS ─ EHLO) ─ (AUTH) ─ MAIL FROM ─ RCPT TO ... ─ DATA ─ QUIT
//! ```
//!
//! See <https://www.rfc-editor.org/rfc/rfc5321>, <https://www.rfc-editor.org/rfc/rfc3207> and
//! <https://www.rfc-editor.org/rfc/rfc4954>.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::Failure;
use crate::http_client::tls::Trust;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Longest line, and most lines, of an answer.
const LINE: u64 = 4096;
const LINES: usize = 200;

/// A mail server, and who we are to it.
#[derive(Debug)]
pub struct Session {
    /// Host and port.
    pub server: String,
    /// What we call ourselves.
    pub hello: String,
    /// How TLS is done.
    pub trust: Trust,
    /// Whether nothing goes without TLS.
    pub require_tls: bool,
    /// Whether TLS comes first; on port 465 only if not said.
    pub implicit_tls: Option<bool>,
    /// Who we are; nobody if empty.
    pub username: String,
    /// As whom we act.
    pub identity: String,
    /// The password.
    pub password: String,
    /// The secret of CRAM-MD5.
    pub secret: String,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Wire(BufReader<Box<dyn Stream>>);

/// An answer: its code and its lines.
struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// The answer if it is of this class (2 or 3); a server that says 5 will say so again.
    fn expect(self, class: u16, what: &str) -> Result<Self, Failure> {
        if self.code / 100 == class {
            return Ok(self);
        }
        let told = self.lines.join(" ");
        Err(Failure { retry: self.code / 100 != 5, reason: format!("{what}: {} {told}", self.code) })
    }

    /// What follows the name of an extension that the server has.
    fn extension(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            word.eq_ignore_ascii_case(name).then_some(rest)
        })
    }
}

impl Wire {
    async fn reply(&mut self) -> Result<Reply, Failure> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = (&mut self.0).take(LINE).read_until(b'\n', &mut line).await;
            let read = read.map_err(|error| Failure::later(format!("read from the mail server: {error}")))?;
            if read == 0 || line.last() != Some(&b'\n') || lines.len() > LINES {
                return Err(Failure::later("the mail server ended the connection or speaks no SMTP"));
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let code = line.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else { return Err(Failure::later("the mail server speaks no SMTP")) };
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if last {
                return Ok(Reply { code, lines });
            }
        }
    }

    async fn write(&mut self, text: &str) -> Result<(), Failure> {
        let stream = self.0.get_mut();
        let written = match stream.write_all(text.as_bytes()).await {
            Ok(()) => stream.flush().await,
            Err(error) => Err(error),
        };
        written.map_err(|error| Failure::later(format!("write to the mail server: {error}")))
    }

    async fn ask(&mut self, line: &str) -> Result<Reply, Failure> {
        self.write(&format!("{line}\r\n")).await?;
        self.reply().await
    }
}

async fn secure(session: &Session, host: &str, stream: Box<dyn Stream>) -> Result<Box<dyn Stream>, Failure> {
    let mut config = (*session.trust.config().await.map_err(Failure::never)?).clone();
    config.alpn_protocols.clear();
    let name = session.trust.name().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Failure::never(format!("{name:?} is no name of a server")))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = connected.map_err(|error| Failure::later(format!("TLS with the mail server: {error}")))?;
    Ok(Box::new(stream))
}

/// Hands a message over. Blocks no thread.
pub async fn hand_over(session: &Session, from: &str, to: &[&str], message: &str) -> Result<(), Failure> {
    match tokio::time::timeout(PATIENCE, talk(session, from, to, message)).await {
        Ok(done) => done,
        Err(_) => Err(Failure::later("the mail server takes too long")),
    }
}

async fn talk(session: &Session, from: &str, to: &[&str], message: &str) -> Result<(), Failure> {
    let Some((host, port)) = session.server.rsplit_once(':') else {
        return Err(Failure::never(format!("address {}: missing port in address", session.server)));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = TcpStream::connect(&session.server).await;
    let stream = connected.map_err(|error| Failure::later(format!("connect to {}: {error}", session.server)))?;
    let mut stream: Box<dyn Stream> = Box::new(stream);
    let mut encrypted = session.implicit_tls.unwrap_or(port == "465");
    if encrypted {
        stream = secure(session, host, stream).await?;
    }
    let mut wire = Wire(BufReader::new(stream));
    wire.reply().await?.expect(2, "greeting")?;
    let hello = format!("EHLO {}", session.hello);
    let mut features = wire.ask(&hello).await?.expect(2, "EHLO")?;
    if !encrypted && (session.require_tls || features.extension("STARTTLS").is_some()) {
        if features.extension("STARTTLS").is_none() {
            let server = &session.server;
            return Err(Failure::later(format!(
                "'require_tls' is true (default) but {server} does not advertise the STARTTLS extension"
            )));
        }
        wire.ask("STARTTLS").await?.expect(2, "STARTTLS")?;
        // What came before TLS is not to be taken for its beginning.
        if !wire.0.buffer().is_empty() {
            return Err(Failure::later("the mail server spoke before TLS began"));
        }
        wire = Wire(BufReader::new(secure(session, host, wire.0.into_inner()).await?));
        encrypted = true;
        features = wire.ask(&hello).await?.expect(2, "EHLO")?;
    }
    if !session.username.is_empty() && features.extension("AUTH").is_some() {
        let mechanisms = features.extension("AUTH").unwrap_or_default().to_owned();
        let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        authenticate(&mut wire, session, &mechanisms, encrypted || local).await?;
    }
    wire.ask(&format!("MAIL FROM:<{from}>")).await?.expect(2, "MAIL")?;
    for address in to {
        wire.ask(&format!("RCPT TO:<{address}>")).await?.expect(2, &format!("RCPT {address}"))?;
    }
    wire.ask("DATA").await?.expect(3, "DATA")?;
    let stuffed = message.replace("\r\n.", "\r\n..");
    wire.write(&stuffed).await?;
    let end = if stuffed.ends_with("\r\n") { "." } else { "\r\n." };
    wire.ask(end).await?.expect(2, "end of the message")?;
    // It has been taken: what follows cannot fail it.
    if let Err(failure) = wire.ask("QUIT").await {
        tracing::debug!("end a session of mail: {}", failure.reason);
    }
    Ok(())
}

async fn authenticate(wire: &mut Wire, session: &Session, mechanisms: &str, safe: bool) -> Result<(), Failure> {
    let missing = |what: &str| Failure::never(format!("missing {what} for the mail server's authentication"));
    for mechanism in mechanisms.split_whitespace() {
        match mechanism.to_ascii_uppercase().as_str() {
            "CRAM-MD5" if !session.secret.is_empty() => {
                let challenge = wire.ask("AUTH CRAM-MD5").await?.expect(3, "AUTH CRAM-MD5")?;
                let challenge = STANDARD.decode(challenge.lines.join(""));
                let challenge = challenge.map_err(|error| Failure::later(format!("CRAM-MD5: {error}")))?;
                let digest = hmac_md5(session.secret.as_bytes(), &challenge);
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                let answer = STANDARD.encode(format!("{} {digest}", session.username));
                wire.ask(&answer).await?.expect(2, "AUTH CRAM-MD5")?;
                return Ok(());
            }
            "PLAIN" | "LOGIN" if session.password.is_empty() => {}
            "PLAIN" | "LOGIN" if !safe => {
                return Err(Failure::never("a password is not sent without TLS: set require_tls"));
            }
            "PLAIN" => {
                let (identity, name, password) = (&session.identity, &session.username, &session.password);
                let answer = STANDARD.encode(format!("{identity}\0{name}\0{password}"));
                wire.ask(&format!("AUTH PLAIN {answer}")).await?.expect(2, "AUTH PLAIN")?;
                return Ok(());
            }
            "LOGIN" => {
                wire.ask("AUTH LOGIN").await?.expect(3, "AUTH LOGIN")?;
                wire.ask(&STANDARD.encode(&session.username)).await?.expect(3, "AUTH LOGIN")?;
                wire.ask(&STANDARD.encode(&session.password)).await?.expect(2, "AUTH LOGIN")?;
                return Ok(());
            }
            _ => {}
        }
    }
    Err(missing(if session.password.is_empty() { "password or secret" } else { "a mechanism that is known" }))
}

/// HMAC with MD5, which CRAM-MD5 asks for. See <https://www.rfc-editor.org/rfc/rfc2104>.
fn hmac_md5(key: &[u8], text: &[u8]) -> [u8; 16] {
    let mut block = [0u8; 64];
    if key.len() > 64 {
        block[..16].copy_from_slice(&Md5::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Md5::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Md5::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_the_rfc() {
        let digest = hmac_md5(b"Jefe", b"what do ya want for nothing?");
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "750c783e6ab0b503eaa86e310a5db738");
    }
}
