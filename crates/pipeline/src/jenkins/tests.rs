//! Who asks, and what they are told of themselves.

use super::*;

#[test]
fn a_password_or_a_bearer_s_token_is_taken() {
    for (value, found) in [
        ("Basic a2ltOmFiYw==", Some("abc")),
        ("basic a2ltOmE6Yg==", Some("a:b")),
        ("Basic a2ltOg==", None),
        ("Basic a2lt", None),
        ("Basic !", None),
        ("Bearer abc", Some("abc")),
        ("Digest abc", None),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        assert_eq!(token(&headers).as_deref(), found, "{value}");
    }
    assert_eq!(token(&HeaderMap::new()), None);
}

#[test]
fn a_queue_number_is_a_run_s_own() {
    let one = queue_number("a");
    assert_eq!(one, queue_number("a"));
    assert_ne!(one, queue_number("b"));
    // JavaScript and Python alike hold it exactly.
    assert!(one > 0 && one < 1 << 53);
}
