//! Agents through which keys can be used, and nothing else: whoever is given one learns which keys there are and has it sign. Nobody adds or
//! removes keys that way, or locks the agent.
//!
//! ```text
//! near ─ question ─► which keys? sign?  ─► far ─ answer ─► near
//!            └─────► anything else     ─► failure
//! ```
//!
//! Specification: <https://datatracker.ietf.org/doc/html/draft-ietf-sshm-ssh-agent>.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use russh::keys::agent::{
    client::AgentClient,
    server::{MessageType, serve},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Stream, keys::Key};

/// Bytes of a message, as in OpenSSH.
const LARGEST: usize = 256 << 10;
/// Bytes of a conversation that may wait.
const WAITING: usize = 64 << 10;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;

/// Passes questions on to an agent and its answers back, until whoever asks hangs up. What would change the agent fails.
///
/// # Errors
/// A connection broke, or what came over it is no message.
pub async fn pass<N, F>(near: &mut N, far: &mut F) -> io::Result<()>
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(question) = read(near).await? {
        let answer = match question.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                write(far, &question).await?;
                read(far).await?.ok_or(io::ErrorKind::UnexpectedEof)?
            }
            _ => vec![FAILURE],
        };
        write(near, &answer).await?;
    }
    Ok(())
}

/// A message without its length; none where there is no other.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let length = match from.read_u32().await {
        Ok(length) => length as usize,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length == 0 || length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message).await?;
    Ok(Some(message))
}

async fn write(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], message].concat()).await?;
    to.flush().await
}

/// Private keys that are used as those of an agent.
#[derive(Clone, Debug)]
pub struct Keys(Arc<[Key]>);

impl FromIterator<Key> for Keys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl Keys {
    /// A connection to an agent that has these keys, and takes no others.
    ///
    /// # Errors
    /// The agent does not take one of them.
    pub async fn connect(&self) -> io::Result<Stream> {
        let (ours, filling) = tokio::io::duplex(WAITING);
        let (near, far) = tokio::io::duplex(WAITING);
        let filled = Filled::default();
        let connections = futures::stream::iter([Ok(filling), Ok(far)]);
        serve(connections, filled.clone()).await.map_err(io::Error::other)?;
        let mut client = AgentClient::connect(ours);
        for key in self.0.iter() {
            client.add_identity(&key.0, &[]).await.map_err(io::Error::other)?;
        }
        filled.0.store(true, Ordering::Release);
        Ok(Box::new(near))
    }
}

/// Whether an agent has all its keys.
#[derive(Clone, Default)]
struct Filled(Arc<AtomicBool>);

impl russh::keys::agent::server::Agent for Filled {
    async fn confirm_request(&self, message: MessageType) -> bool {
        match message {
            MessageType::RequestKeys | MessageType::Sign => true,
            MessageType::AddKeys => !self.0.load(Ordering::Acquire),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
