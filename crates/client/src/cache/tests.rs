//! What listeners hear, and in which order.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;

use super::{Cache, Key};

fn object(name: &str, version: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.namespace = Some("default".into());
    object.metadata.name = Some(name.into());
    object.metadata.resource_version = Some(version.into());
    object
}

fn heard(cache: &Cache<ConfigMap>) -> Arc<Mutex<Vec<String>>> {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let into = heard.clone();
    cache.listen(move |change| {
        let word = match (&change.old, &change.new) {
            (None, Some(_)) => "added",
            (Some(_), Some(_)) => "modified",
            _ => "deleted",
        };
        into.lock().unwrap().push(format!("{word} {}", change.key));
    });
    heard
}

#[test]
fn a_second_list_deletes_what_it_lacks_and_repeats_nothing() {
    let cache = Cache::<ConfigMap>::idle();
    let heard = heard(&cache);
    let mut seen = HashSet::new();
    for event in [
        Event::Init,
        Event::InitApply(object("a", "1")),
        Event::InitApply(object("b", "2")),
        Event::InitDone,
        Event::Apply(object("a", "3")),
        Event::Init,
        Event::InitApply(object("a", "3")),
        Event::InitApply(object("c", "4")),
        Event::InitDone,
        Event::Delete(object("c", "5")),
    ] {
        cache.take(event, &mut seen);
    }
    let expected = [
        "added default/a",
        "added default/b",
        "modified default/a",
        "added default/c",
        "deleted default/b",
        "deleted default/c",
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
    assert!(cache.is_ready());
    assert!(cache.get(&Key::new("default", "a")).is_some());
    assert_eq!(cache.list_in("default").len(), 1);
    assert!(cache.list_in("defaul").is_empty());
}

#[test]
fn a_late_listener_hears_what_is_there() {
    let cache = Cache::<ConfigMap>::idle();
    cache.take(Event::Apply(object("a", "1")), &mut HashSet::new());
    assert_eq!(*heard(&cache).lock().unwrap(), ["added default/a"]);
}
