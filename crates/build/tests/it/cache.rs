//! What is built again, and what is not.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use build::{cache::Prune, request::Output};

use crate::place::{Place, as_root};

const BASE: &str = "FROM test.madang.dev/busybox:1";

async fn done(
    place: &Place,
    dockerfile: &str,
    context: &Path,
    change: impl FnOnce(&mut build::request::Request),
) -> Vec<String> {
    let mut request = place.request(dockerfile, context);
    change(&mut request);
    let (built, told) = place.build(request).await;
    built.unwrap_or_else(|error| panic!("{}{}", error.show(), told.output));
    told.done().iter().map(|name| name.split_once("] ").unwrap().1.to_owned()).collect()
}

#[test]
fn contents_modes_and_instructions_count_and_times_do_not() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1"), ("b", "2")]);
        let file = format!("{BASE}\nCOPY a /\nRUN echo one > /one\nCOPY b /\n");
        let none: [&str; 0] = [];
        assert_eq!(done(&place, &file, &context, |_| {}).await, ["COPY a /", "RUN echo one > /one", "COPY b /"]);
        assert_eq!(done(&place, &file, &context, |_| {}).await, none);
        // Another time is nothing.
        let times = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
        fs::File::options().write(true).open(context.join("a")).unwrap().set_times(times).unwrap();
        assert_eq!(done(&place, &file, &context, |_| {}).await, none);
        // Another mode is.
        fs::set_permissions(context.join("b"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(done(&place, &file, &context, |_| {}).await, ["COPY b /"]);
        // Another content changes what follows.
        fs::write(context.join("a"), "changed").unwrap();
        assert_eq!(done(&place, &file, &context, |_| {}).await.len(), 3);
        // What was there before is still there.
        fs::write(context.join("a"), "1").unwrap();
        assert_eq!(done(&place, &file, &context, |_| {}).await, none);
        // Files that are not copied are nothing.
        fs::write(context.join("c"), "3").unwrap();
        assert_eq!(done(&place, &file, &context, |_| {}).await, none);
        assert_eq!(done(&place, &file, &context, |request| request.options.no_cache = true).await.len(), 3);
        // After that, the new results are the ones that are found.
        assert_eq!(done(&place, &file, &context, |_| {}).await, none);
    });
}

#[test]
fn a_stage_built_anew_with_the_same_result_changes_nothing() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let file = |comment: &str, at: &str| {
            format!(
                "{BASE} AS made\nRUN echo {comment} > /dev/null; echo x > /x; date > /{at}\n{BASE}\nCOPY --from=made /x /x\nRUN cat /x\n"
            )
        };
        assert_eq!(done(&place, &file("1", "time"), &context, |_| {}).await.len(), 3);
        assert_eq!(done(&place, &file("2", "time"), &context, |_| {}).await.len(), 1);
        let again = file("2", "time");
        let filter = |request: &mut build::request::Request| request.options.no_cache_filter = vec!["made".into()];
        assert_eq!(done(&place, &again, &context, filter).await.len(), 1);
    });
}

#[test]
fn results_outlive_the_process_and_can_be_removed() {
    as_root(async {
        let mut place = Place::new().await;
        place.busybox().await;
        let context = place.context("context", &[("a", "1")]);
        let file = format!("{BASE}\nCOPY a /\nRUN echo one > /one\n");
        assert_eq!(done(&place, &file, &context, |_| {}).await.len(), 2);
        place.again().await;
        assert_eq!(done(&place, &file, &context, |_| {}).await.len(), 0);
        let pruned = place.builder.cache().prune(Prune::default()).await.unwrap();
        assert!(pruned.keys.len() >= 2 && pruned.bytes > 0, "{pruned:?}");
        // What images use is still there, and nothing else.
        assert_eq!(place.store.drafts().len(), 0);
        assert_eq!(done(&place, &file, &context, |_| {}).await.len(), 2);
    });
}

#[test]
fn a_rebuild_with_nothing_changed_takes_no_time() {
    as_root(async {
        let place = Place::new().await;
        place.busybox().await;
        let files: Vec<(String, String)> = (0..200).map(|n| (format!("f{n}"), n.to_string())).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let context = place.context("context", &files);
        let steps: String = (0..10).map(|n| format!("COPY f{n} /f{n}\nRUN echo {n} > /{n}\n")).collect();
        let file = format!("{BASE}\n{steps}COPY . /all/\n");
        let outputs = || {
            let names = vec!["test.madang.dev/rebuild:1".parse().unwrap()];
            vec![Output::Image { names, push: false, compression: Default::default() }]
        };
        let begin = Instant::now();
        done(&place, &file, &context, |request| request.outputs = outputs()).await;
        let first = begin.elapsed();
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let begin = Instant::now();
            assert_eq!(done(&place, &file, &context, |request| request.outputs = outputs()).await.len(), 0);
            best = best.min(begin.elapsed());
        }
        eprintln!("21 steps: first {first:?}, again {best:?}");
        // Ten times what is wanted of an optimised program on an idle machine.
        assert!(best < Duration::from_millis(500), "{best:?}");
    });
}
