//! Times, durations and selectors as requests give them.

use super::*;

#[test]
fn times_are_read_as_upstream_reads_them() {
    let cases = [
        ("0", Some(0)),
        ("1.5", Some(1500)),
        ("-1.5", Some(-1500)),
        ("1e3", Some(1_000_000)),
        ("1435781430.781", Some(1_435_781_430_781)),
        ("2015-07-01T20:10:30.781Z", Some(1_435_781_430_781)),
        ("2015-07-01T22:10:30.781+02:00", Some(1_435_781_430_781)),
        (MIN_WRITTEN, Some(MIN_TIME)),
        (MAX_WRITTEN, Some(MAX_TIME)),
        ("1e400", None),
        ("2015-07-01 20:10:30Z", None),
        ("2015-07-01T20:10:30", None),
        ("20:10", None),
        ("", None),
        ("1_000", None),
        ("foo", None),
    ];
    for (text, expected) in cases {
        assert_eq!(time(text).ok(), expected, "{text}");
    }
    assert_eq!(time("foo").unwrap_err(), "cannot parse \"foo\" to a valid timestamp");
}

#[test]
fn lengths_are_read_as_upstream_reads_them() {
    let second = 1_000_000_000;
    let cases = [
        ("1", Ok(second)),
        ("0.5", Ok(second / 2)),
        ("-1", Ok(-second)),
        ("5m", Ok(300 * second)),
        ("1h30m", Ok(5400 * second)),
        ("1e30", Err("cannot parse \"1e30\" to a valid duration. It overflows int64")),
        ("a", Err("cannot parse \"a\" to a valid duration")),
        ("", Err("cannot parse \"\" to a valid duration")),
        ("-5m", Err("cannot parse \"-5m\" to a valid duration")),
    ];
    for (text, expected) in cases {
        assert_eq!(length(text), expected.map_err(str::to_owned), "{text}");
    }
}

#[test]
fn numbers_are_read_as_go_reads_them() {
    assert_eq!(integer("-12"), Ok(-12));
    assert_eq!(integer("x").unwrap_err(), "strconv.Atoi: parsing \"x\": invalid syntax");
    assert_eq!(integer("1.0").unwrap_err(), "strconv.Atoi: parsing \"1.0\": invalid syntax");
    assert_eq!(
        integer("99999999999999999999").unwrap_err(),
        "strconv.Atoi: parsing \"99999999999999999999\": value out of range"
    );
    assert_eq!(truth("yes").unwrap_err(), "strconv.ParseBool: parsing \"yes\": invalid syntax");
}
