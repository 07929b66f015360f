//! Upstream's normalisation and refusals, as data.

use super::*;

const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

#[test]
fn references_are_brought_to_their_full_form() {
    let digest = format!("sha256:{HEX}");
    let cases = [
        ("nginx", "docker.io/library/nginx:latest".to_owned(), "nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27".into(), "nginx:1.27"),
        ("grafana/grafana", "docker.io/grafana/grafana:latest".into(), "grafana/grafana:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest".into(), "nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest".into(), "nginx:latest"),
        ("localhost/a", "localhost/a:latest".into(), "localhost/a:latest"),
        ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1".into(), "localhost:5000/a/b:v1"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest".into(), "127.0.0.1:5000/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest".into(), "[::1]:5000/a:latest"),
        ("[fe80::1]/a:b", "[fe80::1]/a:b".into(), "[fe80::1]/a:b"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".into(), "registry.k8s.io/pause:3.10"),
        ("Foo/bar", "Foo/bar:latest".into(), "Foo/bar:latest"),
        ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest".into(), "a__b/c--d.e_f:latest"),
        ("library/a/b", "docker.io/library/a/b:latest".into(), "library/a/b:latest"),
        ("host:80", "docker.io/library/host:80".into(), "host:80"),
    ];
    for (text, full, familiar) in cases {
        let reference = Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(reference.to_string(), full);
        assert_eq!(reference.familiar(), familiar);
        assert_eq!(Reference::parse(&full).as_ref(), Ok(&reference), "the full form is stable");
    }
    let pinned = Reference::parse(&format!("nginx:1.27@{digest}")).unwrap();
    assert_eq!(pinned.to_string(), format!("docker.io/library/nginx:1.27@{digest}"));
    assert_eq!((pinned.tag(), pinned.target()), (Some("1.27"), digest.as_str()));
    assert_eq!(pinned.without_digest().unwrap().to_string(), "docker.io/library/nginx:1.27");
    let by_digest = Reference::parse(&format!("quay.io/a/b@{digest}")).unwrap();
    assert_eq!((by_digest.tag(), by_digest.domain(), by_digest.path()), (None, "quay.io", "a/b"));
    assert_eq!(by_digest.without_digest(), None);
}

#[test]
fn what_is_no_reference_is_refused_in_upstreams_words() {
    let long = format!("{}/{}", "a".repeat(127), "b".repeat(128));
    let cases = [
        (String::new(), "invalid reference format"),
        (":latest".into(), "invalid reference format"),
        ("a//b".into(), "invalid reference format"),
        ("a/".into(), "invalid reference format"),
        ("a b".into(), "invalid reference format"),
        ("-a".into(), "invalid reference format"),
        ("a.".into(), "invalid reference format"),
        ("a___b".into(), "invalid reference format"),
        ("a..b".into(), "invalid reference format"),
        ("a:".into(), "invalid reference format"),
        ("a:.b".into(), "invalid reference format"),
        ("a:b:c".into(), "invalid reference format"),
        (format!("a:{}", "t".repeat(129)), "invalid reference format"),
        ("a@sha256:abc".into(), "invalid reference format"),
        (format!("a@sha256:{}", &HEX[..40]), "invalid checksum digest length"),
        (format!("a@md5:{}", &HEX[..32]), "unsupported digest algorithm"),
        ("../../etc/passwd".into(), "invalid reference format"),
        ("-host.io/a".into(), "invalid reference format"),
        ("host.io:port/a".into(), "invalid reference format"),
        ("https://host.io/a".into(), "invalid reference format"),
        ("docker.io/Nginx".into(), "invalid reference format: repository name (library/Nginx) must be lowercase"),
        ("Nginx".into(), "invalid reference format: repository name (library/Nginx) must be lowercase"),
        (HEX.into(), &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
        (format!("docker.io/{long}"), "repository name must not be more than 255 characters"),
    ];
    for (text, expected) in cases {
        let error = Reference::parse(&text).map(|reference| reference.to_string()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    }
}

#[test]
fn the_longest_reference_is_accepted() {
    let path = format!("{}/{}", "a".repeat(127), "b".repeat(127));
    let text = format!("host.io/{path}:{}", "t".repeat(128));
    assert_eq!(Reference::parse(&text).unwrap().to_string(), text);
}
