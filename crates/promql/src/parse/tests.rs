//! Tests of the parser: what is read, how it is printed, what is refused and in which words.

use super::*;
use crate::{print::pretty, tree};

fn read(query: &str) -> Expr {
    parse(query, Features::ALL).unwrap_or_else(|error| panic!("{query}: {error}"))
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    for (query, printed) in [
        ("1 + 2/(3*1)", "1 + 2 / (3 * 1)"),
        ("-1^2", "-1 ^ 2"),
        ("-foo offset 5m", "-foo offset 5m"),
        ("SUM without(a, b) (x)", "sum without (a, b) (x)"),
        ("sum(x) by ()", "sum(x)"),
        ("topk(5, x) by (\"a b\")", "topk by (\"a b\") (5, x)"),
        ("a and on(b) c or d unless e", "a and on (b) c or d unless e"),
        ("a * on(x) group_left(y) b", "a * on (x) group_left (y) b"),
        ("a + fill_left(1) fill_right(-2) b", "a + fill_left (1) fill_right (-2) b"),
        ("a == bool ignoring(q) b", "a == bool ignoring (q) b"),
        ("rate(x{b=\"1\",a!~'y.*'}[5m] offset -1h @ 1.5)", "rate(x{a!~\"y.*\",b=\"1\"}[5m] @ 1.500 offset -1h)"),
        ("x[1h30m:] @ start()", "x[1h30m:] @ start()"),
        ("{\"my metric\", a=\"b\"}", "{__name__=\"my metric\",a=\"b\"}"),
        ("x offset (1m) * 2", "x offset (1m) * 2"),
        ("x[5m + step() * 2]", "x[5m + step() * 2]"),
        ("x[max_of(1m, range())] anchored", "x[max_of(1m, range())] anchored"),
        ("x smoothed @ end()", "x @ end() smoothed"),
        ("start + end + sum + offset", "start + end + sum + offset"),
        ("a </ 5 >/ 2", "a </ 5 >/ 2"),
        ("0x1F + 1e3 + Inf + NaN + 5m", "31 + 1000 + +Inf + NaN + 5m"),
        ("foo # comment\n + bar", "foo + bar"),
        ("\"a\\tb\\x41\\u00e9\" ", "\"a\\tbAé\""),
        ("2 ^ 3 ^ 2 * -x", "2 ^ 3 ^ 2 * -x"),
    ] {
        let expr = read(query);
        assert_eq!(expr.to_string(), printed);
        assert_eq!(read(printed).to_string(), printed);
        assert_eq!(tree::json(&read(printed))["type"], tree::json(&expr)["type"]);
    }
}

#[test]
fn operators_bind_as_they_should() {
    let Expr::Binary(sum) = read("x offset -2 ^ 2 + 1") else { panic!("no sum") };
    assert_eq!((sum.op, sum.left.to_string()), (Op::Add, "x offset -2s ^ 2".to_owned()));
    let Expr::Unary(minus) = read("-x ^ 2") else { panic!("no sign") };
    assert_eq!(minus.expr.to_string(), "x ^ 2");
    let Expr::Binary(power) = read("2 ^ 3 ^ 4") else { panic!("no power") };
    assert_eq!(power.right.to_string(), "3 ^ 4");
    let Expr::Binary(or) = read("a or b and c") else { panic!("no or") };
    assert_eq!((or.op, or.right.to_string()), (Op::Or, "b and c".to_owned()));
}

#[test]
fn errors_say_what_and_where() {
    for (query, error) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("# just a comment\n\n", "1:1: parse error: no expression found in input"),
        ("1+", "1:3: parse error: unexpected end of input"),
        (".", "1:1: parse error: unexpected character: '.'"),
        ("2.5.", "1:1: parse error: bad number or duration syntax: \"2.5.\""),
        ("0deadbeef", "1:1: parse error: bad number or duration syntax: \"0de\""),
        ("*1", "1:1: parse error: unexpected <op:*>"),
        ("(1))", "1:5: parse error: unexpected right parenthesis ')'"),
        ("((1)", "1:5: parse error: unclosed left parenthesis"),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("1 + bool 1", "1:3: parse error: bool modifier can only be used on comparison operators"),
        ("1 or 1", "1:1: parse error: set operator \"or\" not allowed in binary scalar expression"),
        ("a and\n1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("foo + group_left(baz) bar", "1:7: parse error: unexpected <group_left>"),
        ("sum some_metric by (test)", "1:5: parse error: unexpected identifier \"some_metric\""),
        (
            "sum (some_metric) by test",
            "1:22: parse error: unexpected identifier \"test\" in grouping opts, expected \"(\"",
        ),
        ("sum(x) by (a b)", "1:14: parse error: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\""),
        ("sum(1 2)", "1:7: parse error: unexpected number \"2\" in aggregation"),
        ("sum without (test) (some_metric) by (test)", "1:34: parse error: unexpected <by>"),
        (
            "topk(some_metric, other_metric)",
            "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
        ),
        ("topk(x)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("some_metric{a=b}", "1:15: parse error: unexpected identifier \"b\" in label matching, expected string"),
        (
            "foo{__name__=\"bar\" lol}",
            "1:20: parse error: unexpected identifier \"lol\" in label matching, expected \",\" or \"}\"",
        ),
        ("foo{", "1:5: parse error: unexpected end of input inside braces"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\""),
        (
            "foo offset",
            "1:11: parse error: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
        ("foo @", "1:6: parse error: unexpected end of input in @, expected timestamp"),
        ("foo @ Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
        ("foo offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times"),
        ("foo[5m", "1:7: parse error: unclosed left bracket"),
        (
            "foo[]",
            "1:5: parse error: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
        ),
        ("foo[0m]", "1:5: parse error: duration must be greater than 0"),
        ("foo[5m30s1ms2]", "1:5: parse error: bad number or duration syntax: \"5m30s1ms2\""),
        ("sum(x)[5m]", "1:7: parse error: ranges only allowed for vector selectors"),
        ("foo[5m1h]", "1:5: parse error: not a valid duration string: \"5m1h\""),
        ("foo offset 5m[5m]", "1:14: parse error: no offset modifiers allowed before range"),
        ("x[5m][5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"),
        ("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector"),
        ("floor()", "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 0"),
        ("hour(a, b)", "1:1: parse error: expected at most 1 argument(s) in call to \"hour\", got 2"),
        ("nope(a)", "1:1: parse error: unknown function with name \"nope\""),
        ("rate(x[5m],)", "1:11: parse error: trailing commas not allowed in function call args"),
        ("a + on(x) group_left(x) b", "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once"),
        ("foo{a=~\"*\"}", "1:5: parse error: error parsing regexp: missing argument to repetition operator: `*`"),
        ("foo{a=\"\\c\"}", "1:7: parse error: unknown escape sequence U+0063 'c'"),
        ("\"abc", "1:1: parse error: unterminated quoted string"),
        ("a\n  + ^", "2:5: parse error: unexpected <op:^>"),
        (
            "-\"x\"",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
    ] {
        match parse(query, Features::ALL) {
            Ok(expr) => panic!("{query} is {expr}"),
            Err(found) => assert_eq!(found.to_string(), error, "{query}"),
        }
    }
}

#[test]
fn experiments_have_to_be_switched_on() {
    for (query, error) in [
        (
            "limitk(1, x)",
            "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("info(x)", "1:1: parse error: function \"info\" is not enabled"),
        ("x anchored", "1:1: parse error: anchored modifier is experimental and not enabled"),
        ("a + fill(1) b", "1:1: parse error: binop fill modifiers are experimental and not enabled"),
    ] {
        assert_eq!(parse(query, Features::default()).unwrap_err().to_string(), error);
    }
}

#[test]
fn long_expressions_are_split_into_lines() {
    let long = "a_metric_with_a_name_that_is_quite_long_already{label=\"value\"}";
    let query = format!("sum by (a) (rate({long}[5m])) / ignoring (b) ({long} + {long})");
    let lines = pretty(&read(&query));
    assert_eq!(
        lines,
        format!("  sum by (a) (rate({long}[5m]))\n/ ignoring (b)\n  (\n      {long}\n    +\n      {long}\n  )")
    );
    assert_eq!(read(&lines).to_string(), read(&query).to_string());
}

#[test]
fn depth_is_bounded() {
    for query in [
        "(".repeat(100_000),
        "-".repeat(100_000),
        "1".to_owned() + &"+1".repeat(100_000),
        "x[".to_owned() + &"(".repeat(9999),
        "m".to_owned() + &"[1m:]".repeat(100_000),
        "x[1m".to_owned() + &"+1m".repeat(100_000) + "]",
        "(".repeat(100) + "m" + &("+m".repeat(100) + ")").repeat(100),
    ] {
        assert!(parse(&query, Features::ALL).is_err());
    }
}
