//! Who gets which directory, and what goes when there is too much.

use super::*;

#[test]
fn private_steps_get_directories_of_their_own_and_shared_ones_the_same() {
    let place = tempfile::tempdir().unwrap();
    let one = hold(place.path(), Sharing::Shared).unwrap();
    let two = hold(place.path(), Sharing::Shared).unwrap();
    assert_eq!(one.0, two.0);
    let three = hold(place.path(), Sharing::Private).unwrap();
    let four = hold(place.path(), Sharing::Private).unwrap();
    assert_eq!((three.0.ends_with("1"), four.0.ends_with("2")), (true, true));
    drop((one, two, three));
    assert!(hold(place.path(), Sharing::Private).unwrap().0.ends_with("0"));
}

#[test]
fn a_locked_step_waits_for_the_one_before() {
    let place = tempfile::tempdir().unwrap();
    let first = hold(place.path(), Sharing::Locked).unwrap();
    let path = place.path().to_owned();
    let (sender, receiver) = std::sync::mpsc::channel();
    let second = std::thread::spawn(move || {
        let held = hold(&path, Sharing::Locked).unwrap();
        sender.send(()).unwrap();
        drop(held);
    });
    assert!(receiver.recv_timeout(std::time::Duration::from_millis(200)).is_err());
    drop(first);
    receiver.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    second.join().unwrap();
}

#[test]
fn the_longest_unused_caches_go_first_and_used_ones_stay() {
    let caches = tempfile::tempdir().unwrap();
    let mut held = None;
    for (at, name) in ["old", "used", "new"].into_iter().enumerate() {
        let place = caches.path().join(name);
        let (path, lock) = hold(&place, Sharing::Shared).unwrap();
        fs::write(path.join(ID), name).unwrap();
        fill(&path, None, "/", &Mount::default()).unwrap();
        fs::write(path.join("files/x"), vec![0; 100_000]).unwrap();
        lock.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at as u64)).unwrap();
        if name == "used" {
            held = Some(lock);
        }
    }
    let names = || {
        let mut names: Vec<String> = list(caches.path()).unwrap().into_iter().map(|cache| cache.id).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["new", "old", "used"]);
    assert!(prune(caches.path(), 250_000).unwrap() >= 100_000);
    assert_eq!(names(), ["new", "used"]);
    prune(caches.path(), 0).unwrap();
    assert_eq!(names(), ["used"]);
    drop(held);
    // Of an earlier removal that was interrupted.
    fs::create_dir_all(caches.path().join("key/7.removed/files")).unwrap();
    prune(caches.path(), 0).unwrap();
    assert_eq!(fs::read_dir(caches.path()).unwrap().count(), 0);
}

#[test]
fn steps_that_use_a_cache_and_its_removal_do_not_disturb_each_other() {
    let caches = tempfile::tempdir().unwrap();
    let place = caches.path().join("one");
    std::thread::scope(|scope| {
        let using = scope.spawn(|| {
            for _ in 0..2_000 {
                let (path, lock) = hold(&place, Sharing::Locked).unwrap();
                fs::write(path.join(ID), "one").unwrap();
                assert_eq!(fs::read_to_string(path.join(ID)).unwrap(), "one");
                drop(lock);
            }
        });
        while !using.is_finished() {
            prune(caches.path(), 0).unwrap();
        }
        using.join().unwrap();
    });
}
