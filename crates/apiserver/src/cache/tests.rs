use bytes::Bytes;

use super::*;

fn cache(keys: &[&str]) -> Cache {
    let object = |key: &&str| {
        Object::new((*key).into(), Bytes::from_static(br#"{"kind":"X","apiVersion":"v1","metadata":{"name":"a"}}"#), 1)
    };
    Cache::new(Arc::new(Applied::new(1)), 1, keys.iter().map(object))
}

fn keys(listed: &Listed) -> Vec<&str> {
    listed.objects.iter().map(|object| &**object.key()).collect()
}

#[test]
fn a_list_ends_where_its_prefix_does() {
    let cache = cache(&["/r/a/x", "/r/a0/x", "/r/ab/x", "/r/a/y"]);
    let all = Selection::everything("/r/a/");
    assert_eq!(keys(&cache.list(&all, None, 0)), ["/r/a/x", "/r/a/y"]);
    assert_eq!(keys(&cache.list(&all, Some("/r/a/x"), 0)), ["/r/a/y"]);
    let first = cache.list(&all, None, 1);
    assert_eq!((keys(&first), first.more, first.remaining), (vec!["/r/a/x"], true, Some(1)));
}

#[test]
fn a_token_from_elsewhere_lists_nothing_of_others() {
    let cache = cache(&["/r/a/x", "/r/b/x", "/r/c/x"]);
    let all = Selection::everything("/r/b/");
    for token in ["/r/b/x", "/r/b0", "/r/c/", "/zzz"] {
        assert_eq!(keys(&cache.list(&all, Some(token), 0)), [""; 0], "{token}");
    }
    assert_eq!(keys(&cache.list(&all, Some("/a"), 0)), ["/r/b/x"]);
}

#[test]
fn every_prefix_but_those_of_the_greatest_characters_has_an_end() {
    assert_eq!(behind("/r/a/").as_deref(), Some("/r/a0"));
    assert_eq!(behind("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
    assert_eq!(behind("a\u{10ffff}").as_deref(), Some("b"));
    assert_eq!(behind("\u{10ffff}"), None);
    assert_eq!(behind(""), None);
}
