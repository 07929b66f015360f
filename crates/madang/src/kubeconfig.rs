//! The kubeconfig of the administrator: everything in one file, mode 0600.

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{config::Config, pki};

/// Writes `<data-dir>/kubeconfig`.
pub fn write(config: &Config, files: &pki::Files) -> Result<()> {
    let text = text(
        &format!("https://127.0.0.1:{}", config.port("api")),
        &files.read("ca.crt")?,
        &files.read("admin.crt")?,
        &files.read("admin.key")?,
    );
    pki::write(&config.data_dir.join("kubeconfig"), text.as_bytes(), None, 0o600)
}

fn text(server: &str, authority: &[u8], certificate: &[u8], key: &[u8]) -> String {
    let [authority, certificate, key] = [authority, certificate, key].map(|bytes| STANDARD.encode(bytes));
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: madang\n\
         \x20 cluster:\n\
         \x20   server: {server}\n\
         \x20   certificate-authority-data: {authority}\n\
         users:\n\
         - name: admin\n\
         \x20 user:\n\
         \x20   client-certificate-data: {certificate}\n\
         \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: madang\n\
         \x20 context:\n\
         \x20   cluster: madang\n\
         \x20   user: admin\n\
         current-context: madang\n"
    )
}
