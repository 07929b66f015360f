//! What the reference says of each construct, and how mistakes are told.

use super::*;

fn steps(text: &str) -> Vec<Instruction> {
    let file = parse(&format!("FROM scratch\n{text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
    file.stages.into_iter().flat_map(|stage| stage.steps).map(|step| step.instruction).collect()
}

fn step(text: &str) -> Instruction {
    let mut steps = steps(text);
    assert_eq!(steps.len(), 1, "{text}: {steps:?}");
    steps.remove(0)
}

fn shell(line: &str) -> CommandLine {
    CommandLine::Shell { line: line.to_owned(), heredocs: Vec::new() }
}

fn array(words: &[&str]) -> CommandLine {
    CommandLine::Array(words.iter().map(|word| (*word).to_owned()).collect())
}

#[test]
fn here_documents_are_told_from_shifts_and_from_quoted_text() {
    for (line, names) in [
        ("RUN cat <<EOF", &["EOF"][..]),
        ("RUN cat <<  EOF  > foo", &["EOF"]),
        ("RUN cat << 'E F'>x", &["E F>x"]),
        ("RUN cat <<-EOF 5<<\"B\" c", &["EOF", "B"]),
        ("RUN <<<EOF", &[]),
        ("RUN cat <<< EOF", &[]),
        ("RUN <<-", &[]),
        ("RUN echo \"a << b\" 'c <<d'", &[]),
        ("RUN echo \\<<EOF", &[]),
        ("RUN echo a<<EOF", &[]),
        ("RUN echo it's <<EOF", &[]),
        ("RUN echo $((1 << 4))", &[]),
        ("RUN echo $((1 <<4)) $(( 1<<2 ))", &[]),
        ("RUN echo $((1<<4)) <<EOF", &["EOF"]),
        ("RUN x=$(( (1 + 2) << 4 )) && cat <<EOF", &["EOF"]),
        ("RUN (( n = 1 << 4 )); cat <<EOF", &["EOF"]),
        ("RUN echo $((1 << $((2 << 1)) << 3)) <<EOF", &["EOF"]),
        ("RUN echo '((' <<EOF", &["EOF"]),
        ("RUN ((cat <<A; cat <<B", &["A;", "B"]),
        ("RUN ( ( cat <<EOF ) )", &["EOF"]),
        ("COPY <<a <<b /d/", &["a", "b"]),
    ] {
        let found = heredoc::in_line(line).unwrap();
        assert_eq!(found.iter().map(|document| document.name.as_str()).collect::<Vec<_>>(), names, "{line}");
    }
    assert_eq!(steps("RUN echo $((1 << 4))\nRUN true").len(), 2);
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (text, line, message) in [
        ("", 1, "file with no instructions"),
        ("# only a comment", 1, "file with no instructions"),
        ("ARG A=1", 1, "dockerfile contains no stages to build"),
        ("RUN true", 1, "no build stage in current context"),
        ("FROM a b", 1, "FROM requires either one or three arguments"),
        ("FROM a AS 1x", 1, "invalid name for build stage: \"1x\", name can't start with a number or contain symbols"),
        ("FROM --platfrom=x a", 1, "unknown flag: --platfrom (did you mean platform?)"),
        ("FROM a\nRNU x", 2, "unknown instruction: RNU (did you mean RUN?)"),
        (
            "FROM a\n\n\nCOPY x",
            4,
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM a\nCOPY --chown a b", 2, "missing a value on flag: --chown"),
        ("FROM a\nCOPY --link=maybe a b", 2, "expecting boolean value for flag --link, not: maybe"),
        ("FROM a\nCOPY --from=a --from=b c d", 2, "duplicate flag specified: --from"),
        ("FROM a\nADD --from=a c d", 2, "unknown flag: --from"),
        ("FROM a\nCOPY a <<EOF\nEOF", 2, "COPY cannot accept a heredoc as a destination"),
        ("FROM a\nENV", 2, "ENV requires at least one argument"),
        ("FROM a\nENV x", 2, "ENV must have two arguments"),
        ("FROM a\nENV a=1 b", 2, "Syntax error - can't find = in \"b\". Must be of the form: name=value"),
        ("FROM a\nENV =1", 2, "ENV names can not be blank"),
        ("FROM a\nARG", 2, "ARG requires at least one argument"),
        ("FROM a\nARG =1", 2, "ARG names can not be blank"),
        ("FROM a\nEXPOSE", 2, "EXPOSE requires at least one argument"),
        ("FROM a\nUSER", 2, "USER requires exactly one argument"),
        ("FROM a\nWORKDIR", 2, "WORKDIR requires exactly one argument"),
        ("FROM a\nVOLUME [\" \"]", 2, "VOLUME specified can not be an empty string"),
        ("FROM a\nSHELL []", 2, "SHELL requires at least one argument"),
        ("FROM a\nSHELL bash -c", 2, "SHELL requires the arguments to be in JSON form: SHELL bash -c"),
        ("FROM a\nRUN [\"a\", 1]", 2, "when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nRUN --network=x true", 2, "invalid network mode \"x\""),
        ("FROM a\nRUN --security=x true", 2, "security \"x\" is not valid"),
        (
            "FROM a\nRUN --mount=from=$x true",
            2,
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("FROM a\nRUN <<EOF\ntrue", 2, "unterminated heredoc"),
        ("FROM a\nHEALTHCHECK", 2, "HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK NONE x", 2, "HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", 2, "Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK TCP x", 2, "Unknown type \"TCP\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x", 2, "Interval \"interval\" cannot be less than 1ms"),
        (
            "FROM a\nHEALTHCHECK --interval=5 CMD x",
            2,
            "--interval: invalid duration \"5\"; write for instance 30s or 1m30s",
        ),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", 2, "--retries cannot be negative (-1)"),
        ("FROM a\nONBUILD ONBUILD RUN x", 2, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD FROM x", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("# escape=x\nFROM a", 1, "invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a", 2, "only one escape parser directive can be used"),
    ] {
        let error = parse(text).map(|file| format!("{file:?}")).expect_err(text);
        assert_eq!((error.lines.first, error.message.as_str()), (line, message), "{text}");
    }
}

#[test]
fn an_error_shows_the_lines_it_is_about() {
    let text = "FROM a\nRUN one\nRNU two\nRUN three\nRUN four\nRUN five\n";
    let shown = parse(text).unwrap_err().show("Dockerfile", text);
    let expected = "Dockerfile:3\n--------------------\n   1 |     FROM a\n   2 |     RUN one\n   3 | >>> RNU two\n   4 |     RUN three\n   5 |     \
                    RUN four\n--------------------\nerror: dockerfile parse error on line 3: unknown instruction: RNU (did you mean RUN?)";
    assert_eq!(shown, expected);
}

#[test]
fn lines_are_joined_and_comments_taken_out() {
    for (text, expected) in [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a \\ \t\n b", "a  b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\\n# comment\n  # more\nb", "a b"),
        ("RUN a \\\n\n b", "a  b"),
        ("RUN a # no comment", "a # no comment"),
        ("   RUN   a", "a"),
        ("run a", "a"),
        ("RUN echo \\\\", "echo \\\\"),
        ("RUN a \\", "a"),
        ("RUN a\r\n", "a"),
    ] {
        let Instruction::Run(run) = step(text) else { panic!("{text}") };
        assert_eq!(run.command, shell(expected), "{text:?}");
    }
    let file = parse("FROM a\nRUN a \\\n\n b").unwrap();
    assert_eq!(file.warnings[0].message, "Empty continuation line found in: RUN a  b");
}

#[test]
fn directives_stand_at_the_head_alone() {
    let file =
        parse("\u{feff}# syntax=docker/dockerfile:1 x\n#Escape = `\n# check=skip=all\nFROM a\nRUN b `\n c\\").unwrap();
    assert_eq!(file.directives.escape, '`');
    assert_eq!(file.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(file.directives.check.as_deref(), Some("skip=all"));
    let Instruction::Run(run) = &file.stages[0].steps[0].instruction else { panic!() };
    assert_eq!(run.command, shell("b  c\\"));
    for text in [
        "# a comment\n# escape=`\nFROM a",
        "\n# escape=`\nFROM a",
        "FROM a\n# escape=`",
        "# unknown=1\n# escape=`\nFROM a",
    ] {
        assert_eq!(parse(text).unwrap().directives.escape, '\\', "{text:?}");
    }
}

#[test]
fn stages_have_names_and_platforms() {
    let file = parse("ARG V=1\nFROM --platform=$BUILDPLATFORM go:$V AS Build\nRUN x\nFROM build\n").unwrap();
    assert_eq!(file.arguments[0].name, "V");
    let stages: Vec<_> =
        file.stages.iter().map(|s| (s.base.as_str(), s.name.as_deref(), s.platform.as_deref())).collect();
    assert_eq!(stages, [("go:$V", Some("build"), Some("$BUILDPLATFORM")), ("build", None, None)]);
}

#[test]
fn command_lines_are_arrays_or_lines_for_the_shell() {
    assert_eq!(step("CMD [\"a\", \"b c\"]"), Instruction::Cmd(array(&["a", "b c"])));
    assert_eq!(step("CMD [ \"a\" ]"), Instruction::Cmd(array(&["a"])));
    assert_eq!(step("CMD ['a']"), Instruction::Cmd(shell("['a']")));
    assert_eq!(step("CMD [ -e x ] && y"), Instruction::Cmd(shell("[ -e x ] && y")));
    assert_eq!(step("CMD a  b"), Instruction::Cmd(shell("a  b")));
    assert_eq!(step("ENTRYPOINT []"), Instruction::Entrypoint(None));
    assert_eq!(step("ENTRYPOINT [\"a\"]"), Instruction::Entrypoint(Some(array(&["a"]))));
}

#[test]
fn pairs_keep_their_quotes_until_they_are_expanded() {
    let pair = |name: &str, value: &str| Pair { name: name.to_owned(), value: value.to_owned() };
    for (text, expected) in [
        ("ENV a=1 b=2", vec![pair("a", "1"), pair("b", "2")]),
        ("ENV a=\"x y\" b='z z'", vec![pair("a", "\"x y\""), pair("b", "'z z'")]),
        ("ENV a=x\\ y", vec![pair("a", "x\\ y")]),
        ("ENV a x  y = z", vec![pair("a", "x  y = z")]),
        ("ENV a=b=c", vec![pair("a", "b=c")]),
        ("ENV a=", vec![pair("a", "")]),
    ] {
        assert_eq!(step(text), Instruction::Env(expected), "{text}");
    }
}

#[test]
fn copies_have_flags_sources_and_a_destination() {
    let Instruction::Copy(copy) = step(
        "COPY --from=build --chown=1:2 --chmod=0755 --link --parents --exclude=*.md --exclude=\"b c\" a b/ /dest/",
    ) else {
        panic!()
    };
    let expected = Copy {
        sources: vec!["a".to_owned(), "b/".to_owned()],
        destination: "/dest/".to_owned(),
        from: Some("build".to_owned()),
        owner: Some("1:2".to_owned()),
        mode: Some("0755".to_owned()),
        link: true,
        parents: true,
        exclude: vec!["*.md".to_owned(), "b c".to_owned()],
        ..Copy::default()
    };
    assert_eq!(copy, expected);
    let Instruction::Add(add) = step("ADD --checksum=sha256:1 --unpack=false --keep-git-dir=true [\"a b\", \"/c d\"]")
    else {
        panic!()
    };
    assert_eq!((add.sources, add.destination.as_str()), (vec!["a b".to_owned()], "/c d"));
    assert_eq!((add.checksum.as_deref(), add.unpack, add.keep_git_dir), (Some("sha256:1"), Some(false), Some(true)));
    let Instruction::Copy(copy) = step("COPY -- --a b") else { panic!() };
    assert_eq!(copy.sources, ["--a"]);
}

#[test]
fn here_documents_follow_their_line() {
    let Instruction::Run(run) = step("RUN <<EOF\necho $a\n  # kept\nEOF") else { panic!() };
    let CommandLine::Shell { line, heredocs } = run.command else { panic!() };
    assert_eq!(
        (line.as_str(), heredocs[0].content.as_str(), heredocs[0].expand),
        ("<<EOF", "echo $a\n  # kept\n", true)
    );

    let Instruction::Run(run) = step("RUN 3<<-'E F' cat <<two\n\t\tone\n\tE F\n2\ntwo") else { panic!() };
    let CommandLine::Shell { heredocs, .. } = run.command else { panic!() };
    assert_eq!(
        (heredocs[0].name.as_str(), heredocs[0].descriptor, heredocs[0].chomp, heredocs[0].expand),
        ("E F", 3, true, false)
    );
    assert_eq!((heredocs[0].text().as_str(), heredocs[1].content.as_str()), ("one\n", "2\n"));

    let Instruction::Copy(copy) = step("COPY <<a <<\"b\" c /d/\n$x\na\n$y\nb") else { panic!() };
    assert_eq!(copy.sources, ["c"]);
    let inline: Vec<_> = copy.inline.iter().map(|file| (file.name.as_str(), file.text.as_str(), file.expand)).collect();
    assert_eq!(inline, [("a", "$x\n", true), ("b", "$y\n", false)]);

    // Not in JSON form, not for other instructions, not where quotes do not end.
    assert_eq!(steps("CMD cat <<EOF\nRUN true").len(), 2);
    assert_eq!(
        step("RUN [\"cat\", \"<<EOF\"]"),
        Instruction::Run(Run { command: array(&["cat", "<<EOF"]), ..plain_run() })
    );
    let Instruction::Onbuild(trigger) = step("ONBUILD RUN <<EOF\nx\nEOF") else { panic!() };
    assert_eq!(trigger, "RUN <<EOF\nx\nEOF");
    assert_eq!(parse_trigger(&trigger).unwrap().instruction.name(), "RUN");
}

fn plain_run() -> Run {
    Run {
        command: shell(""),
        mounts: Vec::new(),
        network: Network::Default,
        security: Security::Sandbox,
        devices: Vec::new(),
    }
}

#[test]
fn mounts_are_read_with_their_kinds_own_rules() {
    let read = |text: &str| Mount::parse(text, &|value| Ok(value.replace("$id", "42")));
    let cache = read("type=cache,target=/c,id=$id,sharing=locked,mode=0755,uid=1,gid=2").unwrap();
    assert_eq!((cache.kind, cache.id.as_deref(), cache.sharing), (MountType::Cache, Some("42"), Some(Sharing::Locked)));
    assert_eq!((cache.mode, cache.uid, cache.gid, cache.read_only), (Some(0o755), Some(1), Some(2), false));
    let bind = read("target=/src,from=build,source=/x").unwrap();
    assert_eq!((bind.kind, bind.read_only, bind.from.as_deref()), (MountType::Bind, true, Some("build")));
    assert!(!read("target=/src,rw").unwrap().read_only);
    assert_eq!(read("type=tmpfs,target=/t,size=1.5g").unwrap().size, Some(1_610_612_736));
    assert!(read("type=secret,id=x,required").unwrap().required);
    assert_eq!(read("type=secret,\"id=a,b\",env=X").unwrap().id.as_deref(), Some("a,b"));
    for (text, message) in [
        ("type=binds,target=/x", "unsupported mount type \"binds\" (did you mean bind?)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("targte=/x", "unexpected key 'targte' in 'targte=/x' (did you mean target?)"),
        ("type=bind,mode=1", "mode not allowed for \"bind\" type mounts"),
        ("type=bind,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=bind,sharing=locked", "invalid cache sharing set for bind mount"),
        ("type=cache,required", "unexpected key 'required' for mount type 'cache'"),
        ("type=cache,sharing=x", "unsupported sharing value \"x\""),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("target=/x,ro=maybe", "invalid value for ro: maybe"),
        ("target=/x,\"y", "failed to parse csv mounts: target=/x,\"y: a quote does not end"),
    ] {
        assert_eq!(read(text).unwrap_err(), message, "{text}");
    }
}

#[test]
fn health_checks_have_times_as_go_writes_them() {
    let Instruction::Healthcheck(Health::Check(probe)) =
        step("HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=100ms --retries=3 CMD [\"a\"]")
    else {
        panic!()
    };
    let times = [probe.interval, probe.timeout, probe.start_period, probe.start_interval].map(|time| time.as_millis());
    assert_eq!((times, probe.retries, probe.command), ([90_000, 1_500, 100, 0], 3, array(&["a"])));
    assert_eq!(step("HEALTHCHECK none"), Instruction::Healthcheck(Health::None));
}

#[test]
fn hostile_files_end_with_an_error() {
    assert!(parse(&"A".repeat(LARGEST + 1)).unwrap_err().message.contains("bytes"));
    assert!(parse(&format!("FROM a\nRUN {}", "x".repeat(70_000))).unwrap_err().message.contains("greater than max"));
    assert!(parse(&format!("FROM a\n{}", "RUN x\n".repeat(MOST))).unwrap_err().message.contains("instructions"));
    assert!(parse(&format!("FROM a\nRUN [{}", "[".repeat(30_000))).is_ok(), "not an array: a line for the shell");
}

/// Seeded noise made of what the language is made of: nothing panics.
#[test]
fn no_text_makes_the_parser_panic() {
    const PARTS: [&str; 34] = [
        "FROM ",
        "a",
        " AS ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "--mount=",
        "--from=",
        "<<",
        "EOF",
        "\n",
        "\\",
        "`",
        "\"",
        "'",
        "${",
        "}",
        ":-",
        "=",
        "[",
        "]",
        ",",
        "# escape=`\n",
        "#",
        " ",
        "\t",
        "é",
        "HEALTHCHECK ",
        "CMD ",
        "ONBUILD ",
        "\r\n",
        "-",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        let mut text = String::from("FROM a\n");
        for _ in 0..24 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            text.push_str(PARTS[usize::try_from(seed % PARTS.len() as u64).unwrap()]);
        }
        if let Err(error) = parse(&text) {
            error.show("Dockerfile", &text);
        }
    }
}
