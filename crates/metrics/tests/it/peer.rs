//! Against Prometheus 3.15 itself: both hold the same samples and are asked the same; what they answer must be the same, word by
//! word where users read it.
//!
//! ```text
//! data ── remote write ──┬─▶ metrics, in this process ──┐
//! (one hour, made up)    └─▶ Prometheus ────────────────┴─ generate: thousands of queries, a seed ─▶ answers: differences
//! ```
//!
//! What differs stands in `peer/differences.txt`, each with the reason; a line there that nothing needs fails the test too, so the
//! list only shrinks. `MADANG_PROMETHEUS` names the program, `MADANG_PEER_SEED` and `MADANG_PEER_QUERIES` other queries.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use metrics::remote::request::{self, Version};
use promql::parse::Features;
use tokio::net::TcpStream;

use crate::place::{Answered, Place};

mod answers;
mod data;
mod endpoints;
mod generate;
mod promtool;
mod random;

use answers::Differences;
use generate::Generator;

/// Everything that can be switched on and answers from the data alone.
const FEATURES: Features = Features { type_and_unit: false, delayed_name_removal: false, ..Features::ALL };
const FLAGS: &str = "--enable-feature=promql-experimental-functions,promql-extended-range-selectors,promql-binop-fill-modifiers,exemplar-storage";

/// Prometheus, which ends with this.
pub struct Prometheus {
    child: Child,
    address: String,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of Prometheus\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Prometheus {
    /// Starts it with a configuration and waits until it answers.
    async fn start(config: &str) -> Self {
        let binary =
            env::var_os("MADANG_PROMETHEUS").expect("MADANG_PROMETHEUS names Prometheus 3.15, which xtask builds");
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("prometheus.yml"), dir.path().join("log"));
        fs::write(&file, config).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(binary)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--web.enable-remote-write-receiver", "--web.enable-admin-api", "--web.enable-lifecycle"])
            .args(["--storage.tsdb.retention.time=100y", "--log.level=warn", FLAGS])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let peer = Self { child, address, log, _dir: dir };
        for _ in 0..600 {
            if let Ok(answered) = peer.try_send(Request::get("/-/ready"), Bytes::new()).await
                && answered.status == StatusCode::OK
            {
                return peer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("Prometheus does not answer");
    }

    async fn try_send(&self, request: http::request::Builder, sent: Bytes) -> anyhow::Result<Answered> {
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = request.header("host", &self.address).body(Full::new(sent))?;
        let exchange = async move {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let bytes = body.collect().await?.to_bytes().to_vec();
            anyhow::Ok(Answered { status: head.status, headers: head.headers, bytes })
        };
        let (answered, _) = tokio::join!(exchange, connection);
        answered
    }

    async fn get(&self, address: &str) -> Answered {
        self.try_send(Request::get(address), Bytes::new()).await.unwrap()
    }
}

/// A text as part of an address.
pub fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(escape).collect()
}

fn number(variable: &str, usual: u64) -> u64 {
    env::var(variable).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Both, with the same samples.
async fn both() -> (Place, Prometheus) {
    let place = Place::empty(|settings| settings.query.features = FEATURES);
    let peer = Prometheus::start("global: {scrape_interval: 1m}\n").await;
    let items = data::items();
    // Series by series; a request holds whole ones.
    let mut rest = &items[..];
    while !rest.is_empty() {
        let mut end = rest.len().min(4_000);
        while end < rest.len() && rest[end].series == rest[end - 1].series {
            end += 1;
        }
        let packed = snap::raw::Encoder::new().compress_vec(&request::write(Version::Two, &rest[..end])).unwrap();
        let message = || {
            Request::post("/api/v1/write")
                .header("content-encoding", "snappy")
                .header("content-type", Version::Two.kind())
        };
        let ours = place.request(message(), packed.clone()).await;
        let theirs = peer.try_send(message(), packed.into()).await.unwrap();
        assert_eq!(ours.status, StatusCode::NO_CONTENT, "{}", ours.text());
        assert_eq!(theirs.status, StatusCode::NO_CONTENT, "{}", theirs.text());
        rest = &rest[end..];
    }
    (place, peer)
}

async fn ours(place: &Place, address: &str) -> Answered {
    place.request(Request::get(address), "").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "second tier: Prometheus takes minutes to build"]
async fn generated_queries_are_answered_as_prometheus_answers_them() {
    let (place, peer) = both().await;
    let (seed, count) = (number("MADANG_PEER_SEED", 1), number("MADANG_PEER_QUERIES", 5_000));
    let mut generator = Generator::new(seed);
    let mut differences = Differences::new("query");
    let mut good = 0;
    for nth in 0..count {
        let ask = generator.ask();
        let address = ask.address();
        let (mine, other) = tokio::join!(ours(&place, &address), peer.get(&address));
        good += u64::from(other.status == StatusCode::OK);
        let sorted = ask.query.starts_with("sort");
        differences.compare(&format!("{ask:?}"), sorted, &mine, &other);
        if nth % 4 == 0 {
            for form in ["format_query", "parse_query"] {
                let address = format!("/api/v1/{form}?query={}", escaped(&ask.query));
                differences.compare(
                    &format!("{form} {}", ask.query),
                    true,
                    &ours(&place, &address).await,
                    &peer.get(&address).await,
                );
            }
        }
    }
    assert!(good > count / 2, "only {good} of {count} queries have an answer");
    eprintln!("{count} queries from seed {seed}, {good} with an answer");
    differences.judge(count >= 5_000 && seed == 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "second tier: Prometheus takes minutes to build"]
async fn every_endpoint_answers_as_that_of_prometheus() {
    endpoints::check().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "second tier: Prometheus takes minutes to build"]
async fn promtool_prints_the_same_of_both() {
    promtool::queries().await;
}

#[test]
#[ignore = "second tier: promtool takes minutes to build"]
fn promtool_judges_tests_of_rules_in_the_same_way() {
    let Some(module) = crate::rules::module(crate::rules::MODULE) else { return };
    promtool::rules(&module.join("cmd/promtool/testdata"));
}

#[test]
fn queries_are_the_same_for_a_seed_and_mostly_right() {
    let asked = |seed| {
        let mut generator = Generator::new(seed);
        (0..500).map(|_| generator.ask()).collect::<Vec<_>>()
    };
    let (first, again, other) = (asked(1), asked(1), asked(2));
    assert!(first.iter().zip(&again).all(|(one, two)| one.address() == two.address()));
    assert!(first.iter().zip(&other).any(|(one, two)| one.address() != two.address()));
    let parsed = first.iter().filter(|ask| promql::parse::parse(&ask.query, FEATURES).is_ok()).count();
    assert!((350..500).contains(&parsed), "{parsed} of 500 parse");
}
