//! Tests of `call`.

use super::*;

#[test]
fn versions_outside_of_the_range_are_refused_in_upstreams_words() {
    assert_eq!(versioned("/v1.41/info").unwrap(), (41, "info"));
    assert_eq!(versioned("/info").unwrap(), (NEWEST, "/info"));
    assert_eq!(versioned("/version").unwrap(), (NEWEST, "/version"));
    assert_eq!(versioned("/volumes/x").unwrap(), (NEWEST, "/volumes/x"));
    let message = |path| versioned(path).unwrap_err().message;
    assert_eq!(message("/v1.99/info"), "client version 1.99 is too new. Maximum supported API version is 1.50");
    assert!(
        message("/v1.12/info").starts_with("client version 1.12 is too old. Minimum supported API version is 1.41")
    );
}

#[test]
fn queries_are_decoded_and_flags_read_as_upstream_reads_them() {
    let query = Query::parse("all=1&t=a%2Fb&t=c+d&size=false&empty=&n=x");
    assert!(query.flag("all") && !query.flag("size") && !query.flag("empty") && !query.flag("missing"));
    assert_eq!(query.all("t").collect::<Vec<_>>(), ["a/b", "c d"]);
    assert!(query.flag_or("missing", true) && !query.flag_or("size", true));
    assert!(query.number::<u32>("n").is_err());
    assert_eq!(decode("100%"), "100%");
    assert_eq!(decode("%e2%82%ac%zz"), "€%zz");
    assert_eq!(decode("%+1"), "%+1");
}
