//! Tests of records: what is written is read, and nonsense is refused.

use super::*;
use crate::{
    bytes::Reader,
    catalog::Catalog,
    column::HistogramValue,
    labels::Labels,
    random::Random,
    sample::{Exemplar, STALE_NAN},
};

fn value(random: &mut Random, sort: u64, before: f64) -> f64 {
    match sort % 7 {
        0 => before + random.below(100) as f64,
        1 => (before * 100.0).round() / 100.0 + random.below(100) as f64 / 100.0,
        2 => f64::from_bits(random.next()),
        3 => before,
        4 => [STALE_NAN, f64::NAN, f64::INFINITY, -0.0, 0.0, 1e300][random.below(6) as usize],
        5 => random.below(1 << 60) as f64,
        _ => -(random.below(1000) as f64) / 1e6,
    }
}

#[test]
fn samples_come_back_to_the_bit_file_by_file() {
    let mut random = Random::new(21);
    let mut tracks = [Track::default(); 50];
    let mut before = [0.0; 50];
    for file in 1..6 {
        let mut reader = FloatReader::default();
        for _ in 0..40 {
            let mut writer = FloatWriter::default();
            let mut wanted = Vec::new();
            let one_time = random.below(2) == 0;
            let mut slot = random.below(3);
            while slot < 50 {
                let time = if one_time { 77 } else { random.next() as i64 };
                let sort = if random.below(5) == 0 { random.next() } else { slot };
                let value = value(&mut random, sort, before[slot as usize]);
                before[slot as usize] = if value.is_finite() { value } else { 0.0 };
                writer.push(slot as u32, time, value, file, &mut tracks[slot as usize]);
                wanted.push((slot as u32, time, value.to_bits()));
                slot += 1 + random.below(20) / 18;
            }
            let mut payload = Vec::new();
            writer.finish(&mut payload);
            let mut have = Vec::new();
            reader.read(&payload, |slot, time, value| have.push((slot, time, value.to_bits()))).expect("it is whole");
            assert_eq!(have, wanted);
        }
    }
}

#[test]
fn a_usual_scrape_takes_little() {
    let mut random = Random::new(22);
    let mut tracks = vec![Track::default(); 1000];
    let mut counters = vec![0.0; 1000];
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let mut writer = FloatWriter::default();
        for (slot, counter) in counters.iter_mut().enumerate() {
            *counter += random.below(100) as f64;
            writer.push(slot as u32, 15_000, *counter, 1, &mut tracks[slot]);
        }
        let mut payload = Vec::new();
        writer.finish(&mut payload);
        sizes.push(payload.len());
    }
    assert!(sizes[2] < 2 * 1000, "{sizes:?}");
}

#[test]
fn the_list_of_series_comes_back() {
    let mut catalog = Catalog::default();
    for n in 0..100 {
        let labels = Labels::from_pairs([("n", n.to_string()), ("__name__", format!("m{}", n % 7))]);
        catalog.add(&labels).expect("there is room");
    }
    catalog.remove(40);
    let mut payload = Vec::new();
    write_series(&catalog, 0..100, &mut payload);
    let mut back = Catalog::default();
    read_series(&payload, &mut back).expect("it is whole").expect("there is room");
    assert_eq!(back.len(), 99);
    for slot in catalog.live() {
        assert_eq!((back.reference(slot), back.labels_of(slot)), (catalog.reference(slot), catalog.labels_of(slot)));
    }
}

#[test]
fn everything_else_comes_back() {
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace", "x")]), value: 1.5, timestamp: Some(-4) };
    let untimed = Exemplar { timestamp: None, ..exemplar.clone() };
    let mut payload = Vec::new();
    write_exemplars([(3, &exemplar), (4, &untimed)].into_iter(), &mut payload);
    let mut have = Vec::new();
    read_exemplars(&mut Reader(&payload), |slot, exemplar| have.push((slot, exemplar))).expect("it is whole");
    assert_eq!(have, [(3, exemplar), (4, untimed)]);

    let metadata = Metadata { kind: "counter".into(), unit: String::new(), help: "Counts.".into() };
    let mut payload = Vec::new();
    write_metadata([(9, &metadata)].into_iter(), &mut payload);
    let mut have = Vec::new();
    read_metadata(&mut Reader(&payload), |slot, metadata| have.push((slot, metadata))).expect("it is whole");
    assert_eq!(have, [(9, metadata)]);

    let mut payload = Vec::new();
    write_deleted([(1, (i64::MIN, 5)), (2, (7, i64::MAX))].into_iter(), &mut payload);
    let mut have = Vec::new();
    read_deleted(&mut Reader(&payload), |slot, range| have.push((slot, range))).expect("it is whole");
    assert_eq!(have, [(1, (i64::MIN, 5)), (2, (7, i64::MAX))]);

    let histograms = [(1, 5, HistogramValue::stale_integer()), (2, 6, HistogramValue::stale_float())];
    let mut payload = Vec::new();
    write_histograms(&histograms, &mut payload);
    let mut have = 0;
    read_histograms(&payload, |slot, time, value| {
        assert!((slot, time) == (histograms[have].0, histograms[have].1) && value.same(&histograms[have].2));
        have += 1;
    })
    .expect("it is whole");
    assert_eq!(have, 2);
}

#[test]
fn nonsense_is_refused_and_never_panics() {
    let mut random = Random::new(23);
    let mut sound = Vec::new();
    let mut writer = FloatWriter::default();
    let mut tracks = [Track::default(); 20];
    for slot in 0..20 {
        writer.push(slot, 5, f64::from(slot) / 10.0, 1, &mut tracks[slot as usize]);
    }
    writer.finish(&mut sound);
    for round in 0..20_000 {
        let mut bytes: Vec<u8> = (0..random.below(60)).map(|_| random.next() as u8).collect();
        if round % 2 == 0 {
            bytes.clone_from(&sound);
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        let mut samples = 0;
        let _ = FloatReader::default().read(&bytes, |_, _, _| samples += 1);
        assert!(samples <= 2 * bytes.len());
        let _ = read_series(&bytes, &mut Catalog::default());
        let _ = read_histograms(&bytes, |_, _, _| {});
        let _ = read_exemplars(&mut Reader(&bytes), |_, _| {});
        let _ = read_metadata(&mut Reader(&bytes), |_, _| {});
        let _ = read_deleted(&mut Reader(&bytes), |_, _| {});
        let _ = read_late(&bytes, |_, _, _| {});
    }
}
