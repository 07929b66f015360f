//! Images pushed to and pulled from a registry, whose bytes cost the client as little as can be.
//!
//! Layers are made up before the clock runs: files of a megabyte, of which half is noise, in a tar that is compressed, as what
//! people push is. Each goes over a connection of its own. What is pulled is counted and thrown away.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use ring::digest::{SHA256, digest};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Bytes of a file in a layer.
const FILE: usize = 1 << 20;
/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// Where a registry is, and how it is spoken to.
#[derive(Clone)]
pub struct Registry {
    /// Its address, `HOST:PORT`.
    pub host: String,
    /// Over TLS, with a certificate for `localhost` that this authority has signed.
    pub authority: Option<PathBuf>,
    /// `USER:PASSWORD` in base64, as the header has it.
    pub basic: Option<String>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    head: String,
}

struct Answer {
    code: u16,
    length: usize,
    location: String,
}

impl Connection {
    async fn open(registry: &Registry) -> Result<Self> {
        let socket =
            TcpStream::connect(&registry.host).await.with_context(|| format!("connect to {}", registry.host))?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = if let Some(authority) = &registry.authority {
            let name = ServerName::try_from("localhost")?;
            Box::new(TlsConnector::from(trusting(authority)?).connect(name, socket).await.context("shake hands")?)
        } else {
            Box::new(socket)
        };
        let mut head = format!("Host: {}\r\n", registry.host);
        if let Some(basic) = &registry.basic {
            write!(head, "Authorization: Basic {basic}\r\n")?;
        }
        Ok(Self { stream: BufReader::with_capacity(PIECE, stream), head })
    }

    async fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let kind = match kind {
            "" => String::new(),
            kind if method == "GET" => format!("Accept: {kind}\r\n"),
            kind => format!("Content-Type: {kind}\r\n"),
        };
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\n{}{kind}Content-Length: {length}\r\n\r\n", self.head);
        self.stream.get_mut().write_all(head.as_bytes()).await?;
        self.stream.get_mut().write_all(body).await?;
        self.stream.get_mut().flush().await?;
        let mut answer = Answer { code: 0, length: 0, location: String::new() };
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                bail!("{method} {path}: the connection was closed");
            }
            let text = line.trim_end();
            if answer.code == 0 {
                answer.code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
                continue;
            }
            let Some((name, value)) = text.split_once(':') else { return Ok(answer) };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => answer.length = value.trim().parse()?,
                "location" => answer.location = value.trim().to_owned(),
                _ => {}
            }
        }
    }

    /// The same where the answer must have this code and its body matters to nobody.
    async fn expect(&mut self, code: u16, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<String> {
        let answer = self.ask(method, path, kind, body).await?;
        let mut rest = vec![0; answer.length];
        self.stream.read_exact(&mut rest).await?;
        if answer.code != code {
            bail!("{method} {path}: {}: {}", answer.code, String::from_utf8_lossy(&rest));
        }
        Ok(answer.location)
    }

    async fn push(&mut self, name: &str, digest: &str, bytes: &[u8]) -> Result<()> {
        let location = self.expect(202, "POST", &format!("/v2/{name}/blobs/uploads/"), "", b"").await?;
        // An address with a host is one of this registry.
        let path = match location.split_once("://") {
            Some((_, rest)) => &rest[rest.find('/').unwrap_or(0)..],
            None => &location,
        };
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}digest={digest}");
        self.expect(201, "PUT", &path, "application/octet-stream", bytes).await.map(drop)
    }

    /// Reads a body and forgets it.
    async fn drain(&mut self, path: &str) -> Result<usize> {
        let answer = self.ask("GET", path, "", b"").await?;
        if answer.code != 200 {
            bail!("GET {path}: {}", answer.code);
        }
        let mut left = answer.length;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let buffered = self.stream.buffer().len().min(left);
            if buffered > 0 {
                self.stream.consume(buffered);
                left -= buffered;
                continue;
            }
            let wanted = left.min(PIECE);
            let read = self.stream.get_mut().read(&mut piece[..wanted]).await?;
            if read == 0 {
                bail!("GET {path}: the connection was closed with {left} bytes to come");
            }
            left -= read;
        }
        Ok(answer.length)
    }
}

/// An image whose layers nobody has seen.
pub struct Image {
    layers: Vec<Layer>,
}

impl Image {
    /// That many layers of `size` bytes each; `seed` tells them from those of other turns.
    pub fn make(layers: usize, size: usize, seed: u64) -> Result<Self> {
        let made = (0..layers as u64).map(|layer| Layer::make(size, seed * 1000 + layer));
        Ok(Self { layers: made.collect::<Result<_>>()? })
    }

    /// Bytes of all layers.
    pub fn size(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes.len()).sum()
    }
}

/// Pushes an image.
pub async fn push(registry: &Registry, name: &str, image: Image) -> Result<Value> {
    let bytes = image.size();
    let ids: Vec<&str> = image.layers.iter().map(|layer| layer.id.as_str()).collect();
    let digests: Vec<String> = image.layers.iter().map(|layer| name_of(&layer.bytes)).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
    let config = serde_json::to_vec(&config)?;
    let described = |kind: &str, digest: &str, size: usize| json!({"mediaType": kind, "digest": digest, "size": size});
    let layers = image.layers.iter().zip(&digests).map(|(layer, digest)| described(LAYER, digest, layer.bytes.len()));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": described(CONFIG, &name_of(&config), config.len()),
        "layers": layers.collect::<Vec<_>>(),
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let started = Instant::now();
    let pushes = image.layers.into_iter().zip(digests).map(|(layer, digest)| {
        let (registry, name) = (registry.clone(), name.to_owned());
        tokio::spawn(async move { Connection::open(&registry).await?.push(&name, &digest, &layer.bytes).await })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await??;
    }
    let mut connection = Connection::open(registry).await?;
    connection.push(name, &name_of(&config), &config).await?;
    connection.expect(201, "PUT", &format!("/v2/{name}/manifests/latest"), MANIFEST, &manifest).await?;
    Ok(json!({ "seconds": started.elapsed().as_secs_f64(), "bytes": bytes }))
}

/// Pulls an image by so many clients at a time.
pub async fn pull(registry: &Registry, name: &str, clients: usize) -> Result<Value> {
    let started = Instant::now();
    let pulls = (0..clients).map(|_| {
        let (registry, name) = (registry.clone(), name.to_owned());
        tokio::spawn(async move { pull_one(&registry, &name).await })
    });
    let mut bytes = 0;
    for pull in pulls.collect::<Vec<_>>() {
        bytes += pull.await??;
    }
    Ok(json!({ "seconds": started.elapsed().as_secs_f64(), "bytes": bytes }))
}

async fn pull_one(registry: &Registry, name: &str) -> Result<usize> {
    let mut connection = Connection::open(registry).await?;
    let path = format!("/v2/{name}/manifests/latest");
    let answer = connection.ask("GET", &path, MANIFEST, b"").await?;
    let mut manifest = vec![0; answer.length];
    connection.stream.read_exact(&mut manifest).await?;
    if answer.code != 200 {
        bail!("GET {path}: {}", answer.code);
    }
    let manifest: Value = serde_json::from_slice(&manifest)?;
    let mut bytes = 0;
    for layer in manifest["layers"].as_array().context("no layers")? {
        let digest = layer["digest"].as_str().context("no digest")?;
        bytes += connection.drain(&format!("/v2/{name}/blobs/{digest}")).await?;
    }
    Ok(bytes)
}

/// A layer as it is pushed.
struct Layer {
    bytes: Vec<u8>,
    /// The digest of what is compressed in it.
    id: String,
}

impl Layer {
    /// A layer of about `size` bytes, compressed.
    fn make(size: usize, seed: u64) -> Result<Self> {
        let mut archive = tar::Builder::new(Vec::new());
        for file in 0..size.div_ceil(FILE / 2) {
            let mut content = noise(FILE / 2, seed * 100_000 + file as u64);
            content.resize(FILE, b' ');
            let mut header = tar::Header::new_ustar();
            header.set_size(FILE as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("layer{seed}/file{file}"), content.as_slice())?;
        }
        let archive = archive.into_inner()?;
        let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        compressed.write_all(&archive)?;
        Ok(Self { bytes: compressed.finish()?, id: name_of(&archive) })
    }
}

/// Bytes that no compression makes fewer (SplitMix64).
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).to_le_bytes()
    });
    let mut bytes = Vec::with_capacity(size + 8);
    for word in words.take(size.div_ceil(8)) {
        bytes.extend_from_slice(&word);
    }
    bytes.truncate(size);
    bytes
}

fn name_of(content: &[u8]) -> String {
    let mut name = String::from("sha256:");
    for byte in digest(&SHA256, content).as_ref() {
        write!(name, "{byte:02x}").expect("strings take everything");
    }
    name
}

fn trusting(authority: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
