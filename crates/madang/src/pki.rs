//! Keys and certificates of one instance, made at the first start and renewed before they end.
//!
//! ```text
//! pki/ca.crt, ca.key                           the cluster's authority        root
//! pki/front-proxy-ca.crt, front-proxy-ca.key   for API servers behind this one  root
//! pki/control/apiserver.{crt,key}              serves port 6443               control
//!            kubelet-client.{crt,key}          API server to node             control
//!            front-proxy-client.{crt,key}      API server to those behind it control
//!            service-account.key               signs tokens; made by the role control
//!            encryption.keys                   encrypts Secrets in the store; likewise
//! pki/node/kubelet.{crt,key}                   serves port 10250              root
//!          client.{crt,key}                    system:node:NAME               root
//!          engine.{crt,key}                    carries out Build objects      root
//! pki/edge/server.{crt,key}                    serves registry and metrics     edge
//!          client.{crt,key}                    asks who may do what            edge
//! pki/admin.{crt,key}                          in the kubeconfig              root
//! ```

use std::{
    fs,
    io::{ErrorKind, Write},
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::config::Config;

/// Who carries out `Build` objects.
pub const ENGINE: &str = "system:madang:engine";
/// Days that a certificate of a server or client is good for.
const LEAF_DAYS: i64 = 365;
/// Renewed at start when fewer days are left.
const RENEW_DAYS: i64 = 60;
/// Years of the authority.
const AUTHORITY_YEARS: i64 = 10;

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Files(PathBuf);

impl Files {
    /// The files of the instance with that data directory.
    pub fn of(config: &Config) -> Self {
        Self(config.data_dir.join("pki"))
    }

    /// The path of one file, for example `control/apiserver.crt`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The contents of one file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Makes what is missing or about to end. Files of the control role belong to its user.
    pub fn prepare(&self, config: &Config) -> Result<()> {
        let control = Some(config.control_uid);
        directory(&self.0, None, 0o755)?;
        directory(&self.path("control"), control, 0o700)?;
        directory(&self.path("node"), None, 0o700)?;
        let edge = Some(config.edge_uid);
        directory(&self.path("edge"), edge, 0o700)?;
        let authority = self.authority("ca", "madang-ca")?;
        let proxies = self.authority("front-proxy-ca", "madang-front-proxy-ca")?;
        let node = format!("system:node:{}", config.node_name);
        let mut names = vec![
            "localhost".to_owned(),
            "kubernetes".to_owned(),
            "kubernetes.default".to_owned(),
            "kubernetes.default.svc".to_owned(),
            format!("kubernetes.default.svc.{}", config.cluster_domain),
            config.node_name.clone(),
        ];
        names.dedup();
        let addresses =
            [IpAddr::from([127, 0, 0, 1]), IpAddr::from(config.node_ip), IpAddr::from(config.service_cidr.nth(1))];
        let mut services = vec!["localhost".to_owned(), config.node_name.clone()];
        for part in ["registry", "metrics", "console", "git"] {
            services.push(format!("{part}.madang.internal"));
            let mut name = format!("{part}.madang-system");
            for suffix in ["", ".svc", &format!(".{}", config.cluster_domain)] {
                name += suffix;
                services.push(name.clone());
            }
        }
        let leaves = [
            Leaf {
                file: "edge/server",
                owner: edge,
                name: "madang-edge",
                group: None,
                names: &services,
                addresses: &addresses[..2],
            },
            Leaf {
                file: "edge/client",
                owner: edge,
                name: "system:madang:edge",
                group: None,
                names: &[],
                addresses: &[],
            },
            Leaf {
                file: "control/apiserver",
                owner: control,
                name: "kube-apiserver",
                group: None,
                names: &names,
                addresses: &addresses,
            },
            Leaf {
                file: "control/kubelet-client",
                owner: control,
                name: "kube-apiserver-kubelet-client",
                group: Some("system:masters"),
                names: &[],
                addresses: &[],
            },
            Leaf {
                file: "node/kubelet",
                owner: None,
                name: &node,
                group: Some("system:nodes"),
                names: std::slice::from_ref(&config.node_name),
                addresses: &addresses[..2],
            },
            Leaf {
                file: "node/client",
                owner: None,
                name: &node,
                group: Some("system:nodes"),
                names: &[],
                addresses: &[],
            },
            Leaf { file: "node/engine", owner: None, name: ENGINE, group: None, names: &[], addresses: &[] },
            Leaf {
                file: "admin",
                owner: None,
                name: "admin",
                group: Some("system:masters"),
                names: &[],
                addresses: &[],
            },
        ];
        for leaf in leaves {
            self.leaf(&leaf, &authority)?;
        }
        let proxy = Leaf {
            file: "control/front-proxy-client",
            owner: control,
            name: apiserver::config::FRONT_PROXY,
            group: None,
            names: &[],
            addresses: &[],
        };
        self.leaf(&proxy, &proxies)?;
        Ok(())
    }

    fn authority(&self, file: &str, name: &str) -> Result<Issuer<'static, KeyPair>> {
        let (certificate, key) = (self.path(&format!("{file}.crt")), self.path(&format!("{file}.key")));
        if !certificate.exists() {
            let pair = KeyPair::generate()?;
            let mut params = params(name, None, AUTHORITY_YEARS * 365)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages =
                vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
            write(&key, pair.serialize_pem().as_bytes(), None, 0o600)?;
            write(&certificate, params.self_signed(&pair)?.pem().as_bytes(), None, 0o644)?;
        }
        let pair = KeyPair::from_pem(&fs::read_to_string(&key).with_context(|| format!("read {}", key.display()))?)
            .with_context(|| format!("use {}", key.display()))?;
        Issuer::from_ca_cert_pem(&String::from_utf8(self.read(&format!("{file}.crt"))?)?, pair)
            .with_context(|| format!("use {}", certificate.display()))
    }

    fn leaf(&self, leaf: &Leaf<'_>, authority: &Issuer<'_, KeyPair>) -> Result<()> {
        let (certificate, key) = (self.path(&format!("{}.crt", leaf.file)), self.path(&format!("{}.key", leaf.file)));
        if fs::read(&certificate).is_ok_and(|pem| leaf.still_good(&pem)) && key.exists() {
            return Ok(());
        }
        let pair = KeyPair::generate()?;
        let mut params = params(leaf.name, leaf.group, LEAF_DAYS)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        for name in leaf.names {
            params.subject_alt_names.push(SanType::DnsName(name.clone().try_into()?));
        }
        params.subject_alt_names.extend(leaf.addresses.iter().copied().map(SanType::IpAddress));
        write(&key, pair.serialize_pem().as_bytes(), leaf.owner, 0o600)?;
        write(&certificate, params.signed_by(&pair, authority)?.pem().as_bytes(), leaf.owner, 0o644)
    }
}

struct Leaf<'a> {
    file: &'a str,
    owner: Option<u32>,
    name: &'a str,
    group: Option<&'a str>,
    names: &'a [String],
    addresses: &'a [IpAddr],
}

impl Leaf<'_> {
    /// Whether the certificate lasts, and names what it should.
    fn still_good(&self, pem: &[u8]) -> bool {
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(pem) else { return false };
        let Ok(certificate) = pem.parse_x509() else { return false };
        let lasts = certificate.validity().time_to_expiration().is_some_and(|left| left.whole_days() > RENEW_DAYS);
        let named = certificate.subject().iter_common_name().any(|name| name.as_str() == Ok(self.name));
        let Ok(alternatives) = certificate.subject_alternative_name() else { return false };
        let covered = |name: &x509_parser::extensions::GeneralName<'_>| match name {
            x509_parser::extensions::GeneralName::DNSName(name) => self.names.iter().any(|wanted| wanted == name),
            x509_parser::extensions::GeneralName::IPAddress(bytes) => {
                self.addresses.iter().any(|wanted| matches!(wanted, IpAddr::V4(wanted) if wanted.octets() == **bytes))
            }
            _ => false,
        };
        let present =
            alternatives.map_or(0, |names| names.value.general_names.iter().filter(|name| covered(name)).count());
        let mut wanted: Vec<_> = self.addresses.to_vec();
        wanted.dedup();
        lasts && named && present >= self.names.len() + wanted.len()
    }
}

fn params(name: &str, group: Option<&str>, days: i64) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    let day = |offset: i64| -> Result<_> {
        let span = jiff::SignedDuration::from_hours(24 * offset);
        let date = (jiff::Timestamp::now() + span).to_zoned(jiff::tz::TimeZone::UTC).date();
        Ok(date_time_ymd(i32::from(date.year()), u8::try_from(date.month())?, u8::try_from(date.day())?))
    };
    params.not_before = day(-1)?;
    params.not_after = day(days)?;
    Ok(params)
}

fn directory(path: &Path, owner: Option<u32>, mode: u32) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set mode of {}", path.display()))?;
    give(path, owner)
}

/// Writes a file whole or not at all.
pub fn write(path: &Path, contents: &[u8], owner: Option<u32>, mode: u32) -> Result<()> {
    let named = || format!("write {}", path.display());
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(named),
        _ => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).with_context(named)?;
    file.write_all(contents).with_context(named)?;
    file.sync_all().with_context(named)?;
    give(&temporary, owner)?;
    fs::rename(&temporary, path).with_context(named)
}

fn give(path: &Path, owner: Option<u32>) -> Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    chown(path, Some(owner), Some(owner)).with_context(|| format!("give {} to user {owner}", path.display()))
}

#[cfg(test)]
mod tests;
