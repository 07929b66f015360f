//! Stages resolved: variables in every instruction, what the image says afterwards, what history tells.

use super::*;
use crate::{dockerfile, plan};

/// Resolves all stages of a text in turn, the first from `base`; returns the last.
fn last(text: &str, base: &Image, given: &[(&str, &str)]) -> Result<Resolved, Error> {
    let file = dockerfile::parse(text)?;
    let options = plan::tests::options(None, given);
    let plan = Plan::new(&file, &options)?;
    let mut done: Vec<Resolved> = Vec::new();
    for (at, stage) in plan.stages.iter().enumerate() {
        let base = match stage.base {
            plan::Origin::Scratch => Base::Scratch,
            plan::Origin::Image(_) => Base::Image(base),
            plan::Origin::Stage(earlier) => Base::Stage(&done[earlier]),
        };
        done.push(resolve(&file, &plan, at, base, &options.arguments)?);
    }
    Ok(done.pop().unwrap())
}

fn scratch(text: &str) -> Resolved {
    last(&format!("FROM scratch\n{text}"), &Image::default(), &[]).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn history(resolved: &Resolved) -> Vec<&str> {
    resolved.image.history.iter().map(|line| line.created_by.as_str()).collect()
}

fn processes(resolved: &Resolved) -> Vec<&Process> {
    resolved
        .actions
        .iter()
        .filter_map(|action| match &action.kind {
            Kind::Run(process) => Some(process),
            _ => None,
        })
        .collect()
}

#[test]
fn history_reads_as_buildkit_writes_it() {
    let resolved = scratch(
        "ARG A=1\nENV B=$A C=\"x y\"\nLABEL l=$B\nWORKDIR /w\nWORKDIR sub/../s\nRUN echo $A\nCOPY --chown=1 a b /d/\nUSER u$A\n\
         EXPOSE 80 53/UDP 9000-9001\nVOLUME /v /x\nSTOPSIGNAL SIGTERM\nSHELL [\"/bin/bash\", \"-c\"]\nCMD echo \"hi\"\n\
         ENTRYPOINT [\"e\"]\nHEALTHCHECK --interval=90s CMD true\nMAINTAINER me\nWORKDIR /",
    );
    assert_eq!(
        history(&resolved),
        [
            "ARG A=1",
            "ENV B=1 C=x y",
            "LABEL l=1",
            "WORKDIR /w",
            "WORKDIR /w/s",
            "RUN |1 A=1 /bin/sh -c echo $A # buildkit",
            "COPY --chown=1 a b /d/ # buildkit",
            "USER u1",
            "EXPOSE [53/udp 80/tcp 9000/tcp 9001/tcp]",
            "VOLUME [/v /x]",
            "STOPSIGNAL SIGTERM",
            "SHELL [/bin/bash -c]",
            "CMD [\"/bin/bash\" \"-c\" \"echo \\\"hi\\\"\"]",
            "ENTRYPOINT [\"e\"]",
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            "MAINTAINER me",
            "WORKDIR /",
        ]
    );
    let layers: Vec<bool> = resolved.image.history.iter().map(|line| !line.empty_layer).collect();
    assert_eq!(layers.iter().filter(|layer| **layer).count(), 4, "{layers:?}");
    assert_eq!(resolved.actions.len(), 4);
    assert_eq!(resolved.image.author.as_deref(), Some("me"));
}

#[test]
fn the_configuration_is_what_the_instructions_say() {
    let resolved = scratch(
        "ENV A=1\nENV A=2 B=$A\nEXPOSE 80\nVOLUME /v\nLABEL a=b\nUSER x\nWORKDIR w\nCMD [\"c\"]\nONBUILD RUN $X",
    );
    let config = &resolved.image.config;
    assert_eq!(config.env, [format!("PATH={DEFAULT_PATH}"), "A=2".to_owned(), "B=1".to_owned()]);
    assert!(config.exposed_ports.contains_key("80/tcp") && config.volumes.contains_key("/v"));
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("x", "/w"));
    assert_eq!(config.on_build, ["RUN $X"]);
    let json = serde_json::to_value(&resolved.image).unwrap();
    assert_eq!(json["config"]["Cmd"], serde_json::json!(["c"]));
    assert_eq!(json["config"]["Labels"]["a"], "b");
    assert_eq!(serde_json::from_value::<Image>(json).unwrap(), resolved.image);
}

#[test]
fn an_entry_point_drops_the_base_images_command_but_not_its_own_stages() {
    let base = Image { config: Config { cmd: Some(vec!["old".to_owned()]), ..Config::default() }, ..Image::default() };
    let cmd = |text: &str| last(text, &base, &[]).unwrap().image.config.cmd;
    assert_eq!(cmd("FROM a"), Some(vec!["old".to_owned()]));
    assert_eq!(cmd("FROM a\nENTRYPOINT [\"e\"]"), None);
    assert_eq!(cmd("FROM a\nCMD [\"c\"]\nENTRYPOINT [\"e\"]"), Some(vec!["c".to_owned()]));
}

#[test]
fn arguments_have_the_scope_of_their_stage_and_those_that_start_from_it() {
    let environment = |text: &str, given: &[(&str, &str)]| {
        let resolved = last(text, &Image::default(), given).unwrap();
        let processes = processes(&resolved);
        processes
            .last()
            .unwrap()
            .environment
            .iter()
            .filter(|pair| !pair.starts_with("PATH="))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(environment("ARG A=1\nFROM x\nRUN e", &[]), Vec::<String>::new(), "not declared in the stage");
    assert_eq!(environment("ARG A=1\nFROM x\nARG A\nRUN e", &[]), ["A=1"]);
    assert_eq!(environment("ARG A=1\nFROM x\nARG A=2\nRUN e", &[]), ["A=2"]);
    assert_eq!(environment("ARG A=1\nFROM x\nARG A=2\nRUN e", &[("A", "3")]), ["A=3"]);
    assert_eq!(environment("FROM x\nARG A=1\nENV A=e\nRUN e", &[("A", "3")]), ["A=e"]);
    assert_eq!(environment("FROM x AS one\nARG A=1\nFROM one\nRUN e", &[]), ["A=1"]);
    assert_eq!(environment("FROM x AS one\nARG A=1\nFROM y\nRUN e", &[]), Vec::<String>::new());
    assert_eq!(environment("FROM x\nARG TARGETARCH\nRUN e", &[]), ["TARGETARCH=amd64"]);
    assert_eq!(environment("FROM x\nARG A\nRUN e", &[]), Vec::<String>::new());
}

#[test]
fn triggers_of_a_base_run_first_and_once() {
    let base = Image {
        config: Config { on_build: vec!["ENV X=1".to_owned(), "RUN first".to_owned()], ..Config::default() },
        ..Image::default()
    };
    let resolved = last("FROM a\nRUN second", &base, &[]).unwrap();
    assert_eq!(history(&resolved), ["ENV X=1", "RUN /bin/sh -c first # buildkit", "RUN /bin/sh -c second # buildkit"]);
    assert!(resolved.image.config.on_build.is_empty());
    let own = last("FROM scratch AS one\nONBUILD RUN x\nFROM one\nRUN y", &Image::default(), &[]).unwrap();
    assert_eq!(history(&own), ["RUN /bin/sh -c x # buildkit", "RUN /bin/sh -c y # buildkit"]);
    let bad = Image { config: Config { on_build: vec!["RNU".to_owned()], ..Config::default() }, ..Image::default() };
    assert_eq!(last("\nFROM a", &bad, &[]).unwrap_err().lines.first, 2);
}

#[test]
fn here_documents_become_scripts_or_what_the_shell_reads() {
    let resolved =
        scratch("RUN <<EOF\necho a\nEOF\nRUN <<-S\n\t#!/usr/bin/env python3\n\tprint(1)\nS\nRUN cat <<A >x\n$y\nA");
    let all = processes(&resolved);
    assert_eq!(all[0].arguments, ["/bin/sh", "-c", "echo a\n"]);
    assert_eq!(all[1].arguments, ["/bin/sh", "-c", "/dev/pipes/S"]);
    assert_eq!(all[1].script, Some(("/dev/pipes/S".to_owned(), "#!/usr/bin/env python3\nprint(1)\n".to_owned())));
    assert_eq!(all[2].arguments[2], "cat <<A >x\n$y\nA");
    assert_eq!(resolved.actions[0].title, "RUN <<EOF (echo a)");
}

#[test]
fn copies_are_expanded_and_made_absolute() {
    let resolved = scratch("ENV U=me\nWORKDIR /w\nCOPY --chown=$U <<F sub\n$U \"q\"\nF\n");
    let Kind::Copy { copy, add } = &resolved.actions[1].kind else { panic!() };
    assert_eq!((copy.destination.as_str(), copy.owner.as_deref(), *add), ("/w/sub", Some("me"), false));
    assert_eq!(copy.inline[0].text, "me \"q\"\n");
    let destination = |text: &str| {
        let resolved = scratch(&format!("WORKDIR /w\n{text}"));
        let Kind::Copy { copy, .. } = &resolved.actions[1].kind else { panic!() };
        copy.destination.clone()
    };
    for (text, expected) in [
        ("COPY a b", "/w/b"),
        ("COPY a b/", "/w/b/"),
        ("COPY a .", "/w/"),
        ("COPY a ./", "/w/"),
        ("COPY a /", "/"),
        ("COPY a ../x", "/x"),
        ("COPY a b c/", "/w/c/"),
    ] {
        assert_eq!(destination(text), expected, "{text}");
    }
    let error = last("FROM scratch\nCOPY a b c", &Image::default(), &[]).unwrap_err();
    assert!(error.message.contains("must be a directory and end with a /"), "{error}");
}

#[test]
fn ports_and_signals_that_are_none_are_refused() {
    for (text, message) in [
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("EXPOSE 80/icmp", "invalid port: \"80/icmp\": invalid proto: icmp"),
        ("EXPOSE /tcp", "invalid port: \"/tcp\": no port specified"),
        ("EXPOSE 90-80", "invalid containerPort: 90-80"),
        ("EXPOSE 1.2.3:1:1", "invalid IP address: 1.2.3"),
        ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
        ("STOPSIGNAL 0", "invalid signal: 0"),
        ("USER ${", "failed to process \"${\": syntax error: missing '}'"),
    ] {
        let error = last(&format!("FROM scratch\n{text}"), &Image::default(), &[]).expect_err(text);
        assert_eq!((error.message.as_str(), error.lines.first), (message, 2), "{text}");
    }
    for text in [
        "STOPSIGNAL 9",
        "STOPSIGNAL sigusr1",
        "STOPSIGNAL SIGRTMIN+3",
        "EXPOSE 127.0.0.1:8080:80",
        "EXPOSE [::1]:80:80",
    ] {
        scratch(text);
    }
}
