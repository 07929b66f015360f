//! Scrapes of texts and of targets on loopback, hostile ones among them.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use task::Task;
use tsdb::{
    Db, batch::Durability, column::Columns, labels::Labels, matcher::Matcher, sample::is_stale, select::Cursor,
};

use super::{
    counts::Counts,
    fetch::Intake,
    ledger::Ledger,
    pool::{Common, schema_of},
    target::{Fate, decide},
    terms::Terms,
    *,
};
use crate::{
    config::{Config, scrape::Scrape, units::Names},
    format::{negotiate::Format, protobuf},
    shown::{Health, Targets},
    storage::Storage,
};

fn storage() -> (tempfile::TempDir, Storage) {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = Db::open(dir.path(), tsdb::options::Options::default()).unwrap();
    (dir, Storage::new(db))
}

fn terms() -> Terms {
    Terms::new(Labels::from_pairs([("job", "j"), ("instance", "i")]))
}

/// Scrapes a text; says what went wrong.
fn scrape(ledger: &mut Ledger, storage: &Storage, time: i64, text: &str) -> Result<(), String> {
    ledger.begin(time);
    let mut intake = Intake::new(Ok(Format::Text), None);
    let mut taken = Ok(());
    // In pieces that do not end where lines do.
    for piece in text.as_bytes().chunks(7) {
        taken = taken.and_then(|()| intake.take(piece, ledger));
    }
    let taken = taken.and_then(|()| intake.finish(ledger));
    let failed = taken.is_err();
    ledger.commit(storage, failed, &[("up", f64::from(u8::from(!failed)))]).unwrap();
    taken.map(drop).map_err(|failed| failed.reason().to_owned())
}

/// All samples of a metric, as `{labels} value@time`, stale ones as `end`.
fn samples(storage: &Storage, metric: &str) -> Vec<String> {
    let matcher = Matcher::equal("__name__", metric);
    let selection = storage.db().select_sorted(&[matcher], i64::MIN, i64::MAX).unwrap();
    let mut all = Vec::new();
    let (mut cursor, mut columns) = (Cursor::default(), Columns::default());
    for nth in 0..selection.len() {
        selection.read(nth, &mut cursor, &mut columns).unwrap();
        let labels = selection.labels(nth).without(|name| matches!(name, "__name__" | "job" | "instance"));
        for (time, value) in columns.times.iter().zip(&columns.values) {
            let value = if is_stale(*value) { "end".to_owned() } else { value.to_string() };
            all.push(format!("{labels} {value}@{time}"));
        }
        for (time, value) in &columns.histograms {
            let value = if value.is_stale() { "end".to_owned() } else { format!("h{}", value.to_float().count) };
            all.push(format!("{labels} {value}@{time}"));
        }
    }
    all
}

#[test]
fn series_are_followed_from_scrape_to_scrape_and_end_when_they_are_gone() {
    let (_dir, storage) = storage();
    let mut ledger = Ledger::new(terms());
    scrape(&mut ledger, &storage, 1000, "# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2\n").unwrap();
    scrape(&mut ledger, &storage, 2000, "# TYPE a counter\na{x=\"1\"} 3\na{x=\"2\"} 4\n").unwrap();
    // In another order, one gone, one new.
    scrape(&mut ledger, &storage, 3000, "a{x=\"3\"} 7\na{x=\"2\"} 5\n").unwrap();
    scrape(&mut ledger, &storage, 4000, "a{x=\"3\"} 8\na{x=\"2\"} 6\n").unwrap();
    assert_eq!(
        samples(&storage, "a"),
        [
            "{x=\"1\"} 1@1000",
            "{x=\"1\"} 3@2000",
            "{x=\"1\"} end@3000",
            "{x=\"2\"} 2@1000",
            "{x=\"2\"} 4@2000",
            "{x=\"2\"} 5@3000",
            "{x=\"2\"} 6@4000",
            "{x=\"3\"} 7@3000",
            "{x=\"3\"} 8@4000",
        ]
    );
    assert_eq!(ledger.size(), 2);
}

#[test]
fn a_failed_scrape_ends_all_series_and_the_next_one_brings_them_back() {
    let (_dir, storage) = storage();
    let mut ledger = Ledger::new(terms());
    scrape(&mut ledger, &storage, 1000, "a 1\nb 1\n").unwrap();
    let error = scrape(&mut ledger, &storage, 2000, "a 2\nc 5\nb x\n").unwrap_err();
    assert!(error.contains("invalid syntax"), "{error}");
    scrape(&mut ledger, &storage, 3000, "a 3\nb 3\n").unwrap();
    assert_eq!(samples(&storage, "a"), ["{} 1@1000", "{} end@2000", "{} 3@3000"]);
    assert_eq!(samples(&storage, "b"), ["{} 1@1000", "{} end@2000", "{} 3@3000"]);
    assert!(samples(&storage, "c").is_empty());
    assert_eq!(samples(&storage, "up"), ["{} 1@1000", "{} 0@2000", "{} 1@3000"]);
}

#[test]
fn the_same_series_in_another_writing_does_not_end() {
    let (_dir, storage) = storage();
    let mut ledger = Ledger::new(terms());
    scrape(&mut ledger, &storage, 1000, "a{x=\"1\",y=\"2\"} 1\n").unwrap();
    scrape(&mut ledger, &storage, 2000, "a{y=\"2\",x=\"1\"} 2\n").unwrap();
    assert_eq!(samples(&storage, "a"), ["{x=\"1\", y=\"2\"} 1@1000", "{x=\"1\", y=\"2\"} 2@2000"]);
}

#[test]
fn a_line_that_begins_like_the_one_before_is_not_taken_for_it() {
    let (_dir, storage) = storage();
    let mut ledger = Ledger::new(terms());
    scrape(&mut ledger, &storage, 1000, "a 1\nb 2\n").unwrap();
    scrape(&mut ledger, &storage, 2000, "a {x=\"1\"} 5\nb{} 3\nbb 9\n").unwrap();
    assert_eq!(samples(&storage, "a"), ["{} 1@1000", "{} end@2000", "{x=\"1\"} 5@2000"]);
    assert_eq!(samples(&storage, "b"), ["{} 2@1000", "{} 3@2000"]);
    assert_eq!(samples(&storage, "bb"), ["{} 9@2000"]);
}

#[test]
fn times_of_samples_count_if_they_may() {
    let (_dir, storage) = storage();
    let mut ledger = Ledger::new(terms());
    scrape(&mut ledger, &storage, 5000, "a 1 4000\n").unwrap();
    scrape(&mut ledger, &storage, 6000, "b 1\n").unwrap();
    // Their series do not end, since nobody knows when the next sample is due.
    assert_eq!(samples(&storage, "a"), ["{} 1@4000"]);
    let (_dir, other) = self::storage();
    let mut ledger = Ledger::new(Terms { honor_timestamps: false, ..terms() });
    scrape(&mut ledger, &other, 5000, "a 1 4000\n").unwrap();
    scrape(&mut ledger, &other, 6000, "b 1\n").unwrap();
    assert_eq!(samples(&other, "a"), ["{} 1@5000", "{} end@6000"]);
    let (_dir, third) = self::storage();
    let mut ledger = Ledger::new(Terms { track_staleness: true, ..terms() });
    scrape(&mut ledger, &third, 5000, "a 1 4000\n").unwrap();
    scrape(&mut ledger, &third, 6000, "b 1\n").unwrap();
    assert_eq!(samples(&third, "a"), ["{} 1@4000", "{} end@6000"]);
}

#[test]
fn limits_fail_the_scrape_and_say_which() {
    let cases = [
        (Terms { sample_limit: 1, ..terms() }, "a 1\nb 2\n", "sample limit exceeded"),
        (
            Terms { label_limit: 3, ..terms() },
            "a{x=\"1\"} 1\n",
            "label_limit exceeded (metric: a, number of labels: 4, limit: 3)",
        ),
        (
            Terms { name_limit: 9, ..terms() },
            "a{xxxxxxxxxx=\"1\"} 1\n",
            "label_name_length_limit exceeded (metric: a, label name: xxxxxxxxxx, length: 10, limit: 9)",
        ),
        (
            Terms { value_limit: 3, ..terms() },
            "a{x=\"abcd\"} 1\n",
            "label_value_length_limit exceeded (metric: a, label name: x, value: \"abcd\", length: 4, limit: 3)",
        ),
        (
            Terms { names: Names::Legacy, ..terms() },
            "{\"a.b\"} 1\n",
            "invalid metric name or label names: {__name__=\"a.b\"",
        ),
    ];
    for (terms, text, wanted) in cases {
        let (_dir, storage) = storage();
        let mut ledger = Ledger::new(terms);
        let error = scrape(&mut ledger, &storage, 1000, text).unwrap_err();
        assert!(error.starts_with(wanted), "{error}");
        assert_eq!(samples(&storage, "up"), ["{} 0@1000"]);
        assert!(samples(&storage, "a").is_empty());
    }
}

#[test]
fn labels_of_the_target_win_unless_told_otherwise() {
    let (_dir, storage) = storage();
    let text = "a{job=\"own\",exported_job=\"other\"} 1\n";
    scrape(&mut Ledger::new(terms()), &storage, 1000, text).unwrap();
    assert_eq!(samples(&storage, "a"), ["{exported_exported_job=\"own\", exported_job=\"other\"} 1@1000"]);
    let (_dir, other) = self::storage();
    scrape(&mut Ledger::new(Terms { honor_labels: true, ..terms() }), &other, 1000, text).unwrap();
    let found = other.db().select(&[Matcher::equal("job", "own")], 0, 2000).unwrap();
    assert_eq!(found.len(), 1);
}

#[test]
fn classic_histograms_in_text_are_converted_if_wanted() {
    let text = "# TYPE h histogram\nh_bucket{a=\"1\",le=\"1\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 3\nh_sum{a=\"1\"} 4\nh_count{a=\"1\"} 3\nh_bucket{a=\"2\",le=\"+Inf\"} 5\nh_count{a=\"2\"} 5\n# TYPE g gauge\ng 1\n";
    let options = protobuf::Options { convert: true, ..protobuf::Options::default() };
    let (_dir, storage) = storage();
    let mut ledger = Ledger::new(Terms { histograms: options, ..terms() });
    for time in [1000, 2000] {
        scrape(&mut ledger, &storage, time, text).unwrap();
    }
    scrape(&mut ledger, &storage, 3000, "g 1\n").unwrap();
    assert_eq!(
        samples(&storage, "h"),
        [
            "{a=\"1\"} h3@1000",
            "{a=\"1\"} h3@2000",
            "{a=\"1\"} end@3000",
            "{a=\"2\"} h5@1000",
            "{a=\"2\"} h5@2000",
            "{a=\"2\"} end@3000",
        ]
    );
    assert!(samples(&storage, "h_count").is_empty());
    assert_eq!(samples(&storage, "g").len(), 3);
    let (_dir, both) = self::storage();
    let options = protobuf::Options { classic: true, ..options };
    scrape(&mut Ledger::new(Terms { histograms: options, ..terms() }), &both, 1000, text).unwrap();
    assert_eq!(
        (samples(&both, "h").len(), samples(&both, "h_count").len(), samples(&both, "h_bucket").len()),
        (2, 2, 3)
    );
}

#[test]
fn targets_get_labels_and_addresses_as_prometheus_makes_them() {
    let job = |lines: &str| {
        let text = format!("scrape_configs:\n- job_name: j\n  {}\n", lines.replace('\n', "\n  "));
        Config::parse(&text, |_| None).unwrap().scrape_configs.remove(0)
    };
    let address = Labels::from_pairs([("__address__", "host:80"), ("__meta_x", "y"), ("own", "1")]);
    let shared = Labels::from_pairs([("own", "2"), ("group", "g")]);
    let usual = job("params: {a: [b c, d]}");
    let Ok(Fate::Scraped(plan)) = decide(&address, &shared, &usual) else { panic!("a target") };
    assert_eq!(plan.url, "http://host:80/metrics?a=b+c&a=d");
    assert_eq!(plan.labels, Labels::from_pairs([("job", "j"), ("instance", "host:80"), ("own", "1"), ("group", "g")]));
    assert_eq!(plan.discovered.get("__scrape_interval__"), "1m");
    assert_eq!(plan.discovered.get("__param_a"), "b c");
    let changed = job(
        "relabel_configs:\n- {target_label: __metrics_path__, replacement: 'a b'}\n- {target_label: __param_x, replacement: z}\n- {target_label: __scheme__, replacement: https}\n- {target_label: __scrape_interval__, replacement: 5s}\n- {target_label: __scrape_timeout__, replacement: 5s}",
    );
    let Ok(Fate::Scraped(plan)) = decide(&address, &shared, &changed) else { panic!("a target") };
    assert_eq!((plan.url.as_str(), plan.interval), ("https://host:80/a%20b?x=z", Duration::from_secs(5)));
    let dropped = job("relabel_configs: [{source_labels: [own], regex: '1', action: drop}]");
    assert!(matches!(decide(&address, &shared, &dropped), Ok(Fate::Dropped(_))));
    for (rule, wanted) in [
        ("{target_label: __address__, replacement: ''}", "no address"),
        ("{target_label: __address__, replacement: 'http://x'}", "\"http://x\" is not a valid hostname"),
        ("{target_label: __scrape_interval__, replacement: '0'}", "scrape interval cannot be 0"),
        (
            "{target_label: __scrape_interval__, replacement: x}",
            "error parsing scrape interval: not a valid duration string: \"x\"",
        ),
        (
            "{target_label: __scrape_timeout__, replacement: 2m}",
            "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")",
        ),
        ("{target_label: __scrape_native_histograms__, replacement: maybe}", "error parsing scrape native histograms"),
    ] {
        let error = decide(&address, &shared, &job(&format!("relabel_configs: [{rule}]"))).unwrap_err();
        assert!(error.starts_with(wanted), "{error}");
    }
    let plan = match decide(&address, &shared, &usual) {
        Ok(Fate::Scraped(plan)) => plan,
        other => panic!("{other:?}"),
    };
    let now = Duration::from_secs(1_700_000_000);
    let offset = plan.offset(now, 0);
    assert!(offset < Duration::from_mins(1) && plan.offset(now + Duration::from_mins(1), 0) == offset);
    assert_ne!(plan.offset(now, 12345), offset);
}

#[test]
fn a_factor_names_the_highest_schema_that_grows_as_much() {
    for (factor, schema) in [(0.0, 8), (1.0, 8), (1.002, 8), (1.1, 2), (2.0, 0), (4.0, -1), (65536.0, -4), (1e9, -4)] {
        assert_eq!(schema_of(factor), schema, "{factor}");
    }
}

/// A server whose answers `respond` writes; ends with the test.
fn server(respond: impl Fn(&mut TcpStream, usize) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let respond = Arc::new(respond);
    thread::spawn(move || {
        for (nth, socket) in listener.incoming().enumerate() {
            let (Ok(mut socket), respond) = (socket, respond.clone()) else { return };
            thread::spawn(move || {
                let mut request = Vec::new();
                let mut piece = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    match socket.read(&mut piece) {
                        Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                        _ => return,
                    }
                }
                respond(&mut socket, nth);
            });
        }
    });
    port
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n";

fn scraper(storage: &Storage) -> (Task, Scraper) {
    let task = Task::root("test");
    let common = Common {
        storage: storage.clone(),
        durability: Durability::Logged,
        starts: false,
        metadata: Arc::default(),
        counts: Arc::new(Counts::default()),
        seed: 0,
        cluster: None,
    };
    let scraper = Scraper::new(&task, common);
    (task, scraper)
}

fn jobs(text: &str) -> Vec<Scrape> {
    Config::parse(text, |_| None).unwrap().scrape_configs
}

/// Waits until something is so.
async fn until(mut so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not come about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_targets_harm_nobody_else() {
    let endless = server(|socket, _| {
        let _ = socket.write_all(format!("{HEAD}\r\n").as_bytes());
        while socket.write_all(&[b'a'; 4096]).is_ok() {}
    });
    let samples_without_end = server(|socket, _| {
        let _ = socket.write_all(format!("{HEAD}\r\n").as_bytes());
        while socket.write_all("a 1\n".repeat(1000).as_bytes()).is_ok() {}
    });
    let packed = {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        for _ in 0..16 {
            packer.write_all("a 1\n".repeat(1 << 18).as_bytes()).unwrap();
        }
        packer.finish().unwrap()
    };
    let bomb = server(move |socket, _| {
        let _ = socket.write_all(format!("{HEAD}content-encoding: gzip\r\n\r\n").as_bytes());
        let _ = socket.write_all(&packed);
    });
    let many: Vec<String> = (0..1_000_000).map(|i| format!("l{i}=\"v\"")).collect();
    let many = format!("{HEAD}\r\na{{{}}} 1\n", many.join(","));
    let labels = server(move |socket, _| {
        let _ = socket.write_all(many.as_bytes());
    });
    let loris = server(|socket, _| {
        let _ = socket.write_all(HEAD.as_bytes());
        while socket.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let good = server(|socket, nth| {
        let _ =
            socket.write_all(format!("{HEAD}\r\n# TYPE good counter\n# HELP good It counts.\ngood {nth}\n").as_bytes());
    });
    let (_dir, storage) = storage();
    let (task, scraper) = scraper(&storage);
    let text = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\nscrape_configs:\n- {{job_name: bad, body_size_limit: 200KB, static_configs: [{{targets: ['127.0.0.1:{endless}', '127.0.0.1:{samples_without_end}', '127.0.0.1:{bomb}', '127.0.0.1:{labels}', '127.0.0.1:{loris}', '127.0.0.1:1']}}]}}\n- {{job_name: good, static_configs: [{{targets: ['127.0.0.1:{good}'], labels: {{l: v}}}}]}}\n"
    );
    scraper.apply("config", jobs(&text));
    until(|| {
        let all = scraper.active(None);
        all.len() == 7 && all.iter().all(|target| target.health != Health::Unknown)
    })
    .await;
    until(|| samples(&storage, "good").len() >= 3).await;
    for target in scraper.active(Some("bad")) {
        assert_eq!(target.health, Health::Bad, "{}", target.url);
        assert!(!target.last_error.is_empty());
    }
    let of = |port: u16| {
        let found = scraper.active(Some("bad")).into_iter().find(|target| target.url.contains(&format!(":{port}/")));
        found.unwrap().last_error
    };
    // On a busy machine one of them may run into its time first.
    for port in [endless, samples_without_end, bomb, labels] {
        until(|| of(port) == "body size limit exceeded").await;
    }
    until(|| of(loris).ends_with("context deadline exceeded")).await;
    until(|| of(1).ends_with("connect: connection refused")).await;
    let [target] = &scraper.active(Some("good"))[..] else { panic!("one good target") };
    assert_eq!((target.health, target.labels.get("l"), target.interval.as_str()), (Health::Good, "v", "1s"));
    let mut told = Vec::new();
    scraper.each_metadata(Some("good"), &mut |_, name, about| {
        told.push((name.to_owned(), about.kind.clone(), about.help.clone()));
        true
    });
    assert_eq!(told, [("good".to_owned(), "counter".to_owned(), "It counts.".to_owned())]);
    assert!(samples(&storage, "scrape_samples_scraped").iter().any(|sample| sample.contains("{l=\"v\"} 1@")));
    assert!(task.drain(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_targets_end_and_changed_jobs_go_on() {
    let up = Arc::new(AtomicBool::new(true));
    let seen = Arc::new(Mutex::new(0usize));
    let (answering, counted) = (up.clone(), seen.clone());
    let port = server(move |socket, nth| {
        *counted.lock().unwrap() = nth;
        let status = if answering.load(Ordering::Relaxed) { HEAD } else { "HTTP/1.1 503 x\r\nconnection: close\r\n" };
        let _ = socket.write_all(format!("{status}\r\na 1\n").as_bytes());
    });
    let (_dir, storage) = storage();
    let (task, scraper) = scraper(&storage);
    let text = |rest: &str| {
        format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\nscrape_configs:\n- {{job_name: j, static_configs: [{{targets: ['127.0.0.1:{port}']}}]{rest}}}\n"
        )
    };
    scraper.apply("config", jobs(&text("")));
    until(|| samples(&storage, "a").len() >= 2).await;
    up.store(false, Ordering::Relaxed);
    until(|| samples(&storage, "a").last().is_some_and(|last| last.contains("end"))).await;
    until(|| scraper.active(None)[0].last_error.starts_with("server returned HTTP status 503")).await;
    up.store(true, Ordering::Relaxed);
    until(|| samples(&storage, "a").last().is_some_and(|last| last.contains(" 1@"))).await;
    // A rule that drops the sample: the new task goes on where the old one ended.
    scraper.apply(
        "config",
        jobs(&text(", metric_relabel_configs: [{source_labels: [__name__], regex: a, action: drop}]")),
    );
    until(|| scraper.pool_config("j").unwrap().contains("action: drop")).await;
    scraper.apply("config", jobs(&text("")));
    let before = samples(&storage, "a").len();
    until(|| samples(&storage, "a").len() > before + 1).await;
    scraper.apply("config", Vec::new());
    assert!(scraper.pools().is_empty());
    until(|| samples(&storage, "up").last().is_some_and(|last| last.contains("end"))).await;
    assert!(samples(&storage, "a").last().unwrap().contains("end"));
    let last = *seen.lock().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(*seen.lock().unwrap(), last);
    assert!(task.drain(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_targets_than_allowed_are_none_at_all() {
    let (_dir, storage) = storage();
    let (task, scraper) = scraper(&storage);
    let text = "global: {scrape_interval: 200ms, scrape_timeout: 100ms}\nscrape_configs:\n- {job_name: j, target_limit: 1, keep_dropped_targets: 1, relabel_configs: [{source_labels: [__address__], regex: 'drop.*', action: drop}], static_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2', 'drop1:1', 'drop2:1']}]}\n";
    scraper.apply("config", jobs(text));
    until(|| scraper.active(None).iter().filter(|target| target.health == Health::Bad).count() == 2).await;
    let wanted = "target_limit exceeded (number of targets: 2, limit: 1)";
    assert!(scraper.active(None).iter().all(|target| target.last_error == wanted));
    assert_eq!(scraper.dropped(None).len(), 1);
    assert_eq!(scraper.dropped_counts()["j"], 2);
    let steps = scraper.relabel("j", &Labels::from_pairs([("__address__", "drop1:1")])).unwrap();
    assert!(!steps[0].keep && steps[0].rule["action"] == "drop");
    assert!(task.drain(Duration::from_secs(5)).await);
}
