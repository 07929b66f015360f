//! Requests as they are configured, against servers of the test.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use http::{HeaderMap, Uri};
use http_body_util::BodyExt;

use super::{
    proxy::{Proxy, Ways},
    settings::{BasicAuth, Header, OAuth2, Proxy as ProxySettings},
    *,
};
use crate::config::units::{Address, Secret};

/// Answers requests in turn, each on a connection of its own; gives what was asked.
fn server(answers: Vec<String>) -> (u16, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            loop {
                let read = socket.read(&mut piece).unwrap();
                request.extend_from_slice(&piece[..read]);
                let text = String::from_utf8_lossy(&request);
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if read == 0 || body.len() >= length.unwrap_or(0usize) {
                        break;
                    }
                }
            }
            socket.write_all(answer.as_bytes()).unwrap();
            asked.push(String::from_utf8(request).unwrap());
        }
        asked
    });
    (port, asked)
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn redirect(status: u16, to: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

async fn get(settings: &HttpClient, url: &str) -> Result<(u16, String), Failure> {
    let client = Client::new(settings).unwrap();
    let answer = client.get(url.parse().unwrap(), HeaderMap::new()).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

#[tokio::test]
async fn credentials_and_headers_are_sent_and_files_read_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, " first \n").unwrap();
    let mut settings = HttpClient {
        basic_auth: Some(BasicAuth {
            username: "me".into(),
            password_file: file.to_string_lossy().into_owned(),
            ..BasicAuth::default()
        }),
        ..HttpClient::default()
    };
    let header = Header { values: vec!["a".into()], secrets: vec![Secret("b".into())], files: Vec::new() };
    settings.http_headers.insert("X-Key".into(), header);
    let (port, asked) = server(vec![answer("one"), answer("two")]);
    let client = Client::new(&settings).unwrap();
    let uri: Uri = format!("http://127.0.0.1:{port}/m").parse().unwrap();
    client.get(uri.clone(), HeaderMap::new()).await.unwrap();
    std::fs::write(&file, "second").unwrap();
    client.get(uri, HeaderMap::new()).await.unwrap();
    let asked = asked.join().unwrap();
    // me:first and me:second
    assert!(asked[0].contains("authorization: Basic bWU6Zmlyc3Q=\r\n"), "{}", asked[0]);
    assert!(asked[1].contains("authorization: Basic bWU6c2Vjb25k\r\n"), "{}", asked[1]);
    assert!(asked[0].contains("x-key: a\r\nx-key: b\r\n"), "{}", asked[0]);
}

#[tokio::test]
async fn redirects_are_followed_if_wanted_and_carry_no_secret_to_others() {
    let settings = HttpClient {
        basic_auth: Some(BasicAuth { username: "me".into(), ..BasicAuth::default() }),
        ..HttpClient::default()
    };
    let (other, seen) = server(vec![answer("there")]);
    let (port, _first) = server(vec![redirect(302, &format!("http://localhost:{other}/x"))]);
    let got = get(&settings, &format!("http://127.0.0.1:{port}/")).await.unwrap();
    assert_eq!(got, (200, "there".to_owned()));
    let seen = seen.join().unwrap();
    assert!(seen[0].starts_with("GET /x ") && !seen[0].contains("authorization"), "{}", seen[0]);

    let (port, seen) = server(vec![redirect(301, "next?q"), answer("same")]);
    let got = get(&settings, &format!("http://127.0.0.1:{port}/a/b")).await.unwrap();
    assert_eq!(got, (200, "same".to_owned()));
    let seen = seen.join().unwrap();
    assert!(seen[1].starts_with("GET /a/next?q ") && seen[1].contains("authorization: Basic"), "{}", seen[1]);

    let (port, _) = server(vec![redirect(302, "/x")]);
    let stay = HttpClient { follow_redirects: false, ..HttpClient::default() };
    assert_eq!(get(&stay, &format!("http://127.0.0.1:{port}/")).await.unwrap().0, 302);
}

#[tokio::test]
async fn failures_say_what_was_asked_and_why_it_failed() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/metrics");
    let error = get(&HttpClient::default(), &url).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Get \"{url}\": dial tcp 127.0.0.1:{port}: connect: connection refused"));
    let basic = BasicAuth { username: "u".into(), password_file: "/no/such".into(), ..BasicAuth::default() };
    let error = get(&HttpClient { basic_auth: Some(basic), ..HttpClient::default() }, &url).await.unwrap_err();
    let wanted =
        "unable to read basic auth password: unable to read file /no/such: open /no/such: no such file or directory";
    assert_eq!(error.to_string(), format!("Get \"{url}\": {wanted}"));
}

#[tokio::test]
async fn tokens_are_fetched_once_and_used_until_they_expire() {
    let (granter, granted) =
        server(vec![answer("{\"access_token\":\"t1\",\"token_type\":\"bearer\",\"expires_in\":3600}")]);
    let oauth2 = OAuth2 {
        client_id: "id".into(),
        client_secret: Secret("s/c".into()),
        token_url: format!("http://127.0.0.1:{granter}/token"),
        scopes: vec!["a".into(), "b".into()],
        ..OAuth2::default()
    };
    let settings = HttpClient { oauth2: Some(oauth2), ..HttpClient::default() };
    let (port, asked) = server(vec![answer(""), answer("")]);
    let client = Client::new(&settings).unwrap();
    for _ in 0..2 {
        client.get(format!("http://127.0.0.1:{port}/").parse().unwrap(), HeaderMap::new()).await.unwrap();
    }
    assert!(asked.join().unwrap().iter().all(|request| request.contains("authorization: Bearer t1\r\n")));
    let granted = granted.join().unwrap();
    assert!(granted[0].ends_with("grant_type=client_credentials&scope=a+b"), "{}", granted[0]);
    // id:s%2Fc
    assert!(granted[0].contains("authorization: Basic aWQ6cyUyRmM=\r\n"), "{}", granted[0]);
}

#[tokio::test]
async fn requests_go_through_a_proxy_in_absolute_form() {
    let (port, asked) = server(vec![answer("by proxy")]);
    let proxy_url = Address(format!("http://me:pw@127.0.0.1:{port}"));
    let settings =
        HttpClient { proxy: ProxySettings { proxy_url, ..ProxySettings::default() }, ..HttpClient::default() };
    let got = get(&settings, "http://example.invalid:90/m?a=b").await.unwrap();
    assert_eq!(got.1, "by proxy");
    let asked = asked.join().unwrap();
    assert!(asked[0].starts_with("GET http://example.invalid:90/m?a=b HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].contains("proxy-authorization: Basic bWU6cHc=\r\n"), "{}", asked[0]);
}

#[test]
fn the_environment_decides_the_way_as_in_go() {
    let settings = ProxySettings { proxy_from_environment: true, ..ProxySettings::default() };
    let environment = |name: &str| match name {
        "HTTP_PROXY" => Some("plain:1".to_owned()),
        "https_proxy" => Some("http://secure:2".to_owned()),
        "NO_PROXY" => Some("direct.io, .below.io, 10.0.0.0/8, port.io:8443, *.star.io, [::5]".to_owned()),
        _ => None,
    };
    let ways = Ways::of(&settings, environment).unwrap();
    let way = |uri: &str| ways.proxy(&uri.parse().unwrap()).map(|proxy| proxy.authority.clone());
    for (uri, wanted) in [
        ("http://a.io/", Some("plain:1")),
        ("https://a.io/", Some("secure:2")),
        ("http://direct.io/", None),
        ("http://x.direct.io/", None),
        ("http://xdirect.io/", Some("plain:1")),
        ("http://below.io/", Some("plain:1")),
        ("http://x.below.io/", None),
        ("http://10.1.2.3/", None),
        ("http://11.1.2.3/", Some("plain:1")),
        ("https://port.io:8443/", None),
        ("https://port.io/", Some("secure:2")),
        ("http://a.star.io/", None),
        ("http://[::5]:80/", None),
        ("http://localhost/", None),
        ("http://127.0.0.1:9/", None),
    ] {
        assert_eq!(way(uri).as_deref(), wanted, "{uri}");
    }
    assert!(Proxy::parse("socks5://x").is_err());
    assert!(
        Ways::of(&ProxySettings::default(), environment).unwrap().proxy(&"http://a.io/".parse().unwrap()).is_none()
    );
}
