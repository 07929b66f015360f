//! The reference's table of modifiers, and what shells do at the edges.

use super::*;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "A" => "abc",
        "EMPTY" => "",
        "PATH" => "/usr/bin:/bin",
        "SPACED" => "one two",
        "FILE" => "dir/sub/name.tar.gz",
        "PATTERN" => "*b",
        "ÄNAME" => "umlaut",
        _ => return None,
    };
    Some(value.to_owned())
}

fn plain(text: &str) -> Result<String, String> {
    word(text, '\\', Mode::Plain, &lookup).map_err(|error| error.reason)
}

#[test]
fn variables_are_replaced_as_the_reference_says() {
    for (text, expected) in [
        ("$A", "abc"),
        ("${A}x", "abcx"),
        ("x$A-y", "xabc-y"),
        ("$NONE", ""),
        ("${NONE}", ""),
        ("\\$A", "$A"),
        ("'$A'", "$A"),
        ("\"$A\"", "abc"),
        ("\"a\\\"b\"", "a\"b"),
        ("\"a\\nb\"", "a\\nb"),
        ("a\\nb", "anb"),
        ("$", "$"),
        ("a$", "a$"),
        ("$-", ""),
        ("$1x", "x"),
        ("$ÄNAME", "umlaut"),
        ("${NONE:-word}", "word"),
        ("${EMPTY:-word}", "word"),
        ("${EMPTY-word}", ""),
        ("${A:-word}", "abc"),
        ("${A:+word}", "word"),
        ("${EMPTY:+word}", ""),
        ("${EMPTY+word}", "word"),
        ("${NONE+word}", ""),
        ("${NONE:-$A}", "abc"),
        ("${NONE:-${NONE2:-deep}}", "deep"),
        ("${A:?needed}", "abc"),
        ("${PATH#*/}", "usr/bin:/bin"),
        ("${PATH##*/}", "bin"),
        ("${PATH%/*}", "/usr/bin:"),
        ("${PATH%%/*}", ""),
        ("${FILE%.gz}", "dir/sub/name.tar"),
        ("${FILE##*/}", "name.tar.gz"),
        ("${FILE/sub/other}", "dir/other/name.tar.gz"),
        ("${FILE//\\//-}", "dir-sub-name.tar.gz"),
        ("${A#$PATTERN}", "c"),
        ("${A/b}", "ERROR"),
        ("a b", "a b"),
        ("\"a\"'b'c", "abc"),
    ] {
        match plain(text) {
            Ok(value) => assert_eq!(value, expected, "{text}"),
            Err(reason) => assert_eq!(expected, "ERROR", "{text}: {reason}"),
        }
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    for (text, reason) in [
        ("${A", "syntax error: missing '}'"),
        ("${", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:x}", "syntax error: bad substitution"),
        ("${A:x}", "unsupported modifier (:x) in substitution"),
        ("${A:#x}", "unsupported modifier (:#) in substitution"),
        ("${A!}", "unsupported modifier (!) in substitution"),
        ("${NONE?}", "NONE: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NONE:?say it}", "NONE: say it"),
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ("\"a", "unexpected end of statement while looking for matching double-quote"),
        ("${A#\\x}", "invalid pattern (\\x) in substitution: invalid escape '\\x'"),
    ] {
        assert_eq!(plain(text).unwrap_err(), reason, "{text}");
    }
}

#[test]
fn words_are_split_after_variables_are_replaced_and_not_within_quotes() {
    for (text, expected) in [
        ("a  b", vec!["a", "b"]),
        ("$SPACED", vec!["one", "two"]),
        ("\"$SPACED\"", vec!["one two"]),
        ("x$SPACED", vec!["xone", "two"]),
        ("a\\ b", vec!["a b"]),
        ("80${NONE:-80}", vec!["8080"]),
        ("", vec![]),
        ("<<  EOF x", vec!["<<  EOF", "x"]),
    ] {
        assert_eq!(words(text, '\\', Mode::Plain, &lookup).unwrap(), expected, "{text}");
    }
}

#[test]
fn the_escape_character_may_be_a_backtick() {
    assert_eq!(word("c:\\dir\\$A `$A", '`', Mode::Plain, &lookup).unwrap(), "c:\\dir\\abc $A");
}

#[test]
fn the_text_of_a_here_document_keeps_its_quotes() {
    assert_eq!(word("say \"$A\" 'it' \\$A", '\\', Mode::Text, &lookup).unwrap(), "say \"abc\" 'it' $A");
}

#[test]
fn hostile_nesting_and_growth_end_with_an_error() {
    let deep = format!("{}x{}", "${N:-".repeat(100), "}".repeat(100));
    assert!(plain(&deep).unwrap_err().contains("deep"));
    let grows = |name: &str| (name == "B").then(|| "x".repeat(LONGEST));
    assert!(word("$B$B$B", '\\', Mode::Plain, &grows).unwrap_err().reason.contains("longer than"));
}
