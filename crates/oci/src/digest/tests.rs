//! Parsing, hashing and verifying.

use super::*;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn digests_parse_or_say_why_not() {
    let cases: &[(&str, Result<(), ParseError>)] = &[
        (EMPTY, Ok(())),
        ("", Err(ParseError::Format)),
        ("sha256", Err(ParseError::Format)),
        ("sha256:", Err(ParseError::Format)),
        (":abc", Err(ParseError::Format)),
        ("sha256:abc", Err(ParseError::Length)),
        ("sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", Err(ParseError::Format)),
        ("sha256:../../../etc/passwd", Err(ParseError::Format)),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", Err(ParseError::Unsupported)),
        ("SHA256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Err(ParseError::Format)),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<Digest>().map(|_| ()), *expected, "{text}");
    }
}

#[test]
fn hashing_in_pieces_gives_the_known_digest() {
    let mut hasher = Hasher::new(Algorithm::Sha512);
    hasher.update(b"a");
    hasher.update(b"bc");
    assert_eq!(
        hasher.finish().hex(),
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
    );
    assert_eq!(Digest::sha256(b"").as_str(), EMPTY);
}

#[test]
fn a_verifier_refuses_other_bytes_and_other_sizes() {
    let digest = Digest::sha256(b"hello");
    let check = |size, pieces: &[&[u8]]| {
        let mut verifier = Verifier::new(digest.clone(), size);
        for piece in pieces {
            verifier.update(piece)?;
        }
        verifier.finish()
    };
    assert_eq!(check(Some(5), &[b"hel", b"lo"]), Ok(()));
    assert_eq!(check(None, &[b"hello"]), Ok(()));
    assert!(matches!(check(None, &[b"hellO"]), Err(Mismatch::Digest { .. })));
    assert!(matches!(check(Some(5), &[b"hell"]), Err(Mismatch::Size { actual: 4, .. })));
    assert!(matches!(check(Some(5), &[b"hello!", b"more"]), Err(Mismatch::Size { actual: 6, .. })));
}

#[test]
fn chain_ids_name_a_layer_with_all_below_it() {
    let a = Digest::sha256(b"a");
    let b = Digest::sha256(b"b");
    let chains = Digest::chains(&[a.clone(), b.clone()]);
    assert_eq!(chains[0], a);
    assert_eq!(chains[1], Digest::sha256(format!("{a} {b}").as_bytes()));
}
