//! Exports: what is asked for, and what is written.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{dated, epoch};
use crate::{image::History, request::Options};

fn line(created: Option<&str>, empty: bool) -> History {
    History { created: created.map(str::to_owned), empty_layer: empty, ..History::default() }
}

fn times(history: &[History]) -> Vec<&str> {
    history.iter().map(|line| line.created.as_deref().unwrap_or("-")).collect()
}

#[test]
fn lines_have_the_times_of_their_layers() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let history = vec![
        line(Some("2020-01-01T00:00:00Z"), false),
        line(None, true),
        line(None, false),
        line(None, true),
        line(None, false),
    ];
    let found = dated(history.clone(), 1, &[at(100), at(200)], None);
    let (first, second) = ("1970-01-01T00:01:40Z", "1970-01-01T00:03:20Z");
    assert_eq!(times(&found), ["2020-01-01T00:00:00Z", first, first, first, second]);
    let found = dated(history, 1, &[at(100), at(200)], Some(5));
    let fixed = "1970-01-01T00:00:05Z";
    assert_eq!(times(&found), ["2020-01-01T00:00:00Z", fixed, fixed, fixed, fixed]);
}

#[test]
fn an_image_with_no_new_layer_is_as_old_as_its_base() {
    let history = vec![line(Some("2020-01-01T00:00:00Z"), false), line(None, true)];
    assert_eq!(times(&dated(history, 1, &[], None)), ["2020-01-01T00:00:00Z"; 2]);
    assert_eq!(times(&dated(vec![line(None, true)], 0, &[], None)), ["-"]);
}

#[test]
fn an_epoch_is_a_number_of_seconds() {
    let with = |text: &str| Options {
        arguments: BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), text.to_owned())]),
        ..Options::default()
    };
    assert_eq!(epoch(&with("1700000000")).unwrap(), Some(1_700_000_000));
    assert_eq!(epoch(&with("")).unwrap(), None);
    assert!(epoch(&with("yesterday")).is_err());
    assert!(epoch(&with("99999999999999999")).is_err());
}
