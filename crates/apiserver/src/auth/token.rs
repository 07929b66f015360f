//! Bearer tokens: those of service accounts, which this server signs and checks, and static ones from a file.
//!
//! ```text
//! BASE64URL({"alg":"ES256","kid":..}) . BASE64URL({"iss","sub","aud","exp","kubernetes.io":{namespace, serviceaccount, pod, node}}) . signature
//! ```
//!
//! A token is good as long as its signature and times are, and the account and whatever it is bound to exist with the same
//! uid. Signatures that were checked are remembered, since checking one takes longer than the rest of a request.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, bail};
use api::meta::{self, View};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use http::{HeaderMap, header};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::User;
use crate::{config::Config, server::Server};

/// Checked signatures that are remembered.
const REMEMBERED: usize = 4096;
/// The longest token that is looked at, in bytes.
const LONGEST: usize = 16 * 1024;
/// Clocks may differ by this much, in seconds.
const LEEWAY: i64 = 10;

/// Signs and checks tokens.
pub struct Tokens {
    key: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
    issuer: String,
    audiences: Vec<String>,
    fixed: HashMap<String, Arc<User>>,
    checked: Mutex<HashMap<[u8; 32], Arc<Value>>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("key", &self.id).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// What a token is to say.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// Namespace of the account.
    pub namespace: String,
    /// Name and uid of the account.
    pub account: (String, String),
    /// Name and uid of the pod that it is bound to.
    pub pod: Option<(String, String)>,
    /// Name and uid of the Secret that it is bound to.
    pub secret: Option<(String, String)>,
    /// Name and uid of the node that it is bound to, or that its pod is on.
    pub node: Option<(String, String)>,
    /// For whom it is.
    pub audiences: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub issued: i64,
    /// When it ends.
    pub expires: i64,
    /// A random uid of its own.
    pub id: String,
}

/// The token in `Authorization: Bearer`, or in the WebSocket sub-protocol that browsers are limited to.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The token in the sub-protocol `base64url.bearer.authorization.k8s.io.TOKEN` of a WebSocket.
pub fn websocket_bearer(headers: &HeaderMap) -> Option<String> {
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().find_map(|value| {
        let part = value.to_str().ok()?.split(',').find_map(|part| part.trim().strip_prefix(PREFIX))?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
        String::from_utf8(bytes).ok()
    })
}

impl Tokens {
    /// Reads the key, or makes one, and the file of static tokens.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let pem = match fs::read_to_string(&config.token_key) {
            Ok(pem) => pem,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(&config.token_key, &random)?,
            Err(error) => return Err(error).with_context(|| format!("read {}", config.token_key.display())),
        };
        let der = decode_pem(&pem).with_context(|| format!("{}", config.token_key.display()))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random)
            .map_err(|error| anyhow::anyhow!("{}: not an ECDSA P-256 key: {error}", config.token_key.display()))?;
        let id = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &public_der(key.public_key().as_ref())));
        let fixed = match &config.token_file {
            None => HashMap::new(),
            Some(path) => read_fixed(path).with_context(|| format!("token file {}", path.display()))?,
        };
        let audiences = if config.token_audiences.is_empty() {
            vec![config.token_issuer.clone()]
        } else {
            config.token_audiences.clone()
        };
        let issuer = config.token_issuer.clone();
        Ok(Self { key, random, id, issuer, audiences, fixed, checked: Mutex::default() })
    }

    /// Audiences that mean this server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// A signed token.
    pub fn issue(&self, claims: &Claims) -> anyhow::Result<String> {
        let named = |(name, uid): &(String, String)| json!({ "name": name, "uid": uid });
        let mut own = json!({ "namespace": claims.namespace, "serviceaccount": named(&claims.account) });
        for (key, bound) in [("pod", &claims.pod), ("secret", &claims.secret), ("node", &claims.node)] {
            if let Some(bound) = bound {
                own[key] = named(bound);
            }
        }
        let body = json!({
            "iss": self.issuer,
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account.0),
            "aud": claims.audiences, "jti": claims.id,
            "iat": claims.issued, "nbf": claims.issued, "exp": claims.expires,
            "kubernetes.io": own,
        });
        let head = json!({ "alg": "ES256", "kid": self.id });
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&head), encode(&body));
        let Ok(signature) = self.key.sign(&self.random, signed.as_bytes()) else { bail!("sign a token") };
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The user behind a token that is meant for this server.
    pub async fn user(&self, server: &Server, token: &str) -> Option<Arc<User>> {
        self.user_for(server, token, &self.audiences).await.map(|(user, _)| user)
    }

    /// The user behind a token that is meant for one of `audiences`, and those of them that it names.
    pub async fn user_for(
        &self,
        server: &Server,
        token: &str,
        audiences: &[String],
    ) -> Option<(Arc<User>, Vec<String>)> {
        if token.len() > LONGEST {
            return None;
        }
        if let Some(user) = self.fixed.get(token) {
            return Some((user.clone(), audiences.to_vec()));
        }
        let claims = self.verified(token)?;
        let view = View::new(&claims);
        let now = server.now().as_second();
        if view.text("iss") != self.issuer
            || view.int("exp").is_none_or(|end| now > end + LEEWAY)
            || view.int("nbf").is_some_and(|start| now < start - LEEWAY)
        {
            return None;
        }
        let named: Vec<&str> = match view.at("aud").as_str() {
            Some(one) => vec![one],
            None => view.list("aud").map(View::string).collect(),
        };
        let matched: Vec<String> = audiences.iter().filter(|own| named.contains(&own.as_str())).cloned().collect();
        if matched.is_empty() {
            return None;
        }
        let own = view.at("kubernetes.io");
        let (namespace, account) = (own.text("namespace"), own.at("serviceaccount"));
        lives(server, "serviceaccounts", namespace, account).await?;
        let mut user = User::service_account(namespace, account.text("name"), account.text("uid"));
        let mut extra = BTreeMap::new();
        let mut note = |key: &str, value: &str| {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        if !view.text("jti").is_empty() {
            note("credential-id", &format!("JTI={}", view.text("jti")));
        }
        let pod = own.at("pod");
        if pod.exists() {
            lives(server, "pods", namespace, pod).await?;
            note("pod-name", pod.text("name"));
            note("pod-uid", pod.text("uid"));
        }
        if own.has("secret") {
            lives(server, "secrets", namespace, own.at("secret")).await?;
        }
        let node = own.at("node");
        if node.exists() {
            if !pod.exists() {
                lives(server, "nodes", "", node).await?;
            }
            note("node-name", node.text("name"));
            note("node-uid", node.text("uid"));
        }
        user.extra = extra;
        Some((Arc::new(user), matched))
    }

    /// The claims of a token whose signature is ours.
    fn verified(&self, token: &str) -> Option<Arc<Value>> {
        let mut hash = [0u8; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(claims) = self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(&hash) {
            return Some(claims.clone());
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, body) = signed.split_once('.')?;
        let decode =
            |part: &str| -> Option<Value> { serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
        let head = decode(head)?;
        if head["alg"] != "ES256" || head.get("kid").is_some_and(|id| *id != *self.id) {
            return None;
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        let claims = Arc::new(decode(body)?);
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= REMEMBERED {
            checked.clear();
        }
        checked.insert(hash, claims.clone());
        Some(claims)
    }

    /// The OpenID discovery document.
    pub fn configuration(&self, config: &Config) -> Value {
        // Pods ask at the issuer; where that is not this server's name, the keys are found at its address.
        let base = if self.issuer.starts_with("https://") {
            self.issuer.trim_end_matches('/').to_owned()
        } else {
            format!("https://{}:{}", config.advertise.0, config.advertise.1)
        };
        json!({
            "issuer": self.issuer, "jwks_uri": format!("{base}/openid/v1/jwks"),
            "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The public key as a JSON Web Key Set.
    pub fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| BASE64_URL_SAFE_NO_PAD.encode(point.get(range).unwrap_or_default());
        json!({ "keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": part(1..33), "y": part(33..65),
        }] })
    }
}

/// Whether the object is there with the uid that the token names.
async fn lives(server: &Server, plural: &str, namespace: &str, named: View<'_>) -> Option<()> {
    let object = server.find("", plural, namespace, named.text("name")).await.ok()??;
    (meta::uid(&object.value()) == named.text("uid")).then_some(())
}

/// The public key as SubjectPublicKeyInfo: what its id is the hash of.
fn public_der(point: &[u8]) -> Vec<u8> {
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    [&HEAD[..], point].concat()
}

fn create(path: &Path, random: &SystemRandom) -> anyhow::Result<String> {
    let Ok(document) = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, random) else {
        bail!("make a key for service account tokens");
    };
    let text = BASE64_STANDARD.encode(document.as_ref());
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).context("write the key")?;
    Ok(pem)
}

fn decode_pem(pem: &str) -> anyhow::Result<Vec<u8>> {
    let mut inside = false;
    let mut text = String::new();
    for line in pem.lines() {
        match line.trim() {
            "-----BEGIN PRIVATE KEY-----" => inside = true,
            "-----END PRIVATE KEY-----" => return BASE64_STANDARD.decode(text).context("private key is not base64"),
            line if inside => text.push_str(line),
            _ => {}
        }
    }
    bail!("holds no PKCS#8 private key")
}

/// Lines of `TOKEN,USER,UID,"GROUP,GROUP"`.
fn read_fixed(path: &Path) -> anyhow::Result<HashMap<String, Arc<User>>> {
    let mut users = HashMap::new();
    for line in
        fs::read_to_string(path)?.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let fields: Vec<&str> = line.splitn(4, ',').map(|field| field.trim().trim_matches('"')).collect();
        let [token, name, uid, groups @ ..] = fields.as_slice() else { bail!("a line has fewer than three fields") };
        if token.is_empty() || name.is_empty() {
            bail!("a line has no token or no user");
        }
        let groups: Vec<&str> =
            groups.iter().flat_map(|all| all.split(',')).map(str::trim).filter(|one| !one.is_empty()).collect();
        let mut user = User::new(*name, &groups);
        user.uid = (*uid).to_owned();
        users.insert((*token).to_owned(), Arc::new(user));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> (Tokens, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Tokens::open(&Config::in_dir(dir.path())).unwrap(), dir)
    }

    fn claims() -> Claims {
        Claims {
            namespace: "web".to_owned(),
            account: ("default".to_owned(), "u".to_owned()),
            audiences: vec!["api".to_owned()],
            issued: 1,
            expires: 2,
            ..Claims::default()
        }
    }

    #[test]
    fn only_what_was_signed_is_believed() {
        let (tokens, dir) = tokens();
        let token = tokens.issue(&claims()).unwrap();
        assert_eq!(tokens.verified(&token).unwrap()["sub"], "system:serviceaccount:web:default");
        let again = Tokens::open(&Config::in_dir(dir.path())).unwrap();
        assert!(again.verified(&token).is_some(), "the key is kept");
        let parts: Vec<&str> = token.split('.').collect();
        let body = BASE64_URL_SAFE_NO_PAD.encode(r#"{"sub":"system:serviceaccount:kube-system:admin"}"#);
        let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for forged in [
            format!("{}.{body}.{}", parts[0], parts[2]),
            format!("{none}.{body}."),
            format!("{none}.{}.{}", parts[1], parts[2]),
            parts[0].to_owned(),
            String::new(),
            "...".to_owned(),
        ] {
            assert!(tokens.verified(&forged).is_none(), "{forged}");
        }
        let (other, _dir) = self::tokens();
        assert!(other.verified(&token).is_none());
    }

    #[test]
    fn keys_are_published_for_others_to_check() {
        let (tokens, _dir) = tokens();
        let keys = tokens.key_set();
        assert_eq!(keys["keys"][0]["crv"], "P-256");
        assert_eq!(keys["keys"][0]["x"].as_str().unwrap().len(), 43);
    }

    #[test]
    fn static_tokens_come_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "# comment\nsecret,alice,1,\"a,b\"\n").unwrap();
        let users = read_fixed(&path).unwrap();
        assert_eq!(users["secret"].groups, ["a", "b", "system:authenticated"]);
        fs::write(&path, "secret\n").unwrap();
        assert!(read_fixed(&path).is_err());
    }

    #[test]
    fn a_bearer_token_is_found_in_either_header() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer  abc ".parse().unwrap());
        assert_eq!(bearer(&headers), Some("abc"));
        headers.insert(header::AUTHORIZATION, "Basic abc".parse().unwrap());
        assert_eq!(bearer(&headers), None);
        let text = format!(
            "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.{}",
            BASE64_URL_SAFE_NO_PAD.encode("tok")
        );
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, text.parse().unwrap());
        assert_eq!(websocket_bearer(&headers).as_deref(), Some("tok"));
    }
}
