//! An SSH server that hands what is asked to a shell, which finds `git-upload-pack`, as any host with `git` does.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use russh::{
    Channel, ChannelId,
    keys::{Algorithm, PrivateKey, PublicKey, key::safe_rng},
    server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Server as _, Session, VerifiedPublicKey},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
};

/// What a server is like.
#[derive(Clone)]
pub struct Like {
    /// Whether clients may set `GIT_PROTOCOL`: most distributions do not let them.
    pub versions: bool,
    /// Public keys that are let in, as in `authorized_keys`.
    pub allowed: Vec<String>,
}

/// A server of every repository below a folder, whose paths begin there.
pub struct Sshd {
    address: String,
    pub port: u16,
    pub host_key: PublicKey,
    /// Commands that ran, with what `GIT_PROTOCOL` was.
    pub ran: Arc<Mutex<Vec<(String, Option<String>)>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sshd {
    /// Starts one at an address of this machine.
    pub fn start(address: &str, root: &Path, like: Like) -> Self {
        let host = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let host_key = host.public_key().clone();
        let config = Config {
            keys: vec![host],
            auth_rejection_time: Duration::ZERO,
            inactivity_timeout: None,
            ..Config::default()
        };
        let ran = Arc::new(Mutex::new(Vec::new()));
        let mut all = All { root: root.to_owned(), like, ran: ran.clone() };
        let listener = std::net::TcpListener::bind((address, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = all.run_on_socket(Arc::new(config), &listener) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address: address.to_owned(), port, host_key, ran, stop: Some(stop), thread: Some(thread) }
    }

    /// Its line for known hosts.
    pub fn line(&self) -> String {
        format!("[{}]:{} {}\n", self.address, self.port, self.host_key.to_openssh().unwrap())
    }

    /// The address of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("ssh://me@{}:{}/{path}", self.address, self.port)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let _ = self.thread.take().unwrap().join();
    }
}

struct All {
    root: PathBuf,
    like: Like,
    ran: Arc<Mutex<Vec<(String, Option<String>)>>>,
}

impl russh::server::Server for All {
    type Handler = One;

    fn new_client(&mut self, _: Option<std::net::SocketAddr>) -> One {
        let Self { root, like, ran } = self;
        One { root: root.clone(), like: like.clone(), ran: ran.clone(), protocol: None, input: None }
    }
}

struct One {
    root: PathBuf,
    like: Like,
    ran: Arc<Mutex<Vec<(String, Option<String>)>>>,
    protocol: Option<String>,
    input: Option<mpsc::UnboundedSender<Vec<u8>>>,
}

impl Handler for One {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let allowed = self
            .like
            .allowed
            .iter()
            .any(|line| PublicKey::from_openssh(line).unwrap().key_data() == key.public_key.key_data());
        Ok(if allowed && user == "me" { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn env_request(&mut self, _: ChannelId, name: &str, value: &str, _: &mut Session) -> Result<(), Self::Error> {
        if self.like.versions && name == "GIT_PROTOCOL" {
            self.protocol = Some(value.to_owned());
        }
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        let command = String::from_utf8(data.to_vec()).unwrap();
        self.ran.lock().unwrap().push((command.clone(), self.protocol.clone()));
        // Its repositories lie elsewhere than at the machine's root.
        let command = command.replacen("git-upload-pack '/", "git-upload-pack './", 1);
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", &command])
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.protocol.as_deref().map(|value| ("GIT_PROTOCOL", value)))
            .envs([("GIT_CONFIG_COUNT", "2"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")])
            .envs([("GIT_CONFIG_KEY_1", "uploadpack.allowFilter"), ("GIT_CONFIG_VALUE_1", "true")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, mut input) = mpsc::unbounded_channel::<Vec<u8>>();
        self.input = Some(sender);
        let mut stdin = child.stdin.take().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let handle = session.handle();
        session.channel_success(id)?;
        let fed = async move {
            while let Some(bytes) = input.recv().await {
                if stdin.write_all(&bytes).await.is_err() {
                    break;
                }
            }
        };
        let told = async move {
            let (out, err) = (handle.clone(), handle.clone());
            let output = async {
                let mut buffer = vec![0; 16 << 10];
                while let Ok(length @ 1..) = stdout.read(&mut buffer).await {
                    if out.data(id, buffer[..length].to_vec()).await.is_err() {
                        break;
                    }
                }
            };
            let errors = async {
                let mut text = Vec::new();
                let _ = stderr.read_to_end(&mut text).await;
                if !text.is_empty() {
                    let _ = err.extended_data(id, 1, text).await;
                }
            };
            futures::join!(output, errors);
            let status = child.wait().await.ok().and_then(|status| status.code()).unwrap_or(255);
            let _ = handle.exit_status_request(id, u32::try_from(status).unwrap_or(255)).await;
            let _ = handle.eof(id).await;
            let _ = handle.close(id).await;
        };
        detached(async move {
            futures::join!(fed, told);
        });
        Ok(())
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if let Some(input) = &self.input {
            let _ = input.send(data.to_vec());
        }
        Ok(())
    }

    async fn channel_eof(&mut self, _: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.input = None;
        Ok(())
    }
}

/// Beside the connection, which goes on meanwhile; it ends with the server's runtime.
#[expect(clippy::disallowed_methods, reason = "the server is a test's, and its runtime its own")]
fn detached(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}
