//! A remote whose answers are written here.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{web::without_user, *};

fn packets(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in lines {
        match *text {
            "0000" => packet::flush(&mut out),
            "0001" => packet::delimiter(&mut out),
            text => packet::line(&mut out, text),
        }
    }
    out
}

fn answering(answers: Vec<(u16, Vec<u8>)>) -> Exchange {
    let answers = std::sync::Mutex::new(answers.into_iter());
    Arc::new(move |request: Request<Bytes>| {
        let (status, body) = answers.lock().unwrap().next().expect("no more requests");
        let body: Body = Box::pin(futures::stream::iter(
            body.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>(),
        ));
        let answer = Response::builder().status(status).body(body).unwrap();
        Box::pin(async move { Ok((request.uri().clone(), answer)) })
    })
}

fn hello() -> (u16, Vec<u8>) {
    (
        200,
        packets(&[
            "# service=git-upload-pack",
            "0000",
            "version 2",
            "fetch=shallow filter",
            "object-format=sha1",
            "0000",
        ]),
    )
}

async fn open(answers: Vec<(u16, Vec<u8>)>) -> Result<Remote, Error> {
    Remote::open("https://host/a.git", None, &answering(answers).into()).await
}

#[tokio::test]
async fn references_come_with_what_they_lead_to() {
    let (one, two) = ("1".repeat(40), "2".repeat(40));
    let lines = [
        format!("{one} HEAD symref-target:refs/heads/main"),
        format!("{one} refs/tags/v1 peeled:{two}"),
        "unborn HEAD symref-target:refs/heads/x".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).chain(["0000"]).collect();
    let remote = open(vec![hello(), (200, packets(&lines))]).await.unwrap();
    let references = remote.references(&[]).await.unwrap();
    assert_eq!(references.len(), 2);
    assert_eq!(references[0].symbolic.as_deref(), Some("refs/heads/main"));
    assert_eq!(references[1].peeled, Id::parse(&two));
}

#[tokio::test]
async fn a_pack_comes_in_band_one_and_errors_in_band_three() {
    let shallow = format!("shallow {}", "3".repeat(40));
    let mut answer = packets(&["shallow-info", &shallow, "0001", "packfile"]);
    for band in [b"\x02progress".as_slice(), b"\x01PA", b"\x01CK"] {
        answer.extend_from_slice(format!("{:04x}", band.len() + 4).as_bytes());
        answer.extend_from_slice(band);
    }
    let mut failing = answer.clone();
    failing.extend_from_slice(b"000b\x03no way");
    answer.extend_from_slice(b"0000");
    let want = [Id::parse(&"1".repeat(40)).unwrap()];
    let remote = open(vec![hello(), (200, answer.clone()), (200, failing), (200, answer)]).await.unwrap();
    let mut pack = Vec::new();
    let fetched = remote.fetch(&want, Some(1), &mut pack, &Limits::default()).await.unwrap();
    assert_eq!((fetched.bytes, fetched.shallow.len(), pack.as_slice()), (4, 1, b"PACK".as_slice()));
    let error = remote.fetch(&want, Some(1), &mut Vec::new(), &Limits::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "remote says: no way");
    let limits = Limits { pack: 3, ..Limits::default() };
    assert!(matches!(remote.fetch(&want, None, &mut Vec::new(), &limits).await, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn what_is_no_repository_is_told_so() {
    let error = open(vec![(200, b"<html>hello".to_vec())]).await.unwrap_err();
    assert!(error.to_string().contains("is this a git repository?"), "{error}");
    let error = open(vec![(404, Vec::new())]).await.unwrap_err();
    assert_eq!(error.to_string(), "https://host/a.git: 404 Not Found");
    let nothing = packets(&["# service=git-upload-pack", "0000", "0000"]);
    let error = open(vec![(200, nothing)]).await.unwrap_err();
    assert!(error.to_string().contains("tells nothing"), "{error}");
    let later = packets(&["# service=git-upload-pack", "0000", "version 3", "0000"]);
    let error = open(vec![(200, later)]).await.unwrap_err();
    assert!(error.to_string().contains("no version"), "{error}");
    let denied = packets(&["ERR access denied", "0000"]);
    assert_eq!(open(vec![(200, denied)]).await.unwrap_err().to_string(), "remote says: access denied");
}

#[test]
fn user_and_password_become_a_header() {
    let (url, basic) = without_user("https://us%65r:p%40ss@host:8443/a.git").unwrap();
    assert_eq!(url, "https://host:8443/a.git");
    assert_eq!(basic.unwrap(), format!("Basic {}", STANDARD.encode("user:p@ss")));
    assert_eq!(without_user("http://host/a.git/").unwrap(), ("http://host/a.git".to_owned(), None));
    for url in ["file:///etc", "ssh://host/a", "git@host:a", "ext::sh -c x"] {
        assert!(without_user(url).is_err(), "{url}");
    }
}

#[tokio::test]
async fn servers_without_the_second_version_are_understood() {
    let (one, two) = ("1".repeat(40), "2".repeat(40));
    let hello = |first: &str| {
        let capabilities =
            "multi_ack ofs-delta shallow no-progress side-band-64k filter symref=HEAD:refs/heads/main agent=x";
        let mut lines = vec!["# service=git-upload-pack".to_owned(), "0000".to_owned()];
        lines.extend((!first.is_empty()).then(|| first.to_owned()));
        lines.push(format!("{one} HEAD\0{capabilities}"));
        lines.push(format!("{one} refs/heads/main"));
        lines.push(format!("{two} refs/tags/v1"));
        lines.push(format!("{one} refs/tags/v1^{{}}"));
        lines.push("0000".to_owned());
        packets(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for first in ["", "version 1"] {
        let mut answer = packets(&[&format!("shallow {one}"), "0000", "NAK"]);
        answer.extend_from_slice(b"0009\x01PACK0000");
        let denied = packets(&["0000", "ERR upload-pack: not our ref"]);
        let remote = open(vec![(200, hello(first)), (200, answer), (200, denied)]).await.unwrap();
        assert!(remote.filters());
        let all = remote.references(&[]).await.unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].symbolic.as_deref(), Some("refs/heads/main"));
        let tags = remote.references(&["refs/tags/".to_owned()]).await.unwrap();
        assert_eq!((tags.len(), tags[0].peeled), (1, Id::parse(&one)));
        let mut pack = Vec::new();
        let want = [Id::parse(&one).unwrap()];
        let fetched = remote.fetch(&want, Some(1), &mut pack, &Limits::default()).await.unwrap();
        assert_eq!((fetched.bytes, fetched.shallow.len(), pack.as_slice()), (4, 1, b"PACK".as_slice()));
        let error = remote.fetch(&want, Some(1), &mut Vec::new(), &Limits::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "remote says: upload-pack: not our ref");
    }
    // A repository without a commit.
    let empty = packets(&[&format!("{} capabilities^{{}}\0side-band-64k", "0".repeat(40)), "0000"]);
    assert_eq!(open(vec![(200, empty)]).await.unwrap().references(&[]).await.unwrap(), []);
    for damaged in ["x HEAD", one.as_str(), &format!("{one} refs/tags/v1^{{}}")] {
        let lines = packets(&[&format!("{one} refs/heads/main\0side-band-64k"), damaged, "0000"]);
        assert!(open(vec![(200, lines)]).await.is_err(), "{damaged}");
    }
    // What tells no pack from an error is too old.
    let old = packets(&[&format!("{one} HEAD"), "0000"]);
    let remote = open(vec![(200, old)]).await.unwrap();
    let error = remote.fetch(&[Id::parse(&one).unwrap()], None, &mut Vec::new(), &Limits::default()).await.unwrap_err();
    assert!(error.to_string().contains("too old"), "{error}");
}
