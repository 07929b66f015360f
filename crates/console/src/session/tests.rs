//! Cookies and links.

use http::HeaderValue;

use super::*;

const HOST: &str = "127.0.0.1:3000";

fn place() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::of(dir.path());
    fs::create_dir_all(place.path()).unwrap();
    (dir, place)
}

fn sent(set: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let pair = format!("other=1; {}", set.split(';').next().unwrap());
    headers.insert(header::COOKIE, HeaderValue::from_str(&pair).unwrap());
    headers
}

#[test]
fn a_session_outlives_a_restart_and_nobody_else_can_read_or_make_one() {
    let (_dir, place) = place();
    let set = Sessions::open(place.clone()).unwrap().begin("secret", HOST, false).unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains("secret"), "{set}");
    let again = Sessions::open(place.clone()).unwrap();
    assert_eq!(again.token(&sent(&set), HOST).as_deref(), Some("secret"));
    assert_eq!(again.token(&sent(&set), "127.0.0.1:3001"), None, "of another port");
    let changed = set.replacen("3000=", "3000=A", 1);
    assert_eq!(again.token(&sent(&changed), HOST), None);
    assert_eq!(again.token(&sent("madang_session_3000=AA"), HOST), None);
    fs::remove_file(place.path().join("session.key")).unwrap();
    assert_eq!(Sessions::open(place).unwrap().token(&sent(&set), HOST), None, "with another key");
}

#[test]
fn a_session_ends() {
    let (_dir, place) = place();
    let sessions = Sessions::open(place).unwrap();
    let old = Sealed { token: "secret".into(), until: Timestamp::now().as_second() - 1 };
    let set = cookie(HOST, &sessions.seal(&old).unwrap(), 1, false);
    assert_eq!(sessions.token(&sent(&set), HOST), None);
    assert_eq!(sessions.token(&sent(&Sessions::end(HOST, true)), HOST), None);
}

#[test]
fn a_link_opens_once_and_not_after_its_time() {
    let (_dir, place) = place();
    let code = place.leave("token", None).unwrap();
    assert_eq!(place.take("../../session.key").unwrap(), None);
    assert_eq!(place.take(&code).unwrap().as_deref(), Some("token"));
    assert_eq!(place.take(&code).unwrap(), None);
    let old = place.leave("token", None).unwrap();
    let file = fs::File::options().write(true).open(place.link(&old)).unwrap();
    file.set_modified(SystemTime::now() - LINK_LIFE - Duration::from_secs(1)).unwrap();
    assert_eq!(place.take(&old).unwrap(), None);
    assert_eq!(fs::read_dir(place.path().join("links")).unwrap().count(), 0);
}
