//! What of a write is taken, and what is told of the rest.

use http::Request;

use super::*;

fn of(kind: Option<&str>, encoding: Option<&str>) -> Result<Version, Refused> {
    let mut request = Request::post("/api/v1/write");
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    version(&request.body(()).unwrap().into_parts().0)
}

#[test]
fn the_type_of_the_body_says_the_version() {
    let taken = [
        (None, None, Version::One),
        (Some("application/x-protobuf"), Some("snappy"), Version::One),
        (Some("application/x-protobuf;proto=prometheus.WriteRequest"), None, Version::One),
        (Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"), Some("snappy"), Version::Two),
    ];
    for (kind, encoding, expected) in taken {
        assert_eq!(of(kind, encoding).unwrap(), expected, "{kind:?}");
    }
    let refused = [
        (Some("application/json"), None),
        (Some("application/x-protobuf;proto=other"), None),
        (Some("application/x-protobuf;proto"), None),
        (Some("application/x-protobuf"), Some("gzip")),
    ];
    for (kind, encoding) in refused {
        assert_eq!(of(kind, encoding).unwrap_err().0, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind:?} {encoding:?}");
    }
}
