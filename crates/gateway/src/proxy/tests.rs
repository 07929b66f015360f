//! What is refused before a route is looked for, and bodies that stop.

use super::*;

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn a_sound_request_has_one_host_one_length_and_a_path() {
    let one = ("host", "A.com:80");
    let cases: [(&str, &str, Vec<(&str, &str)>, Result<(&str, &str), u16>); 14] = [
        ("GET", "/x", vec![one], Ok(("a.com", "/x"))),
        ("GET", "/x/../y", vec![one], Ok(("a.com", "/y"))),
        ("GET", "http://a.com/x", vec![], Ok(("a.com", "/x"))),
        ("GET", "http://a.com/x", vec![("host", "a.com")], Ok(("a.com", "/x"))),
        ("GET", "http://a.com/x", vec![("host", "b.com")], Err(400)),
        ("OPTIONS", "*", vec![one], Ok(("a.com", "*"))),
        ("GET", "*", vec![one], Err(400)),
        ("GET", "/x", vec![], Err(400)),
        ("GET", "/x", vec![one, one], Err(400)),
        ("GET", "/x", vec![("host", "a b")], Err(400)),
        ("GET", "/..", vec![one], Err(400)),
        ("CONNECT", "a.com:80", vec![one], Err(405)),
        ("POST", "/x", vec![one, ("content-length", "1"), ("content-length", "1")], Err(400)),
        ("POST", "/x", vec![one, ("content-length", "1"), ("transfer-encoding", "chunked")], Err(400)),
    ];
    for (method, uri, headers, expected) in cases {
        let found = sound(&parts(method, uri, &headers)).map_err(|refusal| refusal.status.as_u16());
        let found = found.as_ref().map(|(host, path)| (&**host, &**path)).map_err(|status| *status);
        assert_eq!(found, expected, "{method} {uri} {headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_fails_after_a_while() {
    let (sender, content) = body::channel(1);
    sender.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
    let mut content = patient(content);
    assert_eq!(content.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    let began = tokio::time::Instant::now();
    assert!(content.frame().await.unwrap().is_err());
    assert_eq!(began.elapsed().as_secs(), PAUSE.as_secs());
    drop(sender);
}

#[tokio::test]
async fn a_body_that_is_too_long_to_be_copied_stays_whole() {
    for (pieces, copied) in [(1, true), (20, false)] {
        let piece = Bytes::from(vec![7; 64 << 10]);
        let all = futures::stream::iter((0..pieces).map(move |_| Ok(piece.clone())));
        let (content, copy) = kept(body::stream(all)).await;
        assert_eq!(copy.is_some(), copied, "{pieces}");
        let read = serve::body::read(content, 8 << 20).await.unwrap();
        assert_eq!(read.len(), pieces * (64 << 10));
    }
}

#[test]
fn copies_are_made_of_the_part_that_is_asked_for() {
    let backend = crate::backend::Backends::default()
        .get(&crate::backend::Key { namespace: "a".into(), service: "b".into(), port: 1 })
        .0;
    let mirror = |numerator, denominator| Mirror { backend: backend.clone(), numerator, denominator };
    let due = |mirror: &Mirror| (0..100).filter(|random| mirror.is_due(*random)).count();
    for (one, expected) in [(mirror(1, 1), 100), (mirror(0, 100), 0), (mirror(25, 100), 25), (mirror(1, 0), 100)] {
        assert_eq!(due(&one), expected, "{one:?}");
    }
}
