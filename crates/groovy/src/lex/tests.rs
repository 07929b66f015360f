//! Tokens of texts.

use super::*;

fn kinds(text: &str) -> Vec<Kind> {
    lex(&Source::new("test", text)).unwrap().into_iter().map(|token| token.kind).collect()
}

fn error(text: &str) -> (usize, usize, String) {
    let error = lex(&Source::new("test", text)).unwrap_err();
    (error.position.line, error.position.column, error.message)
}

#[test]
fn numbers_have_the_type_that_their_size_and_suffix_say() {
    assert_eq!(
        kinds("1 2L 0x1F 017 1_000")[..5],
        [1, 2, 31, 15, 1000].map(|n| if n == 2 { Kind::Long(2) } else { Kind::Int(n) })
    );
    assert_eq!(kinds("2147483648")[0], Kind::Long(2_147_483_648));
    assert_eq!(kinds("9223372036854775808")[0], Kind::Big("9223372036854775808".into()));
    assert_eq!(
        kinds("1.50 2e3 1.5d")[..3],
        [Kind::Decimal("1.50".into()), Kind::Decimal("2e3".into()), Kind::Double(1.5)]
    );
    // A point without a digit is a member's.
    assert_eq!(kinds("1.times")[..2], [Kind::Int(1), Kind::Sign(".")]);
    assert_eq!(kinds("1..3")[..3], [Kind::Int(1), Kind::Sign(".."), Kind::Int(3)]);
    assert_eq!(error("12ab").2, "invalid number: 12");
}

#[test]
fn strings_of_all_kinds_are_read() {
    assert_eq!(kinds(r"'a\n\'$b\u0041'")[0], Kind::Text("a\n'$bA".into()));
    assert_eq!(kinds("'''a\nb'''")[0], Kind::Text("a\nb".into()));
    assert_eq!(kinds("x = /a\\/b\\d$/")[2], Kind::Text("a/b\\d$".into()));
    assert_eq!(kinds("x = $/a/b$$c/$")[2], Kind::Text("a/b$c".into()));
    assert_eq!(kinds("a / b / c").len(), 6);
}

#[test]
fn code_in_strings_is_tokens_within_the_token() {
    let Kind::Template(pieces) = &kinds(r#""a ${x + "${y}"} $b.c.d.""#)[0] else { panic!("no code") };
    assert_eq!(pieces[0], Piece::Text("a ".into()));
    let Piece::Code(tokens) = &pieces[1] else { panic!("no code") };
    assert!(matches!(tokens[2].kind, Kind::Template(_)));
    let Piece::Path(path) = &pieces[3] else { panic!("no path") };
    assert_eq!(path.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["b", "c", "d"]);
    assert_eq!(pieces[4], Piece::Text(".".into()));
}

#[test]
fn line_ends_count_outside_of_parentheses_and_brackets() {
    let lines = |text: &str| -> Vec<bool> {
        lex(&Source::new("test", text)).unwrap().into_iter().map(|token| token.line).collect()
    };
    assert_eq!(lines("a\nb"), [false, true, false]);
    assert_eq!(lines("(a\nb)"), [false, false, false, false, false]);
    assert!(lines("({a\nb})")[3]);
    assert_eq!(lines("a /* \n */ b // c\nd"), [false, true, true, false]);
}

#[test]
fn errors_say_where() {
    assert_eq!(error("a\n  'b"), (2, 3, "unclosed string".into()));
    assert_eq!(error("'a\n'").0, 1);
    assert_eq!(error("\"${a\"").2, "unclosed string");
    assert_eq!(error("(]"), (1, 2, "unexpected token: ]".into()));
    assert_eq!(error("/* a").2, "unclosed comment");
    assert!(error(&"(".repeat(1000)).2.contains("nest at most"));
    assert!(error(&"\"${".repeat(1000)).2.contains("nest at most"));
}
