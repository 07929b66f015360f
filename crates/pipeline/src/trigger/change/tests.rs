//! Requests as the forges' pages show them, cut down to what is read.

use serde_json::json;

use super::*;

fn github(action: &str, from: &str) -> Json {
    json!({"action": action, "number": 7, "pull_request": {
        "number": 7, "title": "Mend it", "html_url": "https://github.com/team/app/pull/7",
        "user": {"login": "kim", "full_name": "Kim Lee", "email": "kim@example.org"},
        "head": {"ref": "mend", "sha": "a".repeat(40), "repo": {"full_name": from}},
        "base": {"ref": "main", "repo": {"full_name": "team/app"}},
    }})
}

#[test]
fn a_pull_request_is_read_when_it_is_opened_or_has_other_commits() {
    for action in ["opened", "reopened", "synchronize", "synchronized"] {
        let Changed { reference, commit, change } = read(&github(action, "kim/app")).unwrap();
        assert_eq!((reference.as_str(), commit), ("refs/pull/7/head", "a".repeat(40)));
        let texts = [change.branch, change.target, change.fork, change.title, change.author];
        assert_eq!(texts.map(Option::unwrap_or_default), ["mend", "main", "kim", "Mend it", "kim"]);
        let texts = [Some(change.id), change.url, change.author_display_name, change.author_email];
        let expected = ["7", "https://github.com/team/app/pull/7", "Kim Lee", "kim@example.org"];
        assert_eq!(texts.map(Option::unwrap_or_default), expected);
    }
    for action in ["closed", "labeled", "edited", ""] {
        assert_eq!(read(&github(action, "kim/app")), None, "{action}");
    }
    assert_eq!(read(&github("opened", "team/app")).unwrap().change.fork, None);
    assert_eq!(read(&github("opened", "kim/other")).unwrap().change.fork.as_deref(), Some("kim/other"));
}

#[test]
fn a_merge_request_is_read_likewise() {
    let of = |action: &str, more: Json| {
        let mut json = json!({"user": {"id": 1, "username": "lee", "name": "Lee", "email": "[REDACTED]"}, "object_attributes": {
            "action": action, "iid": 3, "author_id": 1, "source_branch": "mend", "target_branch": "main", "title": "t",
            "url": "https://gitlab.com/team/app/-/merge_requests/3", "last_commit": {"id": "b".repeat(40)},
            "source": {"path_with_namespace": "team/app"}, "target": {"path_with_namespace": "team/app"},
        }});
        let fields = more.as_object().unwrap().clone();
        json["object_attributes"].as_object_mut().unwrap().extend(fields);
        read(&json)
    };
    let Changed { reference, change, .. } = of("open", json!({})).unwrap();
    assert_eq!((reference.as_str(), change.id.as_str()), ("refs/merge-requests/3/head", "3"));
    assert_eq!((change.author.as_deref(), change.author_email, change.fork), (Some("lee"), None, None));
    assert_eq!(of("update", json!({})), None);
    assert!(of("update", json!({"oldrev": "c".repeat(40)})).is_some());
    // Somebody else reopened it.
    assert_eq!(of("reopen", json!({"author_id": 2})).unwrap().change.author, None);
    assert_eq!(of("merge", json!({})), None);
}

#[test]
fn what_a_forge_says_is_bounded_and_no_names_of_others() {
    let mut long = github("opened", "kim/app");
    long["pull_request"]["title"] = format!("a\u{1b}[31m\n{}", "b".repeat(5000)).into();
    let title = read(&long).unwrap().change.title.unwrap();
    assert!(title.chars().count() == LONGEST && title.starts_with("a[31mb"), "{title}");
    let mut wrong = github("opened", "kim/app");
    wrong["pull_request"]["head"]["sha"] = "main".into();
    assert_eq!(read(&wrong), None);
    for nothing in [json!({}), json!([]), json!({"action": "opened"}), json!({"object_attributes": {}})] {
        assert_eq!(read(&nothing), None, "{nothing}");
    }
}

#[test]
fn only_patterns_of_changes_are_about_changes() {
    let fits = |pattern: &str| super::fits(&[pattern.to_owned()], "refs/pull/7/head");
    assert!(fits("refs/pull/*/head") && fits("refs/pull/**") && fits("refs/pull/7/head"));
    for pattern in ["**", "*", "main", "refs/tags/**", "refs/merge-requests/*/head", "refs/pull/8/head"] {
        assert!(!fits(pattern), "{pattern}");
    }
    assert!(!super::fits(&[], "refs/pull/7/head"));
}
