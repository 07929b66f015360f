//! Tests of `attributes`.

use super::*;

fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn attributes_become_options() {
    let given = attributes(&[
        ("target", "app"),
        ("build-arg:A", "1"),
        ("build-arg:B", ""),
        ("label:x", "y"),
        ("no-cache", "one,two"),
        ("image-resolve-mode", "pull"),
        ("add-hosts", "Db=10.0.0.1,six=::1"),
        ("shm-size", "1048576"),
        ("platform", "linux/amd64"),
        ("force-network-mode", "host"),
        ("attest:provenance", "mode=min,inline-only=true"),
    ]);
    let read = options(&given, &["security.insecure".to_owned()]).unwrap();
    assert_eq!(read.target.as_deref(), Some("app"));
    assert_eq!(read.arguments, BTreeMap::from([("A".into(), "1".into()), ("B".into(), String::new())]));
    assert_eq!(read.labels["x"], "y");
    assert_eq!((read.no_cache, read.no_cache_filter), (false, vec!["one".to_owned(), "two".into()]));
    assert!(read.pull && read.allow_insecure && read.allow_host_network);
    assert_eq!(read.hosts[0], ("db".to_owned(), "10.0.0.1".parse().unwrap()));
    assert_eq!((read.shm_size, read.network), (Some(1 << 20), NetworkMode::Host));
    assert!(options(&attributes(&[("no-cache", "")]), &[]).unwrap().no_cache);
}

#[test]
fn what_cannot_be_done_is_named() {
    for (name, value, reason) in [
        ("ulimit", "nofile=2:1", "less than or equal to hard limit"),
        ("cpusetcpus", "0", "cannot be given this limit"),
        ("shm-size", "x", "invalid shm-size"),
        ("add-hosts", "a", "key-value"),
        ("add-hosts", "a=b", "failed to parse IP b"),
        ("force-network-mode", "x", "invalid netmode x"),
        ("attest:sbom", "", "sbom: attestations"),
    ] {
        let error = options(&attributes(&[(name, value)]), &[]).unwrap_err().0;
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn contexts_are_found_where_attributes_say() {
    let none = HashMap::new();
    let local = |name: &str| Place::Local { name: name.into(), session: None };
    let plain = attributes(&[]);
    let main = main_context(&plain, &none).unwrap();
    assert_eq!(main, local("context"));
    assert_eq!(dockerfile_place(&plain, &none, &main), Some(local("dockerfile")));
    let remote = attributes(&[("context", "https://example.com/a.git#main")]);
    let main = main_context(&remote, &none).unwrap();
    assert_eq!(main, Place::Remote("https://example.com/a.git#main".into()));
    assert_eq!(dockerfile_place(&remote, &none, &main), None);
    let upload = attributes(&[("context", "http://buildkit-session/abc"), ("dockerfilekey", "dockerfile")]);
    let main = main_context(&upload, &none).unwrap();
    assert_eq!(main, Place::Upload("http://buildkit-session/abc".into()));
    assert_eq!(dockerfile_place(&upload, &none, &main), Some(local("dockerfile")));
    let shared = attributes(&[("local-sessionid:context", "other")]);
    let session = Some("other".to_owned());
    assert_eq!(main_context(&shared, &none).unwrap(), Place::Local { name: "context".into(), session });
}

#[test]
fn named_contexts_are_images_directories_and_results_of_other_builds() {
    let inputs = HashMap::from([("base".to_owned(), of_image("madang.internal/build:1"))]);
    let given = attributes(&[
        ("context:alpine", "docker-image://alpine:3"),
        ("context:nothing", "docker-image://scratch"),
        ("context:files", "local:files"),
        ("context:repo", "https://example.com/r.git"),
        ("context:base::linux/amd64", "input:base"),
    ]);
    let named = named_contexts(&given, &inputs).unwrap();
    assert_eq!(named["alpine"], Place::Image("alpine:3".into()));
    assert_eq!(named["nothing"], Place::Nothing);
    assert_eq!(named["files"], Place::Local { name: "files".into(), session: None });
    assert_eq!(named["repo"], Place::Remote("https://example.com/r.git".into()));
    assert_eq!(named["base"], Place::Image("madang.internal/build:1".into()));
    let digest = oci::Digest::sha256(b"x");
    for written in [format!("oci-layout://abc:1.0@{digest}"), format!("oci-layout://abc@{digest}")] {
        let named = named_contexts(&attributes(&[("context:a", written.as_str())]), &inputs).unwrap();
        assert_eq!(named["a"], Place::Layout { store: "abc".into(), digest: digest.clone() }, "{written}");
    }
    for (value, reason) in [
        ("input:none", "invalid input none"),
        ("oci-layout://x@sha256:0", "invalid context specifier"),
        ("oci-layout://x:1.0", "has no digest"),
        (&format!("oci-layout://:1.0@{}", oci::Digest::sha256(b"x")), "has no name"),
        ("ftp://x", "unsupported"),
        ("x", "specifier"),
    ] {
        let error = named_contexts(&attributes(&[("context:a", value)]), &inputs).unwrap_err().0;
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn definitions_that_are_more_than_a_source_are_refused() {
    use super::super::wire::Input;
    use prost::Message as _;
    let exec = Op { inputs: vec![Input::default()], ..Op::default() }.encode_to_vec();
    let digest = oci::Digest::sha256(&exec).to_string();
    let end = Op { inputs: vec![Input { digest, index: 0 }], ..Op::default() }.encode_to_vec();
    let definition = Definition { ops: vec![exec, end], metadata: HashMap::new() };
    assert!(source(&definition).unwrap_err().0.contains("only Dockerfiles are built"));
    let lacking = Definition { ops: vec![of_image("a").ops[1].clone()], metadata: HashMap::new() };
    assert!(source(&lacking).unwrap_err().0.contains("lacks its operation"));
    assert!(source(&Definition { ops: vec![vec![255]], metadata: HashMap::new() }).is_err());
}

#[test]
fn ignored_patterns_are_cleaned() {
    let text = "\u{feff}# a comment\n/target/\n  *.log  \n! ./keep//me \n\n#x\n.\n**/tmp";
    assert_eq!(excludes(text), ["target", "*.log", "!keep/me", "**/tmp"]);
}

#[test]
fn bounds_and_caches_are_read_as_clients_write_them() {
    let read = options(&attributes(&[("ulimit", "nofile=1:2,core=0"), ("cpuperiod", "50000")]), &[]).unwrap();
    assert_eq!(read.ulimits.iter().map(|limit| limit.name.as_str()).collect::<Vec<_>>(), ["nofile", "core"]);
    assert_eq!(read.cpu_period, Some(50_000));
    let imports = r#"[{"Type":"registry","Attrs":{"ref":"r.io/a:c"}}]"#;
    let found = cache_imports(&attributes(&[("cache-imports", imports)])).unwrap();
    assert_eq!((found[0].kind.as_str(), found[0].attributes["ref"].as_str()), ("registry", "r.io/a:c"));
    assert!(cache_imports(&attributes(&[])).unwrap().is_empty());
    assert!(cache_imports(&attributes(&[("cache-imports", "x")])).is_err());
}

#[test]
fn several_platforms_are_those_that_were_asked_for_each_once() {
    let read = options(&attributes(&[("platform", "linux/arm64,linux/amd64,linux/arm64")]), &[]).unwrap();
    let platforms = read.platforms().unwrap();
    assert_eq!(platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["linux/arm64", "linux/amd64"]);
}
