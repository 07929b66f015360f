//! Requests, genuine and not.

use serde_json::json;

use super::*;

const SECRET: &[u8] = b"It's a Secret to Everybody";

fn headers(all: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

fn sign(body: &[u8]) -> String {
    let tag = hmac::sign(&Key::new(HMAC_SHA256, SECRET), body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_published_example_is_genuine() {
    // From GitHub's page on validating deliveries.
    let sum = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let given = headers(&[("x-hub-signature-256", sum)]);
    assert!(matches!(check(&given, b"Hello, World!", SECRET), Err(Refusal::Unreadable(_))));
    assert_eq!(check(&given, b"Hello, World?", SECRET), Err(Refusal::Forged));
}

#[test]
fn pushes_of_three_forges_are_read() {
    let commit = "a".repeat(40);
    let github = json!({"ref": "refs/heads/main", "after": commit, "pusher": {"name": "kim"},
        "repository": {"clone_url": "https://github.com/a/b.git"}});
    let gitlab = json!({"ref": "refs/tags/v1", "after": "0".repeat(40), "user_username": "lee",
        "project": {"git_http_url": "https://gitlab.com/a/b.git"}});
    let body = github.to_string();
    let sum = format!("sha256={}", sign(body.as_bytes()));
    let expected = Push {
        reference: "refs/heads/main".into(),
        commit: Some(commit),
        user: Some("kim".into()),
        addresses: vec!["https://github.com/a/b.git".into()],
    };
    for given in [
        headers(&[("x-hub-signature-256", &sum), ("x-github-event", "push")]),
        headers(&[("x-gitea-signature", &sign(body.as_bytes())), ("x-gitea-event", "push")]),
        headers(&[("x-gitlab-token", std::str::from_utf8(SECRET).unwrap()), ("x-gitlab-event", "Push Hook")]),
    ] {
        assert_eq!(check(&given, body.as_bytes(), SECRET).unwrap().event, Event::Push(expected.clone()));
    }
    let given =
        headers(&[("x-gitlab-token", std::str::from_utf8(SECRET).unwrap()), ("x-gitlab-event", "Tag Push Hook")]);
    let Event::Push(push) = check(&given, gitlab.to_string().as_bytes(), SECRET).unwrap().event else { panic!() };
    assert_eq!((push.commit, push.user.as_deref()), (None, Some("lee")));
    let form = format!("payload={}", body.replace('"', "%22").replace(' ', "+"));
    let sum = format!("sha256={}", sign(form.as_bytes()));
    let given = headers(&[
        ("x-hub-signature-256", &sum),
        ("x-github-event", "push"),
        ("content-type", "application/x-www-form-urlencoded"),
    ]);
    assert_eq!(check(&given, form.as_bytes(), SECRET).unwrap().event, Event::Push(expected));
    let ping = headers(&[("x-gitea-signature", &sign(b"{}")), ("x-gitea-event", "ping")]);
    assert_eq!(check(&ping, b"{}", SECRET).unwrap().event, Event::Ping);
    let issue = headers(&[("x-gitea-signature", &sign(b"{}")), ("x-gitea-event", "issues")]);
    assert_eq!(check(&issue, b"{}", SECRET).unwrap().event, Event::Other("issues".into()));
}

#[test]
fn what_is_not_signed_by_the_secret_is_refused() {
    let body = b"{}";
    let good = sign(body);
    for (given, expected) in [
        (headers(&[]), Refusal::Unsigned),
        (headers(&[("x-github-event", "push")]), Refusal::Unsigned),
        (headers(&[("x-hub-signature-256", &good)]), Refusal::Forged),
        (headers(&[("x-hub-signature-256", "sha256=")]), Refusal::Forged),
        (headers(&[("x-hub-signature-256", "sha256=zz")]), Refusal::Forged),
        (headers(&[("x-hub-signature-256", &format!("sha256={}", &good[..62]))]), Refusal::Forged),
        (headers(&[("x-hub-signature-256", &format!("sha1={}", &good[..40]))]), Refusal::Forged),
        (headers(&[("x-gitea-signature", "")]), Refusal::Forged),
        (headers(&[("x-gitlab-token", "")]), Refusal::Forged),
        (headers(&[("x-gitlab-token", "It's a Secret to Everybod")]), Refusal::Forged),
        // A right token does not help a wrong signature.
        (
            headers(&[("x-gitea-signature", "00"), ("x-gitlab-token", std::str::from_utf8(SECRET).unwrap())]),
            Refusal::Forged,
        ),
    ] {
        assert_eq!(check(&given, body, SECRET), Err(expected), "{given:?}");
    }
    assert_eq!(check(&headers(&[("x-gitlab-token", "")]), body, b""), Err(Refusal::NoSecret));
    let deep = "[".repeat(100_000);
    let given = headers(&[("x-gitea-signature", &sign(deep.as_bytes())), ("x-gitea-event", "push")]);
    assert!(matches!(check(&given, deep.as_bytes(), SECRET), Err(Refusal::Unreadable(_))));
}

#[test]
fn a_request_that_was_taken_before_a_restart_is_known_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("webhooks/uid");
    let checked = |number: u64| {
        let mut identity = [0; 32];
        identity[..8].copy_from_slice(&number.to_le_bytes());
        identity
    };
    let mut seen = Seen::open(&path).unwrap();
    for number in 0..3 * REMEMBERED as u64 {
        seen.take(&checked(number)).unwrap();
        seen.keep(&path).unwrap();
    }
    drop(seen);
    assert!(std::fs::metadata(&path).unwrap().len() <= 2 * REMEMBERED as u64 * 32);
    // Killed in the middle of a write.
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"half").unwrap();
    let mut seen = Seen::open(&path).unwrap();
    assert_eq!(seen.take(&checked(3 * REMEMBERED as u64 - 1)), Err(Refusal::Replayed));
    assert_eq!(seen.take(&checked(2 * REMEMBERED as u64)), Err(Refusal::Replayed));
    assert_eq!(seen.take(&checked(0)), Ok(()));
    seen.keep(&path).unwrap();
    assert_eq!(Seen::open(&path).unwrap().take(&checked(0)), Err(Refusal::Replayed));
}

#[test]
fn a_request_is_taken_once_whatever_it_calls_itself() {
    let mut seen = Seen::default();
    let checked = |delivery: &str| {
        let given =
            headers(&[("x-gitea-signature", &sign(b"{}")), ("x-gitea-event", "ping"), ("x-gitea-delivery", delivery)]);
        check(&given, b"{}", SECRET).unwrap().identity
    };
    assert_eq!(seen.take(&checked("a")), Ok(()));
    assert_eq!(seen.take(&checked("b")), Err(Refusal::Replayed));
    assert!(seen.has(&checked("b")));
    seen.forget(&checked("a"));
    assert!(!seen.has(&checked("a")));
    assert_eq!(seen.take(&checked("a")), Ok(()));
    for number in 0..2 * REMEMBERED as u64 {
        let mut identity = [0; 32];
        identity[..8].copy_from_slice(&number.to_le_bytes());
        identity[31] = 1;
        seen.take(&identity).unwrap();
    }
    assert_eq!((seen.order.len(), seen.all.len()), (REMEMBERED, REMEMBERED));
}
