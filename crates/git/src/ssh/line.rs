//! A connection, and the one conversation on it.
//!
//! ```text
//! open: socket, handshake, host key, our key, channel, exec ─► Line
//! say:  a request ─► the channel                      hear: packets of the answer, up to its end ─► the next request
//! ```
//!
//! What the other side writes on its standard error is kept, up to a bound, for the error that its end is: there it says
//! that there is no such repository.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use russh::{
    Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf,
    client::{self, AuthResult, ChannelOpenHandle, Handle, Msg, Session},
    keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate, agent::AgentIdentity},
};

use super::{
    Access,
    address::Address,
    hosts::{self, Known, Verdict},
};
use crate::{Error, packet::Packets, remote::Body};

/// Bytes of what the other side says on its standard error.
const SAID: usize = 4 << 10;
/// Bytes of all that it may say there.
const MOST_SAID: usize = 1 << 20;
/// Keys that are shown; servers have enough of it after six or so.
const MOST_KEYS: usize = 16;

/// An open conversation.
pub(crate) struct Line {
    writer: ChannelWriteHalf<Msg>,
    /// What comes.
    pub packets: Packets<Body>,
    silence: std::time::Duration,
    who: String,
}

impl Line {
    /// Connects, proves who is who, and starts the other side's program.
    pub async fn open(access: &Access, address: &Address) -> Result<Self, Error> {
        let limit = access.patience.connect;
        match tokio::time::timeout(limit, open(access, address)).await {
            Ok(line) => line,
            Err(_) => Err(late(&address.place(), limit)),
        }
    }

    /// Sends a request.
    pub async fn say(&mut self, request: Vec<u8>) -> Result<(), Error> {
        match tokio::time::timeout(self.silence, self.writer.data_bytes(request)).await {
            Ok(sent) => sent.map_err(|error| told(&self.who, &error)),
            Err(_) => Err(late(&self.who, self.silence)),
        }
    }
}

fn late(who: &str, limit: std::time::Duration) -> Error {
    let text = format!("{who} does not answer: nothing came within {} seconds", limit.as_secs_f32());
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}

fn told(who: &str, error: &russh::Error) -> Error {
    Error::Io(std::io::Error::other(format!("{who}: {error}")))
}

async fn open(access: &Access, address: &Address) -> Result<Line, Error> {
    let who = address.place();
    let socket = (access.dial)(address.host.clone(), address.port).await;
    let socket = socket.map_err(|error| {
        let text = format!("connect to {}:{}: {error}", address.host, address.port);
        Error::Io(std::io::Error::new(error.kind(), text))
    })?;
    let preferred = russh::Preferred { key: Cow::Owned(access.hosts.algorithms(&who)), ..russh::Preferred::DEFAULT };
    let config = client::Config {
        client_id: russh::SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-madang_", env!("CARGO_PKG_VERSION")))),
        preferred,
        // Whoever waits has given up by then.
        inactivity_timeout: Some(access.patience.connect + access.patience.silence),
        ..client::Config::default()
    };
    let refused = Arc::new(Mutex::new(None));
    let check = Check { place: who.clone(), hosts: access.hosts.clone(), refused: refused.clone() };
    let mut handle = client::connect_stream(Arc::new(config), socket, check).await.map_err(|error| {
        match refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(why) => Error::Invalid(why),
            None => told(&who, &error),
        }
    })?;
    let user = address.user.as_deref().or(access.user.as_deref()).unwrap_or("git");
    authenticate(access, &mut handle, user, &who).await?;
    let channel = handle.channel_open_session().await.map_err(|error| told(&who, &error))?;
    // Servers that do not take it speak the version that they always did.
    let asked = channel.set_env(false, "GIT_PROTOCOL", "version=2").await;
    asked.map_err(|error| told(&who, &error))?;
    channel.exec(true, address.command()).await.map_err(|error| told(&who, &error))?;
    let (reader, writer) = channel.split();
    let silence = access.patience.silence;
    let packets = Packets::new(pieces(reader, handle, who.clone(), silence));
    Ok(Line { writer, packets, silence, who })
}

/// What RSA keys sign with for this server, which is asked once and where there is such a key.
enum Hash {
    Unasked,
    Asked(Option<HashAlg>),
}

impl Hash {
    /// What a key signs with; none where the server takes only SHA-1, with which nobody signs any more.
    async fn of(
        &mut self,
        algorithm: &Algorithm,
        handle: &Handle<Check>,
        who: &str,
    ) -> Result<Option<Option<HashAlg>>, Error> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return Ok(Some(None));
        }
        let known = match self {
            Self::Asked(known) => *known,
            Self::Unasked => match handle.best_supported_rsa_hash().await.map_err(|error| told(who, &error))? {
                // Nothing is said: a server that is not very old knows this one.
                None => Some(HashAlg::Sha512),
                Some(hash) => hash,
            },
        };
        *self = Self::Asked(known);
        Ok(known.map(Some))
    }
}

/// Shows keys until one is taken.
async fn authenticate(access: &Access, handle: &mut Handle<Check>, user: &str, who: &str) -> Result<(), Error> {
    let mut shown = Vec::new();
    let mut hash = Hash::Unasked;
    for key in access.keys.iter().take(MOST_KEYS) {
        let Some(hash) = hash.of(&key.0.algorithm(), handle, who).await? else { continue };
        shown.push(key.fingerprint());
        let key = PrivateKeyWithHashAlg::new(key.0.clone(), hash);
        match handle.authenticate_publickey(user, key).await.map_err(|error| told(who, &error))? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { partial_success: true, .. } => return Err(more(user, who)),
            AuthResult::Failure { .. } => {}
        }
    }
    let stream = match &access.agent {
        None => None,
        Some(agent) => agent().await?,
    };
    if let Some(stream) = stream {
        let failed = |error: &dyn std::fmt::Display| Error::Io(std::io::Error::other(format!("SSH agent: {error}")));
        let mut agent = russh::keys::agent::client::AgentClient::connect(stream);
        let identities = agent.request_identities().await.map_err(|error| failed(&error))?;
        for identity in identities.into_iter().take(MOST_KEYS) {
            let AgentIdentity::PublicKey { key, .. } = identity else { continue };
            let Some(hash) = hash.of(&key.algorithm(), handle, who).await? else { continue };
            shown.push(hosts::fingerprint(&key));
            match handle.authenticate_publickey_with(user, key, hash, &mut agent).await {
                Ok(AuthResult::Success) => return Ok(()),
                Ok(AuthResult::Failure { partial_success: true, .. }) => return Err(more(user, who)),
                Ok(AuthResult::Failure { .. }) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }
    Err(Error::Denied(match shown.is_empty() {
        true => format!("{user}@{who} is asked with a key, and there is none: {}", access.keyless),
        false => format!("{user}@{who} takes none of the keys {}: is the public key known there?", shown.join(", ")),
    }))
}

fn more(user: &str, who: &str) -> Error {
    Error::Denied(format!("{user}@{who} takes the key and wants something more, which is not known here"))
}

/// Judges the host's key; lets the other side open nothing.
struct Check {
    place: String,
    hosts: Known,
    refused: Arc<Mutex<Option<String>>>,
}

impl Check {
    /// Why a key is not believed.
    fn reason(&self, key: &PublicKey) -> Option<String> {
        let Self { place, hosts, .. } = self;
        let shown = format!("{} {}", key.algorithm(), hosts::fingerprint(key));
        let add = match hosts.place.is_empty() {
            true => "the known hosts".to_owned(),
            false => hosts.place.clone(),
        };
        Some(match hosts.judge(place, key) {
            Verdict::Known => return None,
            Verdict::Unknown => format!(
                "the host key of {place} is not known: it is {shown}. Compare that with what the host's owner publishes, and \
                 add the host's line, as ssh-keyscan prints it, to {add}"
            ),
            Verdict::Other => format!(
                "the host key of {place} is not the one that is known: it is {shown}. Either somebody stands between, or it \
                 was changed: ask the host's owner before you replace its line in {add}"
            ),
            Verdict::Revoked => format!("the host key of {place} is revoked in {add}: it is {shown}"),
        })
    }
}

impl client::Handler for Check {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let reason = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.reason(key),
            PublicKeyOrCertificate::Certificate(_) => {
                Some(format!("{} shows a certificate, which it was not asked for", self.place))
            }
        };
        let known = reason.is_none();
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        Ok(known)
    }

    // Nothing was asked for that would have the other side open a channel: dropping the handle refuses.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// What comes on the channel. Its end is always an error: answers end before.
struct Pieces {
    reader: ChannelReadHalf,
    /// Keeps the connection.
    _handle: Handle<Check>,
    who: String,
    silence: std::time::Duration,
    said: Vec<u8>,
    all_said: usize,
    status: Option<u32>,
    ended: bool,
}

fn pieces(reader: ChannelReadHalf, handle: Handle<Check>, who: String, silence: std::time::Duration) -> Body {
    let all =
        Pieces { reader, _handle: handle, who, silence, said: Vec::new(), all_said: 0, status: None, ended: false };
    stream::unfold(all, async |mut all| {
        let piece = all.next().await?;
        all.ended = piece.is_err();
        Some((piece, all))
    })
    .boxed()
}

impl Pieces {
    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        if self.ended {
            return None;
        }
        loop {
            let Ok(message) = tokio::time::timeout(self.silence, self.reader.wait()).await else {
                let text = format!("{}: nothing came within {} seconds", self.who, self.silence.as_secs_f32());
                return Some(Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text)));
            };
            match message {
                Some(ChannelMsg::Data { data }) => return Some(Ok(data)),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    let room = SAID.saturating_sub(self.said.len());
                    self.said.extend_from_slice(&data[..data.len().min(room)]);
                    self.all_said += data.len();
                    if self.all_said > MOST_SAID {
                        return Some(Err(self.end("says too much beside its answer")));
                    }
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => self.status = Some(exit_status),
                Some(ChannelMsg::Failure) => return Some(Err(self.end("does not run git-upload-pack"))),
                Some(ChannelMsg::OpenFailure(_)) => return Some(Err(self.end("opens no channel"))),
                None | Some(ChannelMsg::Close) => return Some(Err(self.end("ended the conversation"))),
                Some(_) => {}
            }
        }
    }

    fn end(&self, what: &str) -> std::io::Error {
        let mut text = format!("{} {what}", self.who);
        if let Some(status) = self.status.filter(|status| *status != 0) {
            text += &format!(" with status {status}");
        }
        let said: String =
            String::from_utf8_lossy(&self.said).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        if !said.is_empty() {
            text += &format!(": {said}");
        }
        std::io::Error::new(std::io::ErrorKind::UnexpectedEof, text)
    }
}
