//! What others answer, whole and torn; samples of both sides brought together.

use promql::storage::Storage;
use tsdb::{
    Db,
    batch::{Batch, Durability},
    options::Options,
};

use super::*;

fn framed(message: &[u8]) -> Vec<u8> {
    let sum = prometheus::checksum(&[message]).to_be_bytes();
    Writer(message.to_vec()).delimited_with(&sum)
}

#[test]
fn frames_come_out_one_by_one_however_they_come() {
    let (one, two) = (framed(b"first"), framed(&[7; 300]));
    let all = [one.as_slice(), two.as_slice()].concat();
    for piece in [1, 2, 7, all.len()] {
        let (mut coming, mut found) = (BytesMut::new(), Vec::new());
        for bytes in all.chunks(piece) {
            coming.extend_from_slice(bytes);
            while let Some(frame) = frame(&mut coming, 1000).unwrap() {
                found.push(frame.to_vec());
            }
        }
        assert_eq!(found, [b"first".to_vec(), vec![7; 300]], "{piece}");
        assert!(coming.is_empty());
    }
}

#[test]
fn wrong_frames_are_refused() {
    let mut damaged = framed(b"first");
    damaged[6] ^= 1;
    let error = |bytes: &[u8], most| frame(&mut BytesMut::from(bytes), most).unwrap_err();
    assert!(error(&damaged, 1000).contains("checksum mismatch"));
    assert!(error(&framed(b"first"), 4).contains("exceeded the limit 4 bytes; got: 5 bytes"));
    assert!(error(&[0xff; 10], 1000).contains("integer overflow"));
}

#[test]
fn answers_that_are_no_answers_are_refused() {
    let packed = |bytes: &[u8]| BytesMut::from(&snap::raw::Encoder::new().compress_vec(bytes).unwrap()[..]);
    assert!(samples(packed(&[])).unwrap_err().contains("want 1, got 0"));
    assert!(samples(packed(&[0x0a, 0x7f])).unwrap_err().contains("unmarshal"));
    assert!(samples(BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00][..])).unwrap_err().contains("larger than"));
}

#[test]
fn samples_of_both_sides_stand_in_order_and_those_here_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _) = Db::open(dir.path(), Options::default()).unwrap();
    let labels = |name: &str| Labels::from_pairs([("__name__", name)]);
    let mut batch = Batch::default();
    let series = db.series(&labels("both")).unwrap();
    [10, 20, 30].into_iter().for_each(|time| batch.float(series, time, 1.0));
    db.commit(&batch, Durability::Logged).unwrap();
    let columns = |times: &[i64]| {
        Piece::Samples(Columns { times: times.to_vec(), values: vec![2.0; times.len()], ..Columns::default() })
    };
    let found = Found::from([
        (labels("both"), vec![columns(&[5, 20]), columns(&[0, 5, 15])]),
        (labels("there"), vec![columns(&[12])]),
        (labels("outside"), vec![columns(&[99])]),
    ]);
    let hints = Hints { start: 1, end: 50, ..Hints::default() };
    let matchers = [Matcher::new("__name__", Comparison::Matches, ".+").unwrap()];
    let mut merged =
        Merged::new(Storage::select(&db, &matchers, &hints).unwrap(), found, &hints, vec!["told".to_owned()]);
    let mut seen = Vec::new();
    let mut samples = Samples::default();
    while let Some(labels) = merged.next(&mut samples).unwrap() {
        seen.push((labels.metric().to_owned(), samples.times.clone(), samples.floats.clone()));
        samples.clear();
    }
    let both = ("both".to_owned(), vec![5, 10, 15, 20, 30], vec![2.0, 1.0, 2.0, 1.0, 1.0]);
    assert_eq!(seen, [both, ("there".to_owned(), vec![12], vec![2.0])]);
    assert_eq!(merged.warnings(), ["told"]);
}
