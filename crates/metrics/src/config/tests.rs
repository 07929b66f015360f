//! Files that are read as Prometheus reads them, and files that are refused.

use std::{fs, time::Duration};

use super::{
    scrape::{Escaping, Protocol},
    units::{Address, Names, Size, Span},
    *,
};
use crate::yaml::Value;

fn load(text: &str) -> Result<Config, String> {
    Config::parse(text, |name| (name == "ZONE").then(|| "z1".to_owned()))
}

/// A job with these lines.
fn job(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("scrape_configs:\n  - job_name: j\n{}", lines.concat())
}

#[test]
fn durations_are_read_and_printed_as_prometheus_does() {
    for (text, millis, printed) in [
        ("0", 0, "0s"),
        ("0w", 0, "0s"),
        ("0s", 0, "0s"),
        ("324ms", 324, "324ms"),
        ("3s", 3000, "3s"),
        ("5m", 300_000, "5m"),
        ("1h", 3_600_000, "1h"),
        ("4d", 345_600_000, "4d"),
        ("4d1h", 349_200_000, "97h"),
        ("14d", 1_209_600_000, "2w"),
        ("3w2d1h", 1_990_800_000, "553h"),
        ("8w5d", 5_270_400_000, "61d"),
        ("10y", 315_360_000_000, "10y"),
        ("1h30m", 5_400_000, "1h30m"),
    ] {
        let span = Span::parse(text).unwrap();
        assert_eq!((span.0, span.to_string().as_str()), (Duration::from_millis(millis), printed), "{text}");
    }
    for text in ["", "1", "-1h", "1.5d", "1m1h", "1d1d", "d", "294y", "99999999999999999999s", "1 s"] {
        assert!(Span::parse(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_take_units_with_and_without_an_i() {
    for (text, bytes, printed) in [
        ("15MB", 15 << 20, "15MiB"),
        ("15MiB", 15 << 20, "15MiB"),
        ("1GiB512MiB", 1536 << 20, "1GiB512MiB"),
        ("1.5GiB", 1536 << 20, "1GiB512MiB"),
        ("100B", 100, "100B"),
        ("0", 0, "0B"),
        ("-1KB", -1024, "-1KiB"),
    ] {
        assert_eq!(Size::parse(text).map(|size| (size.0, size.to_string())), Ok((bytes, printed.to_owned())), "{text}");
    }
    assert_eq!(Size::parse("100"), Err("units: unknown unit  in 100".to_owned()));
    for text in ["", "x", "10XB", "99999999999EiB"] {
        assert!(Size::parse(text).is_err(), "{text}");
    }
}

#[test]
fn addresses_hide_their_passwords() {
    let address = Address::parse("http://me:secret@host:90/a?b").unwrap();
    assert_eq!(address.redacted(), "http://me:xxxxx@host:90/a?b");
    assert_eq!((address.scheme(), address.host()), ("http", "host:90"));
    for wrong in ["http://a b", "://x", "http://h:port", "http://\u{7f}", "1http://x"] {
        assert!(Address::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "global:\n", "runtime:\n", "# nothing\n"] {
        let config = load(text).unwrap();
        assert_eq!(config.global, Global::standard(), "{text:?}");
        assert_eq!(config.runtime, Runtime::standard(), "{text:?}");
    }
    assert_eq!(load("global: {scrape_interval: 5s}").unwrap().global.scrape_timeout, Span::seconds(5));
    assert_eq!(load("global: {scrape_interval: 50s}").unwrap().global.scrape_timeout, Span::seconds(10));
}

#[test]
fn a_job_inherits_what_holds_for_all() {
    let config = load(
        "global: {scrape_interval: 30s, scrape_timeout: 20s, body_size_limit: 1MB, sample_limit: 7, label_limit: 3, external_labels: {zone: '${ZONE}-$$', dc: $NOBODY}}\nscrape_configs:\n- job_name: a\n- {job_name: b, scrape_interval: 15s, sample_limit: 9, scrape_native_histograms: true}\n",
    )
    .unwrap();
    let [a, b] = &config.scrape_configs[..] else { panic!("two jobs") };
    assert_eq!((a.scrape_interval, a.scrape_timeout), (Span::seconds(30), Span::seconds(20)));
    assert_eq!((b.scrape_interval, b.scrape_timeout), (Span::seconds(15), Span::seconds(15)));
    assert_eq!((a.sample_limit, b.sample_limit, a.label_limit), (7, 9, 3));
    assert_eq!(a.body_size_limit, Size(1 << 20));
    assert_eq!(a.scrape_protocols, scrape::DEFAULT_PROTOCOLS);
    assert_eq!(b.scrape_protocols.first(), Some(&Protocol::Protobuf));
    assert_eq!(a.metric_name_escaping_scheme, Escaping::AllowUtf8);
    assert_eq!(config.global.external_labels.get("zone"), "z1-$");
    assert!(!config.global.external_labels.has("dc"));
}

#[test]
fn names_and_escaping_follow_from_each_other() {
    let names = |global: &str, own: &str| {
        let config = load(&format!("global: {{{global}}}\nscrape_configs:\n- {{job_name: a, {own}}}\n"))?;
        let job = &config.scrape_configs[0];
        Ok::<_, String>((job.metric_name_validation_scheme, job.metric_name_escaping_scheme.clone()))
    };
    let legacy = "metric_name_validation_scheme: legacy";
    assert_eq!(names(legacy, ""), Ok((Names::Legacy, Escaping::Underscores)));
    assert_eq!(names("", legacy), Ok((Names::Legacy, Escaping::Underscores)));
    assert_eq!(names(legacy, "metric_name_validation_scheme: utf8"), Ok((Names::Utf8, Escaping::AllowUtf8)));
    assert_eq!(names("", "metric_name_escaping_scheme: dots"), Ok((Names::Utf8, Escaping::Dots)));
    assert!(
        names(legacy, "metric_name_escaping_scheme: allow-utf-8").unwrap_err().contains("utf8 metric names requested")
    );
    assert!(names("", "metric_name_escaping_scheme: x").unwrap_err().contains("got \"x\""));
}

#[test]
fn wrong_settings_are_refused_with_the_words_of_prometheus() {
    let cases: &[(String, &str)] = &[
        ("scrape_configs:\n- {}".into(), "job_name is empty"),
        ("scrape_configs:\n-".into(), "empty or null scrape config section"),
        ("scrape_configs:\n- job_name: a\n- job_name: a".into(), "found multiple scrape configs with job name \"a\""),
        ("scrape_configs: []\nscrape_configs: []".into(), "field scrape_configs already set in type config.plain"),
        ("global: {foo: 1}".into(), "field foo not found in type config.plain"),
        ("global: {external_labels: {a: !!binary /w==}}".into(), "\"\\xff\" is not a valid label value"),
        ("global: {external_labels: {!!binary /w==: a}}".into(), "\"\\xff\" is not a valid label name"),
        ("global: {metric_name_validation_scheme: x}".into(), "unrecognized ValidationScheme: \"x\""),
        (
            "global: {scrape_interval: 1s, scrape_timeout: 2s}".into(),
            "global scrape timeout greater than scrape interval",
        ),
        (
            job("scrape_interval: 1s\nscrape_timeout: 2s"),
            "scrape timeout greater than scrape interval for scrape config with job name \"j\"",
        ),
        (job("consult_sd_configs: []"), "field consult_sd_configs not found in type config.ScrapeConfig"),
        (job("static_configs: [{targets: [http://bad]}]"), "\"http://bad\" is not a valid hostname"),
        (job("static_configs:\n-"), "empty or null section in static_configs"),
        (
            job("bearer_token: a\nbearer_token_file: b"),
            "at most one of bearer_token & bearer_token_file must be configured",
        ),
        (
            job("bearer_token: a\nbasic_auth: {username: u}"),
            "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured",
        ),
        (
            job("authorization: {type: Basic}"),
            "authorization type cannot be set to \"basic\", use \"basic_auth\" instead",
        ),
        (
            job("authorization: {}\nbasic_auth: {username: u}"),
            "at most one of basic_auth, oauth2 & authorization must be configured",
        ),
        (job("oauth2: {client_id: x}"), "oauth2 token_url must be configured"),
        (job("no_proxy: x"), "if no_proxy is configured, proxy_url must also be configured"),
        (
            job("proxy_from_environment: true\nproxy_url: http://x"),
            "if proxy_from_environment is configured, proxy_url must not be configured",
        ),
        (job("http_headers: {user-agent: {values: [x]}}"), "setting header \"User-Agent\" is not allowed"),
        (
            job("tls_config: {cert: x}"),
            "exactly one of key or key_file must be configured when a client certificate is configured",
        ),
        (job("tls_config: {min_version: TLS9}"), "unknown TLS version: TLS9"),
        (job("body_size_limit: 100"), "units: unknown unit  in 100"),
        (
            job("scrape_protocols: [prometheusproto]"),
            "scrape_protocols: unknown scrape protocol prometheusproto, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 OpenMetricsText2.0.0 PrometheusProto PrometheusText0.0.4 PrometheusText1.0.0] for scrape config with job name \"j\"",
        ),
        (
            job("scrape_protocols: [PrometheusProto, PrometheusProto]"),
            "duplicated protocol in scrape_protocols, got [PrometheusProto PrometheusProto] for scrape config with job name \"j\"",
        ),
        (
            job("fallback_scrape_protocol: x"),
            "invalid fallback_scrape_protocol for scrape config with job name \"j\": unknown scrape protocol x",
        ),
        (job("relabel_configs:\n-"), "empty or null target relabeling rule in scrape config"),
        (job("metric_relabel_configs:\n-"), "empty or null metric relabeling rule in scrape config"),
        (job("file_sd_configs: [{files: []}]"), "file service discovery config must contain at least one path name"),
        (job("file_sd_configs: [{files: [a.txt]}]"), "path name \"a.txt\" is not valid for file discovery"),
        (job("http_sd_configs: [{url: ''}]"), "URL is missing"),
        (job("http_sd_configs: [{url: 'ftp://x'}]"), "URL scheme must be 'http' or 'https'"),
        (job("http_sd_configs: [{url: 'http://'}]"), "host is missing in URL"),
        (
            job("dns_sd_configs: [{names: [a], type: A}]"),
            "a port is required in DNS-SD configs for all record types except SRV",
        ),
        (job("dns_sd_configs: [{names: [a], type: TXT, port: 1}]"), "invalid DNS-SD records type TXT"),
        (job("docker_sd_configs: [{port: 1}]"), "host missing"),
        (job("kubernetes_sd_configs: [{role: vacation}]"), "unknown Kubernetes SD role \"vacation\""),
        (
            job("kubernetes_sd_configs: [{namespaces: {}}]"),
            "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)",
        ),
        (
            job("kubernetes_sd_configs: [{role: pod, namespaces: {foo: []}}]"),
            "field foo not found in type kubernetes.plain",
        ),
        (
            job("kubernetes_sd_configs: [{role: pod, api_server: 'https://x', kubeconfig_file: y}]"),
            "cannot use 'kubeconfig_file' and 'api_server' simultaneously",
        ),
        (
            job("kubernetes_sd_configs: [{role: pod, basic_auth: {username: u}}]"),
            "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
        ),
        (
            job("kubernetes_sd_configs: [{role: node, selectors: [{role: pod, label: a=b}]}]"),
            "node role supports only node selectors",
        ),
        (
            job("kubernetes_sd_configs: [{role: pod, selectors: [{role: pod, label: a}, {role: pod, label: b}]}]"),
            "duplicated selector role: pod",
        ),
        (
            job("kubernetes_sd_configs: [{role: pod, selectors: [{role: pod, field: metadata.status-Running}]}]"),
            "invalid selector: 'metadata.status-Running'; can't understand 'metadata.status-Running'",
        ),
        ("rule_files: ['a/*/b']".into(), "invalid rule file path \"a/*/b\""),
        ("scrape_config_files: ['a/*/*']".into(), "invalid scrape config file path \"a/*/*\""),
        ("remote_write:\n-".into(), "empty or null remote write config section"),
        ("remote_write: [{name: x}]".into(), "url for remote_write is empty"),
        (
            "remote_write: [{url: 'http://x', name: a}, {url: 'http://x', name: a}]".into(),
            "found multiple remote write configs with job name \"a\"",
        ),
        (
            "remote_write: [{url: 'http://x', headers: {x-prometheus-remote-write-version: y}}]".into(),
            "x-prometheus-remote-write-version is a reserved header. It must not be changed",
        ),
        (
            "remote_write: [{url: 'http://x', headers: {Authorization: y}}]".into(),
            "authorization header must be changed via the basic_auth",
        ),
        (
            "remote_write: [{url: 'http://x', protobuf_message: y}]".into(),
            "invalid protobuf_message value: unknown type for remote write protobuf message y, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request",
        ),
        (
            "remote_write: [{url: 'http://x', queue_config: {capacity: 0}}]".into(),
            "remote write queue capacity must be positive",
        ),
        (
            "remote_write: [{url: 'http://x', queue_config: {min_shards: 60}}]".into(),
            "remote write queue min_shards must not be greater than max_shards",
        ),
        (
            "remote_write: [{url: 'http://x', sigv4: {}, basic_auth: {username: u}}]".into(),
            "Currently configured: [basic_auth sigv4]",
        ),
        ("remote_read: [{name: x}]".into(), "url for remote_read is empty"),
        ("alerting: {alert_relabel_configs: [null]}".into(), "empty or null alert relabeling rule"),
        (
            "alerting: {alertmanagers: [{relabel_configs: [null]}]}".into(),
            "empty or null Alertmanager target relabeling rule",
        ),
        (
            "alerting: {alertmanagers: [{api_version: v1}]}".into(),
            "expected Alertmanager api version to be one of [v2] but got v1",
        ),
        ("tracing: {sampling_fraction: 1}".into(), "tracing endpoint must be set"),
        (
            "tracing: {endpoint: x, compression: foo}".into(),
            "invalid compression type foo provided, valid options: gzip",
        ),
        (
            "tracing: {endpoint: x, headers: {authorization: y}}".into(),
            "authorization header configuration is not yet supported",
        ),
        (
            "storage: {tsdb: {chunk_encoding: {floats: XOR}}}".into(),
            "'storage.tsdb.chunk_encoding.floats' must be 'xor' or 'xor2', or the field must be omitted entirely, got \"XOR\"",
        ),
        ("storage: {tsdb: {retention: {time: -1h}}}".into(), "not a valid duration string: \"-1h\""),
        (
            "storage: {tsdb: {retention: {size: -1KB}}}".into(),
            "'storage.tsdb.retention.size' must be greater than or equal to 0",
        ),
        (
            "storage: {tsdb: {retention: {percentage: 101}}}".into(),
            "'storage.tsdb.retention.percentage' must be in the range [0, 100]",
        ),
        ("otlp: {translation_strategy: X}".into(), "unsupported OTLP translation strategy \"X\""),
        ("otlp: {promote_resource_attributes: [a, a]}".into(), "duplicated promoted OTel resource attribute \"a\""),
        (
            "otlp: {ignore_resource_attributes: [a]}".into(),
            "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true",
        ),
        (
            "global: {metric_name_validation_scheme: legacy}\notlp: {translation_strategy: NoTranslation}".into(),
            "OTLP translation strategy \"NoTranslation\" is not allowed when UTF8 is disabled",
        ),
    ];
    for (text, wanted) in cases {
        match load(text) {
            Ok(_) => panic!("{text}\nis taken, but: {wanted}"),
            Err(error) => assert!(error.contains(wanted), "{text}\n{error}\nis not: {wanted}"),
        }
    }
}

#[test]
fn what_is_printed_hides_secrets_and_reads_as_the_same() {
    let text = "global: {scrape_interval: 15s, external_labels: {a: b}}
rule_files: [rules/*.yml]
scrape_configs:
- job_name: full
  params:
    match[]: ['{a=\"b\"}', up]
  basic_auth: {username: u, password: hunter2}
  proxy_url: http://me:hunter2@proxy:3128
  http_headers: {X-Key: {secrets: [hunter2], values: [plain]}}
  relabel_configs:
  - {source_labels: [a, b], regex: '(x|y).*', target_label: c, replacement: '${1}'}
  static_configs: [{targets: ['localhost:9090', 'x:1'], labels: {my: label}}]
  file_sd_configs: [{files: [a/*.yml]}]
  dns_sd_configs: [{names: [a.b], type: A, port: 90}]
  kubernetes_sd_configs: [{role: endpoints, namespaces: {names: [d]}, selectors: [{role: pod, label: 'a=b', field: 'c=d'}]}]
remote_write:
- {url: 'http://u:hunter2@h/w', name: r, bearer_token: hunter2, write_relabel_configs: [{source_labels: [__name__], regex: expensive.*, action: drop}]}
alerting: {alertmanagers: [{static_configs: [{targets: ['a:9093']}], timeout: 5s}]}
storage: {tsdb: {out_of_order_time_window: 30m, retention: {time: 1d}}}
";
    let config = load(text).unwrap();
    let printed = config.print();
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("password: <secret>"), "{printed}");
    assert!(
        printed.contains("    - targets:\n")
            || printed.contains("  static_configs:\n  - targets:\n    - localhost:9090\n"),
        "{printed}"
    );
    assert!(printed.contains("  - source_labels: [a, b]\n    separator: ;\n    regex: (x|y).*\n    target_label: c\n    replacement: ${1}\n    action: replace\n"), "{printed}");
    let again = load(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.print(), printed);
    assert_eq!(again.scrape_configs[0].discovery, config.scrape_configs[0].discovery);
    assert_eq!(again.scrape_configs[0].relabel_configs, config.scrape_configs[0].relabel_configs);
    let mut password = config.scrape_configs[0].http.basic_auth.clone().unwrap().password;
    assert_eq!(password.print(), crate::yaml::Print::Text("<secret>".into()));
}

#[test]
fn what_is_kept_is_what_is_configured_else_what_it_was_started_with() {
    let started = tsdb::options::Options { retention_bytes: 5, exemplars: 7, ..tsdb::options::Options::default() };
    let bounds = |text: &str| load(text).unwrap().storage.bounds(&started);
    assert_eq!(bounds("{}"), started.bounds());
    let window = bounds("storage: {tsdb: {out_of_order_time_window: 30m}}");
    assert_eq!((window.out_of_order.as_secs(), window.retention_bytes), (1800, 5));
    let given = bounds("storage: {tsdb: {retention: {time: 1d, percentage: 12.5}}, exemplars: {max_exemplars: 3}}");
    assert_eq!((given.retention.as_secs(), given.retention_bytes, given.exemplars), (86_400, 0, 3));
    assert_eq!(given.retention_percentage, 12.5);
}

#[test]
fn relative_names_are_below_the_directory_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_string_lossy().into_owned();
    fs::create_dir(dir.path().join("jobs")).unwrap();
    fs::write(dir.path().join("jobs/one.yml"), "scrape_configs:\n- {job_name: one, bearer_token_file: token}\n")
        .unwrap();
    fs::write(dir.path().join("jobs/two.yml"), "scrape_configs:\n- {job_name: two}\n").unwrap();
    let file = dir.path().join("prometheus.yml");
    let main = "rule_files: [a.yml, /b.yml]\nscrape_config_files: ['jobs/*.yml']\nscrape_configs:\n- {job_name: main, basic_auth: {username: u, password_file: p}, file_sd_configs: [{files: [t/*.json]}]}\n";
    fs::write(&file, main).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.rule_files, [format!("{root}/a.yml"), "/b.yml".to_owned()]);
    assert_eq!(config.scrape_configs[0].http.basic_auth.as_ref().unwrap().password_file, format!("{root}/p"));
    assert_eq!(config.scrape_configs[0].discovery.file[0].files, [format!("{root}/t/*.json")]);
    let jobs = config.all_scrape_configs().unwrap();
    let names: Vec<&str> = jobs.iter().map(|job| job.job_name.as_str()).collect();
    assert_eq!(names, ["main", "one", "two"]);
    assert_eq!(jobs[1].http.authorization.as_ref().unwrap().credentials_file, format!("{root}/jobs/token"));
    fs::write(dir.path().join("jobs/three.yml"), "scrape_configs:\n- {job_name: main}\n").unwrap();
    let error = config.all_scrape_configs().unwrap_err();
    assert!(
        error.contains("found multiple scrape configs with job name \"main\", first found in main config file"),
        "{error}"
    );
    fs::write(&file, "global: {x: 1}").unwrap();
    let error = Config::load(&file).unwrap_err();
    assert!(error.starts_with(&format!("parsing YAML file {root}/prometheus.yml: yaml: unmarshal errors:")), "{error}");
    assert!(Config::load(&dir.path().join("none")).unwrap_err().ends_with("no such file or directory"));
}

#[test]
fn patterns_match_as_shells_match_names() {
    for (pattern, name, wanted) in [
        ("*.yml", "a.yml", true),
        ("*.yml", "a.yaml", false),
        ("a*b*c", "axxbyyc", true),
        ("a?c", "abc", true),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("\\*", "*", true),
        ("*", "", true),
        ("", "a", false),
    ] {
        assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), Ok(wanted), "{pattern} {name}");
    }
    assert_eq!(matches(b"[a", b"a"), Err(BadPattern));
}

#[test]
fn mechanisms_that_are_not_there_are_read_and_named() {
    let config = load(&job("consul_sd_configs: [{server: 'x:1', token: hunter2}]")).unwrap();
    assert_eq!(config.scrape_configs[0].discovery.unsupported().collect::<Vec<_>>(), ["consul_sd_configs"]);
    assert!(!config.print().contains("hunter2"));
}
