//! Values and strings in JSON.

use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn samples_are_written_as_go_writes_them() {
    let cases: [(i64, f64, &str); 16] = [
        (0, 0.0, "[0,\"0\"]"),
        (0, -0.0, "[0,\"-0\"]"),
        (1_435_781_451_781, 1.5, "[1435781451.781,\"1.5\"]"),
        (1_000, 20_000.0, "[1,\"20000\"]"),
        (20, 1e15, "[0.020,\"1000000000000000\"]"),
        (1, -3.0, "[0.001,\"-3\"]"),
        (-1, 1e20, "[-0.001,\"100000000000000000000\"]"),
        (-1_500, 1e21, "[-1.500,\"1e+21\"]"),
        (0, 1.5e300, "[0,\"1.5e+300\"]"),
        (0, 1e-6, "[0,\"0.000001\"]"),
        (0, 1e-7, "[0,\"1e-07\"]"),
        (0, -2.5e-9, "[0,\"-2.5e-09\"]"),
        (0, f64::NAN, "[0,\"NaN\"]"),
        (0, f64::INFINITY, "[0,\"+Inf\"]"),
        (0, f64::NEG_INFINITY, "[0,\"-Inf\"]"),
        (0, 0.1 + 0.2, "[0,\"0.30000000000000004\"]"),
    ];
    for (at, value, expected) in cases {
        assert_eq!(written(|out| sample(out, at, value)), expected);
    }
}

#[test]
fn markup_is_escaped_in_texts_and_stays_in_labels() {
    assert_eq!(written(|out| text(out, "a<b>&\"\\\n\u{1}é")), "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\u0001é\"");
    let set = Labels::from_pairs([("a", "<b>"), ("c", "d\t")]);
    assert_eq!(written(|out| labels(out, &set)), "{\"a\":\"<b>\",\"c\":\"d\\t\"}");
}

#[test]
fn values_of_alerts_have_an_exponent() {
    for (value, expected) in [(1.0, "1e+00"), (0.0, "0e+00"), (12.5, "1.25e+01"), (1e-12, "1e-12"), (1e100, "1e+100")] {
        assert_eq!(exponential(value), expected);
    }
}
