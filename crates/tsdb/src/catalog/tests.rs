//! Tests of the catalog.

use super::*;
use crate::matcher::{Matcher, find};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

#[test]
fn a_slot_is_used_again_under_another_generation() {
    let mut catalog = Catalog::default();
    let (a, b) = (labels(&[("x", "1"), ("y", "2")]), labels(&[("x", "1")]));
    let first = catalog.add(&a).expect("there is room");
    assert_eq!(catalog.add(&a), Ok(first));
    catalog.remove(first.slot);
    assert_eq!((catalog.find(&a), catalog.reference(first.slot), catalog.len()), (None, None, 0));
    let second = catalog.add(&b).expect("there is room");
    assert_eq!(second.slot, first.slot);
    assert!(second.generation > first.generation);
    assert_eq!(catalog.labels_of(second.slot), b);
    assert_eq!(find(&catalog, &[Matcher::equal("x", "1")]), [second.slot]);
    assert!(find(&catalog, &[Matcher::equal("y", "2")]).is_empty());
    assert_eq!(catalog.names(), ["x"]);
}

#[test]
fn what_a_file_says_twice_is_taken_once() {
    let mut catalog = Catalog::default();
    let x = catalog.intern("x", "1").expect("there is room");
    let y = catalog.intern("y", "1").expect("there is room");
    let at = |slot, generation| SeriesRef { slot, generation };
    assert_eq!(catalog.put(at(5, 1), &[x]), Ok(true));
    assert_eq!(catalog.put(at(5, 1), &[x]), Ok(false));
    assert_eq!(catalog.put(at(5, 3), &[y]), Ok(true));
    assert_eq!(catalog.put(at(5, 1), &[x]), Ok(false));
    assert_eq!(catalog.put(at(2, 1), &[y]), Ok(false));
    catalog.settle(|_| false);
    assert_eq!(catalog.live().collect::<Vec<_>>(), [5]);
    let next = catalog.add(&labels(&[("z", "1")])).expect("there is room");
    assert!(next.slot < 5 && next.generation % 2 == 1);
}

#[test]
fn a_packed_catalog_says_the_same() {
    let mut catalog = Catalog::default();
    let all: Vec<Labels> = (0..200).map(|n| labels(&[("n", &n.to_string()), ("even", &(n % 2).to_string())])).collect();
    for labels in &all {
        catalog.add(labels).expect("there is room");
    }
    for slot in (0..200).step_by(3) {
        catalog.remove(slot);
    }
    let packed = catalog.packed().expect("there is room");
    assert!(packed.strings() < catalog.strings());
    for slot in 0..200 {
        assert_eq!(packed.reference(slot), catalog.reference(slot));
        assert_eq!(packed.generation(slot), catalog.generation(slot));
        if packed.reference(slot).is_some() {
            assert_eq!(packed.labels_of(slot), all[slot as usize]);
            assert_eq!(packed.find(&all[slot as usize]), packed.reference(slot));
        }
    }
    let even = [Matcher::equal("even", "0")];
    assert_eq!(find(&packed, &even), find(&catalog, &even));
}
