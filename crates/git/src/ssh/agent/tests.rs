//! What can be done through an agent, and what cannot.

use russh::keys::{
    Algorithm, PrivateKey,
    agent::{AgentIdentity, client::AgentClient},
    key::safe_rng,
};
use tokio::io::DuplexStream;

use super::*;

fn key() -> Key {
    Key(Arc::new(PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()))
}

/// Which keys an agent has.
async fn held<S: AsyncRead + AsyncWrite + Unpin + Send>(client: &mut AgentClient<S>) -> Vec<String> {
    let mut held = Vec::new();
    for identity in client.request_identities().await.unwrap() {
        if let AgentIdentity::PublicKey { key, .. } = identity {
            held.push(crate::ssh::hosts::fingerprint(&key));
        }
    }
    held.sort();
    held
}

/// That keys can be used, and nothing else.
async fn check<S: AsyncRead + AsyncWrite + Unpin + Send>(mut stream: S, mut wanted: Vec<String>) {
    wanted.sort();
    // To remove all keys; by hand, since russh's client writes no length before it.
    write(&mut stream, &[19]).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap(), Some(vec![FAILURE]));
    let mut client = AgentClient::connect(stream);
    assert_eq!(held(&mut client).await, wanted);
    assert!(client.add_identity(&key().0, &[]).await.is_err());
    assert!(client.lock(b"mine").await.is_err());
    for identity in client.request_identities().await.unwrap() {
        let AgentIdentity::PublicKey { key, .. } = &identity else { continue };
        assert!(client.remove_identity(key).await.is_err());
        let signed = client.sign_request(&identity, None, b"something".to_vec()).await.unwrap();
        assert!(signed.len() > 64);
    }
    assert_eq!(held(&mut client).await, wanted);
}

#[tokio::test]
async fn keys_are_used_as_those_of_an_agent_that_takes_no_others() {
    let keys = [key(), key()];
    let wanted: Vec<_> = keys.iter().map(Key::fingerprint).collect();
    let keys = Keys::from_iter(keys);
    // Each connection has all of them.
    for _ in 0..2 {
        check(keys.connect().await.unwrap(), wanted.clone()).await;
    }
}

/// An agent that does as it is told, behind what is tested.
fn guarded() -> (DuplexStream, AgentClient<DuplexStream>, impl Future<Output = io::Result<()>>) {
    let (near, mut inner) = tokio::io::duplex(WAITING);
    let (mut outer, far) = tokio::io::duplex(WAITING);
    let (own, beside) = tokio::io::duplex(WAITING);
    let passed = async move {
        serve(futures::stream::iter([Ok(far), Ok(beside)]), ()).await.map_err(io::Error::other)?;
        pass(&mut inner, &mut outer).await
    };
    (near, AgentClient::connect(own), passed)
}

#[tokio::test]
async fn what_would_change_an_agent_fails() {
    let (near, mut owner, passed) = guarded();
    let key = key();
    let asked = async {
        owner.add_identity(&key.0, &[]).await.unwrap();
        check(near, vec![key.fingerprint()]).await;
        assert_eq!(held(&mut owner).await, [key.fingerprint()]);
    };
    // Whoever asked has hung up, which is no error.
    let (passed, ()) = tokio::join!(passed, asked);
    passed.unwrap();
}

#[tokio::test]
async fn what_is_no_message_ends_the_conversation() {
    for bytes in [&[0, 0, 0, 0, 11][..], &[0, 4, 0, 1], &[255; 9]] {
        let (mut near, _owner, passed) = guarded();
        near.write_all(bytes).await.unwrap();
        assert_eq!(passed.await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{bytes:?}");
    }
    // One that is cut off.
    let (mut near, _owner, passed) = guarded();
    near.write_all(&[0, 0, 0, 9, 11, 0]).await.unwrap();
    drop(near);
    assert_eq!(passed.await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}
