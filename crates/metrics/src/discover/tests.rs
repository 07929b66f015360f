//! Groups from files, servers and records, and what is told of them.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::*;
use crate::config::discovery::File;

fn group(source: &str, targets: &[&str]) -> Group {
    let targets = targets.iter().map(|target| Labels::from_pairs([("__address__", target)])).collect();
    Group { source: source.into(), targets, labels: Labels::empty() }
}

#[test]
fn only_what_has_changed_is_told() {
    let old = [group("a", &["1"]), group("b", &["2"]), group("c", &["3"])];
    let new = [group("a", &["1"]), group("b", &["4"]), group("d", &["5"])];
    assert_eq!(changes(&old, &new), [group("c", &[]), group("b", &["4"]), group("d", &["5"])]);
}

#[test]
fn groups_are_read_from_json_and_yaml() {
    let json = r#"[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}, {"targets": []}]"#;
    let yaml = "- targets: [a:1, b:2]\n  labels: {x: y}\n- targets: []\n";
    let (one, other) = (listed::read(json, true, "f").unwrap(), listed::read(yaml, false, "f").unwrap());
    assert_eq!(one, other);
    assert_eq!((one[0].source.as_str(), one[0].targets.len(), one[0].labels.get("x")), ("f:0", 2, "y"));
    for (text, json) in [
        ("{", true),
        ("[null]", true),
        ("[{\"target\": []}]", true),
        ("- targes: []", false),
        ("- ", false),
        ("{}", false),
    ] {
        assert!(listed::read(text, json, "f").is_err(), "{text}");
    }
    assert!(listed::read("", false, "f").unwrap().is_empty());
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_groups_and_one_that_is_gone_loses_them() {
    let dir = tempfile::tempdir().unwrap();
    let pattern = format!("{}/*.json", dir.path().display());
    let (one, two) = (dir.path().join("one.json"), dir.path().join("two.json"));
    fs::write(&one, r#"[{"targets": ["a:1"]}]"#).unwrap();
    fs::write(&two, r#"[{"targets": ["b:1"]}]"#).unwrap();
    let mut told = BTreeMap::new();
    let patterns = [pattern];
    let failures = std::sync::atomic::AtomicUsize::new(0);
    let failed = || {
        failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let found = file::look(&patterns, &mut told, &failed);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].labels.get("__meta_filepath"), one.to_string_lossy());
    assert!(file::look(&patterns, &mut told, &failed).is_empty());
    fs::write(&one, "not json").unwrap();
    fs::remove_file(&two).unwrap();
    let found = file::look(&patterns, &mut told, &failed);
    assert!(matches!(&found[..], [gone] if gone.targets.is_empty() && gone.source.contains("two.json")), "{found:?}");
    assert_eq!(failures.into_inner(), 1);
}

#[tokio::test]
async fn the_kernel_says_when_a_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yml");
    fs::write(&file, "- targets: [a:1]\n").unwrap();
    let (sender, mut groups) = mpsc::channel(8);
    let task = Task::root("test");
    // An interval so long that only the kernel can be faster.
    let settings = File {
        files: vec![format!("{}/*.yml", dir.path().display())],
        refresh_interval: crate::config::units::Span::seconds(3600),
    };
    let teller = Teller::new("file", 0, "job", &Arc::default(), &sender);
    task.spawn_until_cancelled("file", async move { file::run(settings, teller).await });
    let mut next = async || tokio::time::timeout(Duration::from_secs(10), groups.recv()).await.unwrap().unwrap();
    assert_eq!(next().await[0].targets.len(), 1);
    fs::write(&file, "- targets: [a:1, b:2]\n").unwrap();
    assert_eq!(next().await[0].targets.len(), 2);
    fs::rename(&file, dir.path().join("b.yml")).unwrap();
    let moved = next().await;
    assert_eq!(moved.iter().map(|group| group.targets.len()).sum::<usize>(), 2);
    assert!(task.drain(Duration::from_secs(5)).await);
}

#[test]
fn records_become_targets() {
    use hickory_resolver::proto::rr::{
        Name, RData,
        rdata::{MX, SRV},
    };

    let name = |text: &str| Name::from_ascii(text).unwrap();
    let service = RData::SRV(SRV::new(1, 2, 9100, name("host.example.")));
    let labels = dns::target("_x._tcp.example", &service, 0).unwrap();
    assert_eq!(labels.get("__address__"), "host.example:9100");
    assert_eq!(labels.get("__meta_dns_srv_record_target"), "host.example.");
    let mail = dns::target("example", &RData::MX(MX::new(1, name("mx.example."))), 25).unwrap();
    assert_eq!(mail.get("__address__"), "mx.example:25");
    let v6 = dns::target("example", &RData::AAAA("::1".parse::<std::net::Ipv6Addr>().unwrap().into()), 80).unwrap();
    assert_eq!(v6.get("__address__"), "[::1]:80");
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_counted_by_job() {
    let (sender, _groups) = mpsc::channel(8);
    let failures = Arc::new(Failures::default());
    let task = Task::root("test");
    let teller = Teller::new("http", 0, "shop", &failures, &sender);
    let asked = Arc::new(tokio::sync::Notify::new());
    let noted = asked.clone();
    task.spawn_until_cancelled("refresh", async move {
        refresh("http", Duration::from_secs(1), teller, move |_| {
            let noted = noted.clone();
            async move {
                noted.notify_one();
                Err("no answer".to_owned())
            }
        })
        .await;
    });
    // When it is asked again, the first failure has been counted.
    asked.notified().await;
    asked.notified().await;
    let mut out = String::new();
    failures.write(&mut out);
    assert!(task.drain(Duration::from_secs(5)).await);
    let line = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).map(|count| count.trim().to_owned());
    let of_job = "prometheus_sd_refresh_failures_total{config=\"shop\",mechanism=\"http\"}";
    assert_ne!(line(of_job).as_deref(), Some("0"), "{out}");
    assert_eq!(line("prometheus_sd_dns_lookup_failures_total").as_deref(), Some("0"), "{out}");
    failures.keep(|job| job != "shop");
    out.clear();
    failures.write(&mut out);
    assert!(!out.contains("shop"));
}
