//! Keys for pods' certificates, and the empty requests that prove who holds them.
//! <https://datatracker.ietf.org/doc/html/rfc2986>

use anyhow::{Context as _, Result, bail};
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PKCS_RSA_SHA256, SigningKey,
};
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};

/// A key and a request for a certificate of it.
#[derive(Clone, Debug)]
pub struct Made {
    /// PKCS#8 in PEM.
    pub pem: String,
    /// PKCS#10 in DER; it names nobody, since signers go by the request's other fields.
    pub request: Vec<u8>,
}

/// Makes a key of a kind that pods may ask for: `RSA3072`, `RSA4096`, `ECDSAP256`, `ECDSAP384` or `ED25519`. Blocks, with
/// RSA for up to some seconds.
///
/// # Errors
/// The kind is none of these.
pub fn make(kind: &str) -> Result<Made> {
    let algorithm = match kind {
        "ECDSAP256" => &PKCS_ECDSA_P256_SHA256,
        "ECDSAP384" => &PKCS_ECDSA_P384_SHA384,
        "ED25519" => &PKCS_ED25519,
        "RSA3072" => return rsa(3072),
        "RSA4096" => return rsa(4096),
        _ => bail!(
            "key type {kind:?} is not supported by this node: use RSA3072, RSA4096, ECDSAP256, ECDSAP384 or ED25519"
        ),
    };
    let key = KeyPair::generate_for(algorithm).with_context(|| format!("make a key of type {kind}"))?;
    Ok(Made { pem: key.serialize_pem(), request: request(&key)? })
}

fn rsa(bits: usize) -> Result<Made> {
    let private = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).context("make an RSA key")?;
    let der = private.to_pkcs8_der().context("encode an RSA key")?;
    let pem = private.to_pkcs8_pem(LineEnding::LF).context("encode an RSA key")?.to_string();
    let key =
        KeyPair::from_pkcs8_der_and_sign_algo(&der.as_bytes().into(), &PKCS_RSA_SHA256).context("use an RSA key")?;
    Ok(Made { pem, request: request(&key)? })
}

fn request(key: &impl SigningKey) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).context("sign a certificate request")?.der().to_vec())
}

#[cfg(test)]
mod tests {
    use rcgen::CertificateSigningRequestParams;

    use super::*;

    #[test]
    fn keys_of_every_kind_sign_an_empty_request_of_their_own() {
        for kind in ["ECDSAP256", "ECDSAP384", "ED25519", "RSA3072"] {
            let made = make(kind).unwrap();
            assert!(made.pem.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{kind}");
            // Parsing checks the signature with the key that the request names.
            let parsed = CertificateSigningRequestParams::from_der(&made.request.as_slice().into()).unwrap();
            assert_eq!(parsed.params.distinguished_name.iter().count(), 0, "{kind}");
        }
        assert!(make("DSA").unwrap_err().to_string().contains("is not supported"));
    }
}
