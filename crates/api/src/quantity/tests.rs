//! Tests of `quantity`: cases as data where there are many.

use serde_json::json;

use super::*;

fn parse(text: &str) -> Quantity {
    Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_is_read_is_shown_in_canonical_form() {
    for (text, shown) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("00", "0"),
        ("1", "1"),
        ("1000", "1k"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        (".5", "500m"),
        ("100m", "100m"),
        ("0.1m", "100u"),
        ("0.0000000001", "1n"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1000Ki", "1000Ki"),
        ("0.5Ki", "512"),
        ("0.5Mi", "512Ki"),
        ("512Ki", "512Ki"),
        ("2048", "2048"),
        ("1Ei", "1Ei"),
        ("100Ei", "9223372036854775807"),
        ("12e6", "12e6"),
        ("1e3", "1e3"),
        ("1E3", "1E3"),
        ("1000e3", "1e6"),
        ("10e2", "1e3"),
        ("1E", "1E"),
        ("-1", "-1"),
        ("-1.5Gi", "-1536Mi"),
        ("+5", "+5"),
        ("05", "05"),
        ("1234567890", "1234567890"),
        ("123456789012345678", "123456789012345678"),
        ("64Mi", "64Mi"),
        ("128974848", "128974848"),
        ("129e6", "129e6"),
        ("129M", "129M"),
        ("123Mi", "123Mi"),
        ("0.3Gi", "322122547200m"),
    ] {
        assert_eq!(parse(text).to_string(), shown, "{text}");
    }
}

#[test]
fn what_is_no_quantity_is_refused_in_upstreams_words() {
    for (text, error) in [
        ("", Error::Format),
        ("a", Error::Format),
        ("1.1.1", Error::Format),
        ("1 Gi", Error::Format),
        ("1Zi", Error::Format),
        ("1i", Error::Suffix),
        ("1mm", Error::Suffix),
        ("1KI", Error::Format),
        ("1ki", Error::Suffix),
        ("1e", Error::Suffix),
        ("--1", Error::Suffix),
        ("마당", Error::Format),
        ("1Gi\n", Error::Format),
    ] {
        assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn values_are_rounded_away_from_zero() {
    for (text, value, milli) in [
        ("1", 1, 1000),
        ("100m", 1, 100),
        ("-100m", -1, -100),
        ("1.0001", 2, 1001),
        ("1Ki", 1024, 1024000),
        ("0", 0, 0),
        ("1n", 1, 1),
        ("1e30", i64::MAX, i64::MAX),
    ] {
        let quantity = parse(text);
        assert_eq!((quantity.value(), quantity.milli()), (value, milli), "{text}");
    }
}

#[test]
fn amounts_compare_whatever_their_suffix() {
    for (left, right, order) in [
        ("1", "1000m", Ordering::Equal),
        ("1Gi", "1G", Ordering::Greater),
        ("999M", "1G", Ordering::Less),
        ("-1", "0", Ordering::Less),
        ("1e3", "1k", Ordering::Equal),
    ] {
        assert_eq!(parse(left).cmp(&parse(right)), order, "{left} {right}");
    }
}

#[test]
fn sums_keep_the_form_of_the_first_that_is_not_zero() {
    for (left, right, sum, difference) in [
        ("1", "500m", "1500m", "500m"),
        ("1Gi", "512Mi", "1536Mi", "512Mi"),
        ("0", "1Gi", "1Gi", "-1Gi"),
        ("1Gi", "1Gi", "2Gi", "0"),
        ("100m", "0.1", "200m", "0"),
        ("1Gi", "1", "1073741825", "1073741823"),
    ] {
        let (mut plus, mut minus) = (parse(left), parse(left));
        plus.add(&parse(right));
        minus.sub(&parse(right));
        assert_eq!((plus.to_string().as_str(), minus.to_string().as_str()), (sum, difference), "{left} {right}");
    }
    let mut three = parse("100m");
    three.mul(3);
    assert_eq!(three.to_string(), "300m");
}

#[test]
fn values_in_objects_are_put_in_canonical_form() {
    for (value, milli, shown) in [
        (json!("1000m"), true, Some("1")),
        (json!(2), true, Some("2")),
        (json!(0.5), true, Some("500m")),
        (json!("0.0001"), true, Some("1m")),
        (json!("100u"), false, None),
        (json!("1Gi"), true, None),
        (json!("nonsense"), true, None),
        (json!(null), true, None),
        (json!([1]), true, None),
    ] {
        assert_eq!(canonical(&value, milli).as_deref(), shown, "{value}");
    }
}

#[test]
fn absurd_exponents_neither_overflow_nor_take_long() {
    for text in
        ["1e999999999999", "1e-999999999", "-1e2000000000", "0e99999", "9999999999999999999999999999999999999999Ei"]
    {
        let quantity = match Quantity::parse(text) {
            Ok(quantity) => quantity,
            Err(error) => {
                assert_eq!(error, Error::Suffix, "{text}");
                continue;
            }
        };
        let _ = (quantity.to_string(), quantity.value(), quantity.milli());
        let mut twice = quantity.clone();
        twice.add(&quantity);
        twice.mul(i64::MAX);
        twice.sub(&quantity);
    }
    let long = format!("1.{}Ei", "3".repeat(5000));
    assert_eq!(parse(&long).sign(), 1);
}
