//! Graphs of stages from the reference's examples.

use super::*;
use crate::dockerfile;

pub(crate) fn options(target: Option<&str>, arguments: &[(&str, &str)]) -> Options {
    let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: String::new() };
    Options {
        target: target.map(str::to_owned),
        arguments: arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        build: platform.clone(),
        platform,
    }
}

fn plan(text: &str, target: Option<&str>, arguments: &[(&str, &str)]) -> Result<Plan, Error> {
    Plan::new(&dockerfile::parse(text).unwrap(), &options(target, arguments))
}

#[test]
fn only_what_the_target_needs_is_built_and_in_order() {
    let text = "FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=two x y\nFROM c AS four\nRUN --mount=from=three x\n\
                FROM d AS unused\nFROM four\nCOPY --from=1 p q\nCOPY --from=elsewhere:1 p q";
    for (target, order, images) in [
        (None, vec![0, 1, 2, 3, 5], vec!["a", "b", "c", "elsewhere:1"]),
        (Some("three"), vec![0, 1, 2], vec!["a", "b"]),
        (Some("TWO"), vec![1], vec!["b"]),
        (Some("4"), vec![4], vec!["d"]),
    ] {
        let plan = plan(text, target, &[]).unwrap();
        assert_eq!(plan.order(), order, "{target:?}");
        assert_eq!(plan.images().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), images, "{target:?}");
    }
}

#[test]
fn bases_take_their_names_from_arguments() {
    let text = "ARG V=1\nARG IMAGE=go:${V}-slim\nFROM $IMAGE\nFROM ${NONE:-scratch}";
    assert_eq!(plan(text, None, &[]).unwrap().stages[0].base, Origin::Image("go:1-slim".to_owned()));
    assert_eq!(plan(text, None, &[("V", "2")]).unwrap().stages[0].base, Origin::Image("go:2-slim".to_owned()));
    assert_eq!(plan(text, None, &[("IMAGE", "x")]).unwrap().stages[0].base, Origin::Image("x".to_owned()));
    assert_eq!(plan(text, None, &[]).unwrap().stages[1].base, Origin::Scratch);
    assert_eq!(plan(text, None, &[]).unwrap().globals["TARGETARCH"], "amd64");
    // A name that two stages have is the later one's.
    let text = "FROM a AS x\nFROM b AS x\nFROM x\nCOPY --from=x a b";
    assert_eq!(plan(text, None, &[]).unwrap().stages[2].base, Origin::Stage(1));
}

#[test]
fn stages_have_the_platform_that_they_say_or_start_from() {
    let text =
        "FROM --platform=linux/arm64 a AS one\nFROM one AS two\nCOPY --from=tool x y\nFROM a\nCOPY --from=two x y";
    let plan = plan(text, None, &[]).unwrap();
    let platforms: Vec<String> = (0..3).map(|at| plan.platform_of(at).to_string()).collect();
    assert_eq!(platforms, ["linux/arm64", "linux/arm64", "linux/amd64"]);
    let images: Vec<String> = plan.images().iter().map(|(name, platform)| format!("{name} {platform}")).collect();
    assert_eq!(images, ["a linux/amd64", "a linux/arm64", "tool linux/arm64"]);
}

#[test]
fn platforms_are_read_as_people_write_them() {
    let own = options(None, &[]).platform;
    for (text, expected) in [
        ("linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("Linux/x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("linux", "linux/amd64"),
    ] {
        assert_eq!(Platform::parse(text, &own).unwrap().to_string(), expected, "{text}");
    }
    for text in ["", "a/b/c/d", "linux/", "li nux"] {
        assert!(Platform::parse(text, &own).is_err(), "{text:?}");
    }
    let plan = plan("FROM --platform=$TARGETPLATFORM a", None, &[]).unwrap();
    assert_eq!(plan.stages[0].platform.as_ref().unwrap().to_string(), "linux/amd64");
}

#[test]
fn what_cannot_be_built_says_why() {
    for (text, target, line, message) in [
        ("FROM a AS b", Some("c"), 1, "target stage \"c\" could not be found; there are b"),
        ("FROM a", Some("1"), 1, "target stage \"1\" could not be found; no stage has a name"),
        ("FROM $NONE", None, 1, "base name ($NONE) should not be blank"),
        (
            "FROM a\nCOPY --from=0 x y",
            None,
            2,
            "cannot copy from stage \"0\", it needs to be defined before current stage \"stage-0\"",
        ),
        (
            "FROM a AS x\nCOPY --from=later x y\nFROM b AS later",
            None,
            2,
            "cannot copy from stage \"later\", it needs to be defined before current stage \"x\"",
        ),
        ("FROM --platform=$NONE a", None, 1, "empty platform value from expression $NONE"),
        ("ARG A=${", None, 1, "failed to process \"${\": syntax error: missing '}'"),
    ] {
        let text = if text.starts_with("ARG") { format!("{text}\nFROM a") } else { text.to_owned() };
        let error = plan(&text, target, &[]).expect_err(&text);
        assert_eq!((error.lines.first, error.message.as_str()), (line, message), "{text}");
    }
}
