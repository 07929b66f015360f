//! Tests of `cache`: cases as data where there are many.

use bytes::Bytes;

use super::*;

const PREFIX: &str = "/registry/core/pods/";

fn pod(name: &str, node: &str, revision: u64) -> Arc<Object> {
    let key: Arc<str> = format!("{PREFIX}web/{name}").into();
    let bytes = format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{name}","labels":{{"app":"{name}"}}}},"spec":{{"nodeName":"{node}"}}}}"#
    );
    Object::new(key, bytes.into(), revision)
}

fn cache() -> Cache {
    Cache::of_pods(Arc::new(Applied::new(1)), 1)
}

fn put(cache: &Cache, name: &str, node: &str, revision: u64) {
    let object = pod(name, node, revision);
    cache.apply(&object.key().clone(), Some(object), revision);
}

fn remove(cache: &Cache, name: &str, revision: u64) {
    cache.apply(&format!("{PREFIX}web/{name}").into(), None, revision);
}

fn everything() -> Arc<Selection> {
    Arc::new(Selection::everything(PREFIX))
}

fn names(objects: &[Arc<Object>]) -> Vec<&str> {
    objects.iter().map(|object| object.name()).collect()
}

#[test]
fn pages_follow_each_other_and_count_what_remains() {
    let cache = cache();
    for (at, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        put(&cache, name, "n", 2 + at as u64);
    }
    let first = cache.list(&everything(), None, 2);
    assert_eq!((names(&first.objects), first.more, first.remaining), (vec!["a", "b"], true, Some(3)));
    let rest = cache.list(&everything(), Some(first.objects[1].key()), 0);
    assert_eq!((names(&rest.objects), rest.more, rest.remaining), (vec!["c", "d", "e"], false, None));
    let outside = Selection::everything("/registry/core/pods/other/");
    assert!(cache.list(&outside, None, 0).objects.is_empty());
}

#[test]
fn pods_are_found_by_their_node_as_they_move() {
    let cache = cache();
    put(&cache, "a", "", 2);
    put(&cache, "b", "n1", 3);
    let on = |node: &str| {
        let objects = cache.all(&Selection::on_node(PREFIX, node));
        names(&objects).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(on("n1"), ["b"]);
    put(&cache, "a", "n1", 4);
    assert_eq!(on("n1"), ["a", "b"]);
    put(&cache, "b", "n2", 5);
    remove(&cache, "a", 6);
    assert_eq!((on("n1").len(), on("n2")), (0, vec!["b".to_owned()]));
}

#[tokio::test]
async fn a_subscription_holds_every_change_once() {
    let cache = cache();
    put(&cache, "a", "n", 2);
    put(&cache, "b", "n", 3);
    let mut subscription = cache.watch(everything(), Start::After(2)).unwrap();
    put(&cache, "c", "n", 4);
    remove(&cache, "a", 5);
    let mut seen: Vec<(Shown, String)> = Vec::new();
    for (shown, live) in subscription.replay.drain(..) {
        seen.push((shown, live.change.object.name().to_owned()));
    }
    while let Ok((shown, live)) = subscription.live.try_recv() {
        seen.push((shown, live.change.object.name().to_owned()));
    }
    let expected = [(Shown::Added, "b"), (Shown::Added, "c"), (Shown::Deleted, "a")];
    assert_eq!(seen, expected.map(|(shown, name)| (shown, name.to_owned())));
}

#[test]
fn the_log_forgets_and_says_so() {
    let cache = cache();
    for revision in 2..3000 {
        put(&cache, "a", "n", revision);
    }
    let TooOld { floor } = cache.watch(everything(), Start::After(2)).unwrap_err();
    assert_eq!(floor, 2999 - LOG_CHANGES as u64);
    let kept = cache.watch(everything(), Start::After(floor)).unwrap();
    assert_eq!(kept.replay.len(), LOG_CHANGES);
}

#[test]
fn a_watcher_that_lets_its_queue_fill_is_ended() {
    let cache = cache();
    let mut slow = cache.watch(everything(), Start::Now).unwrap();
    for revision in 2..(QUEUE as u64 + 10) {
        put(&cache, "a", "n", revision);
    }
    assert_eq!(cache.watchers(), 0);
    let mut seen = 0;
    while slow.live.try_recv().is_ok() {
        seen += 1;
    }
    assert_eq!(seen, QUEUE);
    assert_eq!(slow.live.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
}

#[test]
fn a_watcher_that_is_dropped_is_forgotten() {
    let cache = cache();
    let watcher = cache.watch(everything(), Start::Now).unwrap();
    assert_eq!(cache.watchers(), 1);
    drop(watcher);
    assert_eq!(cache.watchers(), 0);
}

#[test]
fn replacing_everything_shows_the_difference_to_watchers() {
    let cache = cache();
    put(&cache, "gone", "n", 2);
    put(&cache, "same", "n", 3);
    put(&cache, "new", "n", 4);
    let mut watcher = cache.watch(everything(), Start::After(4)).unwrap();
    let kept = [pod("same", "n", 3), pod("new", "m", 9), pod("more", "n", 8)];
    cache.replace(kept.into_iter().map(|object| (object.key().clone(), object)).collect(), 10);
    let mut seen = Vec::new();
    while let Ok((shown, live)) = watcher.live.try_recv() {
        seen.push((shown, live.change.object.name().to_owned()));
    }
    let expected = [(Shown::Deleted, "gone"), (Shown::Added, "more"), (Shown::Modified, "new")];
    assert_eq!(seen, expected.map(|(shown, name)| (shown, name.to_owned())));
    assert_eq!(cache.watch(everything(), Start::After(9)).unwrap_err(), TooOld { floor: 10 });
}

#[test]
fn bytes_are_made_once_a_change() {
    let live = Live::new(Change { object: pod("a", "n", 2), previous: None, deleted: false });
    let wire = Wire {
        format: crate::negotiate::Format::Json,
        view: crate::negotiate::View::Object,
        version: 0,
        rows: api::print::Include::None,
        columns: false,
    };
    let first = live.frame(Shown::Added, wire, |_| Bytes::from_static(b"made"));
    let second = live.frame(Shown::Added, wire, |_| panic!("made twice"));
    assert_eq!(first, second);
    let other = live.frame(Shown::Modified, wire, |_| Bytes::from_static(b"other"));
    assert_eq!(&other[..], b"other");
}

#[tokio::test]
async fn whoever_waits_for_a_revision_is_woken_by_it() {
    let applied = Arc::new(Applied::new(1));
    assert!(!applied.reached(2, Duration::from_millis(5)).await);
    let waiting = applied.reached(5, Duration::from_secs(5));
    let moving = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        applied.advance(7);
        applied.advance(3);
    };
    let (reached, ()) = tokio::join!(waiting, moving);
    assert!(reached);
    assert_eq!(applied.get(), 7, "never back");
}

fn holding(keys: &[&str]) -> Cache {
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
    let cache = holding(&["/r/a/x", "/r/a0/x", "/r/ab/x", "/r/a/y"]);
    let all = Selection::everything("/r/a/");
    assert_eq!(keys(&cache.list(&all, None, 0)), ["/r/a/x", "/r/a/y"]);
    assert_eq!(keys(&cache.list(&all, Some("/r/a/x"), 0)), ["/r/a/y"]);
    let first = cache.list(&all, None, 1);
    assert_eq!((keys(&first), first.more, first.remaining), (vec!["/r/a/x"], true, Some(1)));
}

#[test]
fn a_token_from_elsewhere_lists_nothing_of_others() {
    let cache = holding(&["/r/a/x", "/r/b/x", "/r/c/x"]);
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
