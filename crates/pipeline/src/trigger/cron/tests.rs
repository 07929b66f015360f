//! Times that come, and texts that are none.

use super::*;

fn nexts(text: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::read(text, "shop/main").unwrap();
    let mut at: Timestamp = after.parse().unwrap();
    let mut all = Vec::new();
    for _ in 0..count {
        let Some(next) = schedule.next(at) else { break };
        all.push(next.to_string());
        at = next;
    }
    all
}

#[test]
fn times_come_in_order() {
    for (text, after, expected) in [
        ("TZ=UTC\n0 4 * * 1-5", "2026-01-02T04:00:00Z", vec!["2026-01-05T04:00:00Z", "2026-01-06T04:00:00Z"]),
        ("TZ=UTC\n*/20 * * * *", "2026-01-02T04:05:30Z", vec!["2026-01-02T04:20:00Z", "2026-01-02T04:40:00Z"]),
        ("TZ=UTC\n0 0 29 2 *", "2096-03-01T00:00:00Z", vec!["2104-02-29T00:00:00Z"]),
        ("TZ=UTC\n0 0 31 2 *", "2026-01-01T00:00:00Z", vec![]),
        // Both days must fit: the next Friday the 13th.
        ("TZ=UTC\n0 0 13 * 5", "2026-01-01T00:00:00Z", vec!["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z"]),
        ("TZ=UTC\n0 0 * * 7", "2026-01-01T00:00:00Z", vec!["2026-01-04T00:00:00Z"]),
        (
            "TZ=UTC\n# two lines\n0 6 * * *\n\n30 5,7 1-10/3 * *",
            "2026-01-01T00:00:00Z",
            vec!["2026-01-01T05:30:00Z", "2026-01-01T06:00:00Z", "2026-01-01T07:30:00Z", "2026-01-02T06:00:00Z"],
        ),
        ("TZ=GMT+09:30\n0 9 * * *", "2026-01-01T00:00:00Z", vec!["2026-01-01T23:30:00Z"]),
        ("", "2026-01-01T00:00:00Z", vec![]),
    ] {
        let mut found = nexts(text, after, expected.len().max(1));
        found.truncate(expected.len().max(usize::from(expected.is_empty())));
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn clocks_that_change_skip_and_repeat() {
    // 02:30 does not come on the day on which clocks go forward, and comes twice on the day on which they go back.
    assert_eq!(
        nexts("TZ=Europe/Berlin\n30 2 * * *", "2026-03-28T02:00:00Z", 2),
        ["2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"]
    );
    assert_eq!(
        nexts("TZ=Europe/Berlin\n30 2 * * *", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]
    );
}

#[test]
fn h_is_the_same_for_a_name_and_spreads_names() {
    let first = |seed: &str| Schedule::read("TZ=UTC\nH H * * *", seed).unwrap().lines[0];
    assert_eq!(first("a"), first("a"));
    let all: std::collections::BTreeSet<[u64; 5]> = (0..50).map(|n| first(&n.to_string())).collect();
    assert!(all.len() > 40, "{}", all.len());
    for seed in 0..200 {
        let seed = seed.to_string();
        let bits = Schedule::read("H/15 H(0-2) H * H", &seed).unwrap().lines[0];
        assert_eq!(bits[0].count_ones(), 4);
        assert!(bits[1] < 8 && bits[1].count_ones() == 1);
        // Days that every month has.
        assert!(bits[2] < 1 << 29 && bits[2].count_ones() == 1);
        assert!(bits[4] < 1 << 7);
    }
    for alias in ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"] {
        assert_eq!(nexts(&format!("TZ=Asia/Seoul\n{alias}"), "2026-01-01T00:00:00Z", 3).len(), 3, "{alias}");
    }
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "5/10 * * * *",
        "H/61 * * * *",
        "H(5 * * * *",
        "H(1-70) * * * *",
        "-1 * * * *",
        "a * * * *",
        "* * * JAN *",
        "@reboot",
        "TZ=Nowhere/Land\n* * * * *",
        "* * * * *\nTZ=UTC",
        "99999999999 * * * *",
    ] {
        assert!(Schedule::read(text, "").is_err(), "{text:?}");
    }
    assert!(Schedule::read(&"* * * * *\n".repeat(101), "").is_err());
    assert!(Schedule::read(&"#".repeat(9000), "").is_err());
}
