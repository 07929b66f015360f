//! Files of the way in: what is taken, who is let in, which headers answers get.

use std::{io::Write, sync::Arc};

use http::HeaderMap;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn file(dir: &Path, text: &str) -> PathBuf {
    let file = dir.join("web.yml");
    std::fs::write(&file, text).unwrap();
    file
}

fn as_user(user: &str, password: &str) -> HeaderMap {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(format!("Basic {pair}")).unwrap())])
}

#[test]
fn files_that_ask_for_what_is_not_there_are_refused() {
    for (text, expected) in [
        ("tls_config: {}", "field tls_config not found in type web.Config"),
        ("tls_server_config: {cert_file: x}", "missing one of key or key_file"),
        ("tls_server_config: {key_file: x}", "missing one of cert or cert_file"),
        ("tls_server_config: {cert_file: x, key_file: y}", "failed to read cert_file"),
        ("http_server_config: {headers: {X-Other: a}}", "HTTP header \"X-Other\" can not be configured"),
        ("http_server_config: {headers: {X-Frame-Options: x}}", "invalid value for X-Frame-Options"),
        ("basic_auth_users: {alice: secret}", "password of user \"alice\""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let error = Front::load(&file(dir.path(), text)).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(Front::load(Path::new("/nowhere.yml")).unwrap_err().starts_with("open /nowhere.yml"));
}

#[tokio::test]
async fn users_are_let_in_by_their_passwords_and_the_file_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let hash = bcrypt::hash("test", 4).unwrap();
    let text =
        format!("basic_auth_users: {{alice: '{hash}'}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}");
    let file = file(dir.path(), &text);
    let front = Front::load(&file).unwrap();
    assert!(front.tls().is_none() && front.has_users());
    for _ in 0..2 {
        let headers = front.admit(&as_user("alice", "test")).await.unwrap();
        assert_eq!(headers["x-frame-options"], "deny");
    }
    let mut odd = HeaderMap::new();
    odd.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic %%%"));
    for wrong in
        [as_user("alice", "Test"), as_user("bob", "test"), as_user("bob", "fakepassword"), HeaderMap::new(), odd]
    {
        let refused = front.admit(&wrong).await.unwrap_err();
        assert_eq!(
            (refused.status(), &refused.headers()["www-authenticate"]),
            (StatusCode::UNAUTHORIZED, &"Basic".parse().unwrap())
        );
    }
    let bob = format!("basic_auth_users: {{bob: '{hash}'}}  # and no other\n");
    std::fs::File::create(&file).unwrap().write_all(bob.as_bytes()).unwrap();
    assert!(front.admit(&as_user("bob", "test")).await.is_ok());
    assert!(front.admit(&as_user("alice", "test")).await.is_err());
    std::fs::write(&file, "broken: [").unwrap();
    let refused = front.admit(&as_user("bob", "test")).await.unwrap_err();
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn a_rate_lets_a_burst_in_and_then_one_a_turn() {
    let now = Instant::now();
    let rate = Rate { interval: Duration::from_secs(1), burst: 2.0, left: Mutex::new((2.0, now)) };
    let at = |milliseconds| rate.allow(now + Duration::from_millis(milliseconds));
    assert_eq!(
        [at(0), at(0), at(500), at(1600), at(1700), at(9000), at(9000), at(9000)],
        [true, true, false, true, false, true, true, false]
    );
}

/// An authority, and certificates of it by name.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// The certificate that a server shows to a client, or why there is no connection.
async fn connected(front: &Front, authority: &Authority, own: Option<(String, String)>) -> Result<Vec<u8>, String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(front.tls().unwrap());
    let serving = async {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(socket).await.map_err(|error| error.to_string())?;
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.1.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let asking = async {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("front.example").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, socket).await.map_err(|error| error.to_string())?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(|error| error.to_string())?;
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default()[0].clone();
        Ok::<_, String>(shown.to_vec())
    };
    let (served, asked) = tokio::join!(serving, asking);
    served?;
    let der = asked?;
    Ok(der)
}

#[tokio::test]
async fn connections_get_the_certificate_of_the_moment_and_clients_must_show_theirs() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let write = |pair: (String, String)| {
        std::fs::write(dir.path().join("cert.pem"), pair.0).unwrap();
        std::fs::write(dir.path().join("key.pem"), pair.1).unwrap();
    };
    write(authority.issue("front.example"));
    let yaml = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, min_version: TLS13}";
    let front = Front::load(&file(dir.path(), yaml)).unwrap();
    let first = connected(&front, &authority, None).await.unwrap();
    assert_eq!(connected(&front, &authority, None).await.unwrap(), first);
    write(authority.issue("front.example"));
    assert_ne!(connected(&front, &authority, None).await.unwrap(), first);
    std::fs::write(dir.path().join("ca.pem"), &authority.1).unwrap();
    let yaml = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem,
      client_auth_type: RequireAndVerifyClientCert, client_allowed_sans: [friend.example]}";
    let front = Front::load(&file(dir.path(), yaml)).unwrap();
    for (own, let_in) in [
        (None, false),
        (Some(other.issue("friend.example")), false),
        (Some(authority.issue("stranger.example")), false),
        (Some(authority.issue("friend.example")), true),
    ] {
        let outcome = connected(&front, &authority, own).await;
        assert_eq!(outcome.is_ok(), let_in, "{outcome:?}");
    }
}
