//! Tests of `nft`: cases as data where there are many.

use super::*;

#[test]
fn a_refusal_names_the_object() {
    let mut batch = Batch::new("t");
    batch.table("comment");
    batch.chain("pick-3");
    batch.rule("pick-3", |rule| {
        rule.masquerade();
    });
    let keys = [[10, 43, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0], [10, 43, 0, 2, 17, 0, 0, 0, 0, 53, 0, 0]];
    batch.add("services", keys.iter().map(|key| (&key[..], Data::Verdict(Verdict::Goto("pick-3")))));
    batch.remove("services", keys.iter().map(|key| &key[..]));
    let message = |index| batch.request.get(index).unwrap();
    for (index, offset, want) in [
        (0, None, "begin"),
        (1, None, "make"),
        (2, None, "make chain pick-3"),
        (3, None, "add a rule to chain pick-3"),
        (4, None, "add to set services"),
        (5, None, "remove from set services"),
    ] {
        assert_eq!(describe(message(index), offset), want);
    }
    let place = |index, key: &[u8]| message(index).windows(key.len()).position(|found| found == key).unwrap() - 12;
    for index in [4, 5] {
        let verb = if index == 4 { "add to" } else { "remove from" };
        for (key, shown) in keys.iter().zip(["10.43.0.1 . 6 . 80", "10.43.0.2 . 17 . 53"]) {
            let want = format!("{verb} set services: element {shown}");
            assert_eq!(describe(message(index), Some(place(index, key))), want);
        }
    }
}

#[test]
fn long_lists_of_elements_go_in_several_messages() {
    let mut batch = Batch::new("t");
    let keys: Vec<[u8; 4]> = (0..10_000u32).map(u32::to_be_bytes).collect();
    batch.add("own", keys.iter().map(|key| (&key[..], Data::Nothing)));
    let messages = batch.request.count() - 1;
    assert!((2..20).contains(&messages), "{messages}");
    let elements = |index| {
        let message = batch.request.get(index).unwrap();
        attributes(attribute(&message[20..], ELEM_LIST_ELEMENTS).unwrap()).count()
    };
    assert_eq!((1..=messages).map(elements).sum::<usize>(), keys.len());
}
