//! Connections: direct or through a proxy, plain or with TLS.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use anyhow::{Context as _, anyhow, bail};
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    Patience, Pull, Trust,
    proxy::{Proxies, Proxy},
    registries::{Registries, Tls},
    tls,
};
use crate::names::Names;

#[cfg(test)]
mod tests;

/// Bytes of a proxy's answer to `CONNECT`.
const PROXY_ANSWER: usize = 8 << 10;

/// Makes connections. Clones share certificates.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    registries: Arc<Registries>,
    proxies: Proxies,
    patience: Patience,
    trust: Trust,
    names: Names,
    abroad: bool,
    /// Read when the first host with TLS is spoken to.
    roots: Mutex<Option<Arc<RootCertStore>>>,
    configs: Mutex<HashMap<Tls, Arc<ClientConfig>>>,
}

/// A connection.
pub(crate) struct Transport {
    stream: Box<dyn Stream>,
    /// Requests name the whole URL.
    proxied: bool,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Connector {
    /// Connections for one pull.
    pub fn new(pull: &Pull) -> anyhow::Result<Self> {
        let proxies = match pull.trust {
            Trust::Host => Proxies::read(|name| std::env::var(name).ok())?,
            Trust::Configured => Proxies::default(),
        };
        Ok(Self::through_proxies(pull, proxies))
    }

    fn through_proxies(pull: &Pull, proxies: Proxies) -> Self {
        let (roots, configs) = Default::default();
        let Pull { registries, trust, names, patience, abroad, .. } = pull.clone();
        Self(Arc::new(Inner { registries, proxies, patience, trust, names, abroad, roots, configs }))
    }

    /// What a request to `uri` has to show to the proxy that it goes through.
    pub fn proxy_authorization(&self, uri: &Uri) -> Option<&str> {
        let (https, host, port) = parts(uri)?;
        // With HTTPS the proxy sees only `CONNECT`.
        let proxy = if https { None } else { self.0.proxies.choose(false, host, port) };
        proxy?.authorization.as_deref()
    }

    /// Whether a server speaks TLS there; an error where nobody answers.
    pub async fn speaks_tls(&self, uri: &Uri) -> anyhow::Result<bool> {
        let (_, host, port) = parts(uri).context("a URL without a host")?;
        let stream = self.in_time(self.dial(host, port)).await?;
        self.admit(&stream, host, port)?;
        Ok(self.in_time(self.secure(stream, host, port)).await.is_ok())
    }

    /// A connection without TLS and without a proxy.
    pub async fn plainly(&self, host: &str, port: u16) -> anyhow::Result<TcpStream> {
        let stream = self.in_time(self.dial(host, port)).await?;
        self.admit(&stream, host, port)?;
        Ok(stream)
    }

    async fn connect(self, uri: Uri) -> anyhow::Result<TokioIo<Transport>> {
        let (https, host, port) = parts(&uri).context("a URL without a host")?;
        let make = async {
            let own = https && self.0.registries.place_of(host, port).is_some();
            let proxy = if own { None } else { self.0.proxies.choose(https, host, port) };
            let stream: Box<dyn Stream> = match proxy {
                None => {
                    let stream = self.dial(host, port).await?;
                    self.admit(&stream, host, port)?;
                    Box::new(stream)
                }
                Some(proxy) => self.through(proxy, https.then_some((host, port))).await?,
            };
            let stream = if https { Box::new(self.secure(stream, host, port).await?) as _ } else { stream };
            Ok(TokioIo::new(Transport { stream, proxied: proxy.is_some() && !https }))
        };
        self.in_time(make).await
    }

    async fn dial(&self, host: &str, port: u16) -> anyhow::Result<TcpStream> {
        let (at, of) = self.0.registries.place_of(host, port).unwrap_or((host, port));
        let stream = self.0.names.connect(at, of).await.with_context(|| format!("connect to {host}:{port}"))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Refuses a connection to this machine's own loopback or link, whatever the name was, where only others may be reached.
    fn admit(&self, stream: &TcpStream, host: &str, port: u16) -> anyhow::Result<()> {
        let configured = || self.0.registries.host(&format!("{host}:{port}")).is_some();
        if self.0.abroad && is_own(stream.peer_addr()?.ip()) && !configured() {
            bail!("{host}:{port} is an address of this machine itself, which is not to be reached from here");
        }
        Ok(())
    }

    async fn in_time<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let limit = self.0.patience.connect;
        match tokio::time::timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow!("no connection within {} seconds", limit.as_secs_f32())),
        }
    }

    async fn secure<S: Stream>(
        &self,
        stream: S,
        host: &str,
        port: u16,
    ) -> anyhow::Result<tokio_rustls::client::TlsStream<S>> {
        let host = bare(host);
        let name = ServerName::try_from(host.to_owned()).with_context(|| format!("host name {host}"))?;
        let config = self.config(host, port)?;
        TlsConnector::from(config).connect(name, stream).await.with_context(|| format!("TLS with {host}:{port}"))
    }

    fn config(&self, host: &str, port: u16) -> anyhow::Result<Arc<ClientConfig>> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let configured = self.0.registries.host(&format!("{host}:{port}"));
        let tls = configured.map(|host| host.tls.clone()).unwrap_or_default();
        if let Some(config) = self.0.configs.lock().expect("TLS lock").get(&tls) {
            return Ok(config.clone());
        }
        let roots = {
            let mut roots = self.0.roots.lock().expect("TLS lock");
            roots.get_or_insert_with(|| Arc::new(tls::host_roots(self.0.trust))).clone()
        };
        let config = tls::client_config(&roots, &tls)?;
        self.0.configs.lock().expect("TLS lock").insert(tls, config.clone());
        Ok(config)
    }

    /// Connects to a proxy, and with `target` through it.
    async fn through(&self, proxy: &Proxy, target: Option<(&str, u16)>) -> anyhow::Result<Box<dyn Stream>> {
        let stream = self.dial(&proxy.host, proxy.port).await?;
        let mut stream: Box<dyn Stream> = match proxy.tls {
            true => Box::new(self.secure(stream, &proxy.host, proxy.port).await?),
            false => Box::new(stream),
        };
        let Some((host, port)) = target else { return Ok(stream) };
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(authorization) = &proxy.authorization {
            request += &format!("Proxy-Authorization: {authorization}\r\n");
        }
        request += "\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == PROXY_ANSWER {
                bail!("proxy {proxy:?} answers without end");
            }
            // Byte by byte, so that nothing of what follows is swallowed; it is short and rare.
            match stream.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(error) => return Err(error).with_context(|| format!("proxy {proxy:?} closed the connection")),
            }
        }
        let status =
            String::from_utf8_lossy(answer.split(|&byte| byte == b'\r').next().unwrap_or_default()).into_owned();
        match status.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(stream),
            _ => bail!("proxy {proxy:?} refuses to connect to {host}:{port}: {status}"),
        }
    }
}

/// Whether an address leads to no other machine, or to one that only this link knows, such as a cloud's metadata.
fn is_own(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_unspecified() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local(),
    }
}

/// Whether it is HTTPS, the host, the port.
fn parts(uri: &Uri) -> Option<(bool, &str, u16)> {
    let https = uri.scheme_str() == Some("https");
    Some((https, uri.host()?, uri.port_u16().unwrap_or(if https { 443 } else { 80 })))
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Transport>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await.map_err(Into::into) })
    }
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
