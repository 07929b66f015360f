//! Tests of `exits`: cases as data where there are many.

use super::*;

#[test]
fn a_line_that_a_crash_cut_is_left_out() {
    let text = concat!(
        "{\"id\":\"a\",\"code\":3,\"signal\":0,\"oom\":false,\"finished_at\":1000000000}\n",
        "{\"id\":\"b\",\"code\":137,\"signal\":9,\"oom\":true,\"finished_at\":2000000000}\n",
        "{\"id\":\"c\",\"code\":0,\"sig",
    );
    let exits = Exits::parse(text.as_bytes());
    assert_eq!(exits.get("a").map(|exit| (exit.code, exit.signal, exit.oom)), Some((3, None, false)));
    assert_eq!(exits.get("b").map(|exit| (exit.code, exit.signal, exit.oom)), Some((137, Some(9), true)));
    assert_eq!(exits.get("c"), None);
}

#[test]
fn the_last_end_of_a_name_counts() {
    let text = "{\"id\":\"a\",\"code\":1,\"finished_at\":1}\nnonsense\n{\"id\":\"a\",\"code\":2,\"finished_at\":2}\n";
    assert_eq!(Exits::parse(text.as_bytes()).get("a").map(|exit| exit.code), Some(2));
}
