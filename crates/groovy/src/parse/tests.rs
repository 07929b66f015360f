//! Trees of texts, written as Lisp.

use super::*;
use crate::tree::*;

fn show(value: &Expression) -> String {
    match &value.kind {
        ExpressionKind::Null => "null".into(),
        ExpressionKind::Bool(value) => value.to_string(),
        ExpressionKind::Int(value) => value.to_string(),
        ExpressionKind::Long(value) => format!("{value}L"),
        ExpressionKind::Decimal(value) => value.to_string(),
        ExpressionKind::Double(value) => format!("{value}d"),
        ExpressionKind::Text(text) => format!("'{text}'"),
        ExpressionKind::Template(parts) => {
            let part = |part: &TemplatePart| match part {
                TemplatePart::Text(text) => format!("'{text}'"),
                TemplatePart::Value(value) => show(value),
            };
            format!("(\" {})", parts.iter().map(part).collect::<Vec<_>>().join(" "))
        }
        ExpressionKind::List(entries) => format!("[{}]", arguments(entries)),
        ExpressionKind::Map(entries) => {
            format!("[{}]", if entries.is_empty() { ":".into() } else { arguments(entries) })
        }
        ExpressionKind::Range { from, to, .. } => format!("(.. {} {})", show(from), show(to)),
        ExpressionKind::Name(name) => name.clone(),
        ExpressionKind::This => "this".into(),
        ExpressionKind::Property { object, name, access } => {
            let sign = ["", "?", "*"][*access as usize];
            format!("({sign}. {} {})", show(object), show(name))
        }
        ExpressionKind::Index { object, keys } => format!("(at {} {})", show(object), arguments(keys)),
        ExpressionKind::Call(call) => {
            let callee = match &call.callee {
                Callee::Name(name, _) => name.clone(),
                Callee::Method { object, name, access } => {
                    format!("{}{}.{}", show(object), ["", "?", "*"][*access as usize], name.text().unwrap_or("()"))
                }
                Callee::Value(value) => show(value),
            };
            format!("({callee}! {})", arguments(&call.arguments)).replace(" )", ")")
        }
        ExpressionKind::Closure(function) => {
            let names =
                function.parameters.iter().flatten().map(|parameter| parameter.name.as_str()).collect::<Vec<_>>();
            let arrow = if function.parameters.is_some() { format!("{} -> ", names.join(" ")) } else { String::new() };
            format!("{{{arrow}{}}}", block(&function.body))
        }
        ExpressionKind::New { kind, arguments: given, .. } => format!("(new {} {})", kind.name, arguments(given)),
        ExpressionKind::Unary(sign, value) => format!("({sign} {})", show(value)),
        ExpressionKind::Increment { target, by, after } => format!("(inc {by} {after} {})", show(target)),
        ExpressionKind::Binary(sign, left, right) => format!("({sign} {} {})", show(left), show(right)),
        ExpressionKind::Assign { target, operation, value } => {
            format!("({}= {} {})", operation.unwrap_or(""), show(target), show(value))
        }
        ExpressionKind::Choose(a, b, c) => format!("(? {} {} {})", show(a), show(b), show(c)),
        ExpressionKind::Elvis(a, b) => format!("(?: {} {})", show(a), show(b)),
        ExpressionKind::Convert(value, kind) => format!("(as {} {})", show(value), kind.name),
        ExpressionKind::Is(value, kind) => format!("(is {} {})", show(value), kind.name),
        ExpressionKind::Method(value, name) => format!("(& {} {name})", show(value)),
    }
}

fn arguments(arguments: &[Argument]) -> String {
    let argument = |argument: &Argument| match argument {
        Argument::Value(value) => show(value),
        Argument::Named(key, value) => format!("{}:{}", show(key).trim_matches('\''), show(value)),
        Argument::Spread(value) => format!("*{}", show(value)),
        Argument::SpreadMap(value) => format!("*:{}", show(value)),
    };
    arguments.iter().map(argument).collect::<Vec<_>>().join(" ")
}

fn block(block: &[Statement]) -> String {
    let statement = |statement: &Statement| match &statement.kind {
        StatementKind::Expression(value) => show(value),
        StatementKind::Declare { names, kind, .. } => {
            let name = |(name, value): &(String, Option<Expression>)| match value {
                Some(value) => format!("{name}={}", show(value)),
                None => name.clone(),
            };
            let kind = kind.as_ref().map_or("def", |kind| &kind.name);
            format!("<{kind} {}>", names.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        StatementKind::DeclareMany { names, value } => format!("<def ({}) {}>", names.join(" "), show(value)),
        StatementKind::If { condition, then, otherwise } => {
            format!("<if {} {} | {}>", show(condition), self::block(then), self::block(otherwise))
        }
        StatementKind::Each { name, over, body } => format!("<for {name} {} {}>", show(over), self::block(body)),
        StatementKind::Return(Some(value)) => format!("<return {}>", show(value)),
        other => format!("<{}>", format!("{other:?}").split(['(', ' ']).next().unwrap_or_default()),
    };
    block.iter().map(statement).collect::<Vec<_>>().join("; ")
}

fn check(text: &str, expected: &str) {
    let script = parse(&Source::new("test", text)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(block(&script.body), expected, "{text}");
}

fn error(text: &str) -> (usize, usize, String) {
    let error = parse(&Source::new("test", text)).unwrap_err();
    (error.position.line, error.position.column, error.message)
}

#[test]
fn operators_bind_as_in_groovy() {
    check("a + b * c - d", "(- (+ a (* b c)) d)");
    check("a ?: b ? c : d", "(?: a (? b c d))");
    check("!a && b || c", "(|| (&& (! a) b) c)");
    check("a = b = c", "(= a (= b c))");
    check("x = a == b ? 1 : 2", "(= x (? (== a b) 1 2))");
    check("-2 ** 2", "(- (** 2 2))");
    check("a =~ /b/ && c ==~ /d/", "(&& (=~ a 'b') (==~ c 'd'))");
    check("a <=> b", "(<=> a b)");
    check("1..n - 1", "(.. 1 (- n 1))");
    check("a in [1] && b !in c", "(&& (in a [1]) (! (in b c)))");
    check("a instanceof String", "(is a String)");
    check("(int) a + 1", "(+ (as a int) 1)");
    check("a as int", "(as a int)");
    check("a << b << c", "(<< (<< a b) c)");
}

#[test]
fn calls_need_no_parentheses() {
    check("echo 'a'", "(echo! 'a')");
    check("sh script: 'a', returnStdout: true", "(sh! script:'a' returnStdout:true)");
    check("def x = sh returnStdout: true, script: 'a'", "<def x=(sh! returnStdout:true script:'a')>");
    check("node { echo 'a' }", "(node! {(echo! 'a')})");
    check("timeout(time: 1, unit: 'H') { a() }", "(timeout! time:1 unit:'H' {(a!)})");
    check("stage 'a', { b }", "(stage! 'a' {b})");
    check("agent any", "(agent! any)");
    check(
        "checkout [$class: 'GitSCM', branches: [[name: '*/main']]]",
        "(checkout! [$class:'GitSCM' branches:[[name:'*/main']]])",
    );
    check("a.b 'c'", "(a.b! 'c')");
    check("echo a ? 'b' : 'c'", "(echo! (? a 'b' 'c'))");
    check("if (a) echo 'b' else echo 'c'", "<if a (echo! 'b') | (echo! 'c')>");
    check("input message: 'a',\n  ok: 'b'", "(input! message:'a' ok:'b')");
    check("a - 1", "(- a 1)");
    check("return a.b('c') ?: d", "<return (?: (a.b! 'c') d)>");
    check("withEnv(['A=b']) {\n  sh 'c'\n}\necho 'd'", "(withEnv! ['A=b'] {(sh! 'c')}); (echo! 'd')");
}

#[test]
fn members_and_closures_follow_each_other() {
    check("a?.b*.c[0]", "(at (*. (?. a 'b') 'c') 0)");
    check("a\n  .b()\n  .c { it }", "((a.b!).c! {it})");
    check("a.collect { x, y = 2 -> x }.join(',')", "((a.collect! {x y -> x}).join! ',')");
    check("[a: 1, 'b': 2, (c): 3, *: d]", "[a:1 b:2 c:3 *:d]");
    check("foo(*args, k: v)", "(foo! *args k:v)");
    check("this.&foo", "(& this foo)");
    check("new a.b.C(1)", "(new a.b.C 1)");
    check("def f = { -> 1 }", "<def f={ -> 1}>");
    check("\"a ${b.c} $d.e\"", "(\" 'a ' (. b 'c') ' ' (. d 'e'))");
    check("x.\"${y}\"(1)", "(x.()! 1)");
}

#[test]
fn declarations_are_told_from_calls() {
    check("String a = 'b'", "<String a='b'>");
    check("Map<String, List<String>> a = [:]", "<Map a=[:]>");
    check("int a, b = 1", "<int a b=1>");
    check("final a = 1", "<def a=1>");
    check("def (a, b) = [1, 2]", "<def (a b) [1 2]>");
    check("String[] a = b", "<String a=b>");
    check("for (x in y) { z }", "<for x y z>");
    check("for (String x : y) z", "<for x y z>");
    let script =
        parse(&Source::new("test", "def a(b, c = 1) { b }\nString d() { 'e' }\nvoid f(String g) {}\n@Field def h = 1"))
            .unwrap();
    let names: Vec<_> = script.functions.iter().map(|function| function.name.clone().unwrap()).collect();
    assert_eq!(names, ["a", "d", "f"]);
    assert!(matches!(script.body[0].kind, StatementKind::Declare { field: true, .. }));
}

#[test]
fn the_head_of_a_script_is_told_apart() {
    let text = "#!groovy\n@Library('a@b') _\nimport a.b.C\nimport static a.B.*\nclass D extends E { int f = 1\n D(x) { f = x }\n def g() { f } }\nnode {}";
    let script = parse(&Source::new("test", text)).unwrap();
    assert_eq!(script.annotations[0].name, "Library");
    assert_eq!(script.imports.iter().map(|import| import.path.as_str()).collect::<Vec<_>>(), ["a.b.C", "a.B.*"]);
    let class = &script.classes[0];
    assert_eq!((class.fields.len(), class.constructors.len(), class.methods.len()), (1, 1, 1));
}

#[test]
fn errors_say_where_and_what() {
    assert_eq!(error("echo 'a'\nfoo(1 2)"), (2, 7, "expecting ')', found '2'".into()));
    assert_eq!(error("a {\n b"), (2, 3, "unexpected token: the end of the file".into()));
    assert_eq!(error("try { a }").2, "expecting 'catch' or 'finally' after 'try'");
    assert_eq!(error("[1, a: 2]").2, "expecting 'key: value' in a map");
    assert_eq!(error("1 = a").2, "cannot assign to this: expecting a variable, a property or an element");
    assert_eq!(error("a b: c 1"), (1, 8, "unexpected token: 1".into()));
    let shown = parse(&Source::new("Jenkinsfile", "pipeline {\n    sh ${FOO}\n}")).unwrap_err().to_string();
    assert!(shown.starts_with("Jenkinsfile: 2: ") && shown.contains("   sh ${FOO}\n"), "{shown}");
}

#[test]
fn nothing_nests_without_end() {
    for text in ["[", "a(", "{", "!", "-", "if (a) ", "a ? ", "(", "x = "] {
        let long = text.repeat(50_000);
        let result =
            std::thread::Builder::new().stack_size(16 << 20).spawn(move || parse(&Source::new("test", long)).is_err());
        assert!(result.unwrap().join().unwrap(), "{text}");
    }
    assert!(error(&"a.".repeat(5000)).2.contains("at most"));
    assert!(error(&format!("1{}", " + 1".repeat(5000))).2.contains("at most"));
}
