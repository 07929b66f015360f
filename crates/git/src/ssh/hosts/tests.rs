//! Lines as `ssh-keyscan` and `ssh-keygen -H` write them.

use super::*;

const ONE: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIKgzTaP1O59xnCMk1Jxv8/gh6KpCMgF1UcjblzBvmTOT";
const TWO: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIMy5qOpJ8Clgu6Rsb5Clj/6d62NiCYGVExA+pauEaOiE";
const CURVE: &str = "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHDdvXU6QvAoTpKGtaiUXLA9kGHU1Y39PfHv7pA1jPlQc85thMOTDfSNO+UvD1+Y1HcGfi9mOrOuuD1/ur0gS00=";
const RSA: &str = "AAAAB3NzaC1yc2EAAAADAQABAAABAQCm8LPh32P4x43rUV8y/YhsKtndUYUV5WPcrrDexucfdnCI0lXK29lc2BJAXibwEF5Ugv/qfx4Q3bDv2EDyVZuAJgSk3ptJOa83G41iOU5dhV6IF0mGJHGuivW0QgdpeI2y9ek4garHe9GxHdrGuu4P59w2/+pT7kGmGgBtaYlxfiPrjsmLlkfC0QzST8fWXlzb/88lmmRGMXRBOD3Y/NzlXP8Z9/4UbxFHDbziyOgNWKjrwGgxwi4jE61iQ5b4zunhodJp6fjh7A2JjgLZC8CIRTsZWAJeoPQfwze0F6LrwGgLbniV6TI5OVNzhXB6gg8p12rz/EQ73s/IUyKUHQvn";
/// `host` and `[host]:2222`, as `ssh-keygen -H` writes them.
const HASHED: [&str; 2] = [
    "|1|LgxdryK0r2I7RPI8KNBByvhz/eE=|7jmNj9Mq2jko/UcmwrTWXkyWhOs=",
    "|1|CK40JokxKu2OKrhz4FDdYR3bnFQ=|5HSzWSMBC++Ndmpp8xXMFEHNMwc=",
];

fn key(text: &str) -> PublicKey {
    parse_public_key_base64(text).unwrap()
}

fn judge(text: &str, place: &str) -> Verdict {
    Known::parse(text, "").judge(place, &key(ONE))
}

#[test]
fn a_key_is_believed_where_it_is_the_hosts_and_nowhere_else() {
    let [plain, with_port] = HASHED;
    for (names, place, verdict) in [
        ("host", "host", Verdict::Known),
        ("Host.Example", "host.example", Verdict::Known),
        ("a,host,b", "host", Verdict::Known),
        ("host", "[host]:2222", Verdict::Unknown),
        ("[host]:2222", "[host]:2222", Verdict::Known),
        ("[host]:2222", "host", Verdict::Unknown),
        (plain, "host", Verdict::Known),
        (plain, "[host]:2222", Verdict::Unknown),
        (with_port, "[host]:2222", Verdict::Known),
        (with_port, "host", Verdict::Unknown),
        ("*.example", "a.example", Verdict::Known),
        ("*.example", "example", Verdict::Unknown),
        ("*.example,!a.example", "a.example", Verdict::Unknown),
        ("!a.example,*.example", "b.example", Verdict::Known),
        ("10.0.0.?", "10.0.0.7", Verdict::Known),
        ("*a*b*c", "xaybzc", Verdict::Known),
        ("*a*b*c", "xaybz", Verdict::Unknown),
        ("host|1|", "host", Verdict::Unknown),
        ("|1|x|y", "host", Verdict::Unknown),
        ("|2|x|y", "host", Verdict::Unknown),
    ] {
        assert_eq!(judge(&format!("{names} ssh-ed25519 {ONE} comment"), place), verdict, "{names} {place}");
    }
}

#[test]
fn another_key_and_a_revoked_one_are_told_apart_from_none() {
    let (one, two) = (format!("host ssh-ed25519 {ONE}\n"), format!("host ssh-ed25519 {TWO}\n"));
    assert_eq!(judge(&two, "host"), Verdict::Other);
    assert_eq!(judge(&format!("{two}{one}"), "host"), Verdict::Known);
    assert_eq!(judge(&format!("{one}{two}"), "host"), Verdict::Known);
    assert_eq!(judge(&format!("{one}@revoked * ssh-ed25519 {ONE}\n"), "host"), Verdict::Revoked);
    assert_eq!(judge(&format!("@revoked host ssh-ed25519 {TWO}\n"), "host"), Verdict::Unknown);
    // An authority's key is no host's.
    assert_eq!(judge(&format!("@cert-authority host ssh-ed25519 {ONE}\n"), "host"), Verdict::Unknown);
}

#[test]
fn what_is_no_line_is_passed_over() {
    let text = format!(
        "# host\n\n  \nhost\nhost ssh-ed25519\nhost ssh-ed25519 !!!\nhost ssh-dss AAAA\r\n\thost ssh-ed25519 {ONE}\r\n"
    );
    assert_eq!(judge(&text, "host"), Verdict::Known);
    assert!(Known::parse("host ssh-ed25519 x", "").is_empty());
    // Of a text without end only its beginning is read.
    let long = format!("host ssh-ed25519 {ONE}\n{}", "é".repeat(LARGEST));
    assert_eq!(judge(&long, "host"), Verdict::Known);
}

#[test]
fn hosts_are_asked_for_the_kind_of_key_that_is_known() {
    let first = |text: &str| Known::parse(text, "").algorithms("host")[0].clone();
    assert_eq!(first(""), Algorithm::Ed25519);
    assert_eq!(first(&format!("host ssh-rsa {RSA}")), Algorithm::Rsa { hash: Some(HashAlg::Sha512) });
    assert_eq!(first(&format!("other ssh-rsa {RSA}")), Algorithm::Ed25519);
    assert!(matches!(first(&format!("host ecdsa-sha2-nistp256 {CURVE}")), Algorithm::Ecdsa { .. }));
    assert!(!Known::default().algorithms("host").contains(&Algorithm::Rsa { hash: None }));
    assert_eq!(fingerprint(&key(ONE)), "SHA256:C8gKNWOMAXYMfLTR7vxZNi7tjuXhSYUtA+Lh9xjLluY");
}
