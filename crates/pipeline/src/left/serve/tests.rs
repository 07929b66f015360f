//! Files as clients ask for them.

use super::*;
use crate::left::parcel::{self, Limits};

fn kept(dir: &std::path::Path, path: &str, bytes: &[u8]) -> (Parcel, Entry) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, path, bytes).unwrap();
    let bytes = builder.into_inner().unwrap();
    let parcel = parcel::keep(dir, "x", bytes.as_slice(), Limits::default(), |_| true).unwrap();
    let entry = parcel.entries[0].clone();
    (parcel, entry)
}

async fn got(path: &str, bytes: &[u8], asked: &[(header::HeaderName, &str)]) -> (u16, HeaderMap, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (parcel, entry) = kept(dir.path(), path, bytes);
    let headers = asked.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
    let response = file(&parcel, &entry, &headers, true).unwrap();
    let (parts, whole) = response.into_parts();
    let whole = body::read(whole, 1 << 20).await.unwrap();
    (parts.status.as_u16(), parts.headers, whole.to_vec())
}

#[test]
fn ranges_are_read_as_http_has_them() {
    for (range, expected) in [
        (None, Part::All),
        (Some("bytes=0-4"), Part::Some(0, 5)),
        (Some("bytes=5-"), Part::Some(5, 10)),
        (Some("bytes=-3"), Part::Some(7, 10)),
        (Some("bytes=-30"), Part::Some(0, 10)),
        (Some("bytes=0-99999999999999999999"), Part::Some(0, 10)),
        (Some("bytes=10-"), Part::Beyond),
        (Some("bytes=-0"), Part::Beyond),
        (Some("bytes=4-2"), Part::All),
        (Some("bytes=0-1,3-4"), Part::All),
        (Some("bytes=-"), Part::All),
        (Some("bytes=a-b"), Part::All),
        (Some("lines=1-2"), Part::All),
    ] {
        assert_eq!(part(range, 10), expected, "{range:?}");
    }
    assert_eq!(part(Some("bytes=0-"), 0), Part::Beyond);
}

#[tokio::test]
async fn parts_of_a_file_are_sent() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let (status, headers, whole) = got("a.bin", &bytes, &[]).await;
    assert_eq!((status, whole == bytes, headers[header::CONTENT_LENGTH].to_str().unwrap()), (200, true, "200000"));
    let tag = headers[header::ETAG].to_str().unwrap().to_string();
    let (status, headers, some) = got("a.bin", &bytes, &[(header::RANGE, "bytes=65530-65540")]).await;
    assert_eq!((status, some.as_slice()), (206, &bytes[65530..65541]));
    assert_eq!(headers[header::CONTENT_RANGE], "bytes 65530-65540/200000");
    let (status, headers, none) = got("a.bin", &bytes, &[(header::RANGE, "bytes=200000-")]).await;
    assert_eq!(
        (status, none.len(), &headers[header::CONTENT_RANGE]),
        (416, 0, &HeaderValue::from_static("bytes */200000"))
    );
    assert_eq!(got("a.bin", &bytes, &[(header::IF_NONE_MATCH, &tag)]).await.0, 304);
    let other = [(header::RANGE, "bytes=0-1"), (header::IF_RANGE, "\"other\"")];
    assert_eq!(got("a.bin", &bytes, &other).await.0, 200);
    assert_eq!(got("empty", b"", &[]).await.2, b"");
}

#[tokio::test]
async fn no_file_is_a_page() {
    for name in
        ["a.html", "a.svg", "a.HTM", "a.xhtml", "a.js", "a.pdf", "a", "a.html.exe", "a\"b\r\nX: y.html", "보고.html"]
    {
        let (_, headers, _) = got(name, b"<script>alert(1)</script>", &[]).await;
        assert_eq!(headers[header::CONTENT_TYPE], "application/octet-stream", "{name}");
        let disposition = headers[header::CONTENT_DISPOSITION].to_str().unwrap();
        assert!(disposition.starts_with("attachment; filename=\"") && !disposition.contains('\n'), "{disposition}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("sandbox"));
    }
    let (_, headers, _) = got("report.XML", b"<html xmlns='http://www.w3.org/1999/xhtml'><script/></html>", &[]).await;
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert!(headers.get(header::CONTENT_DISPOSITION).is_none());
}
