//! Scripts and what they give.

use std::{sync::Mutex, time::Duration};

use super::*;
use crate::host::Step;

#[derive(Default)]
struct Recorder {
    said: Mutex<Vec<String>>,
}

impl Host for Recorder {
    fn has_step(&self, name: &str) -> bool {
        matches!(name, "echo" | "sh" | "dir" | "parallel" | "fail")
    }

    fn step(&self, strand: &mut Strand, step: Step) -> Outcome {
        match step.name.as_str() {
            "echo" => {
                self.said.lock().unwrap().push(step.bare().iter().map(show::text).collect());
                Ok(Value::Null)
            }
            "sh" => Ok(step.names().and_then(|names| names.named("script")).unwrap_or_else(|| step.bare()[0].clone())),
            "dir" => strand.call_value(step.body().unwrap(), Vec::new()),
            "fail" => Err(throw("AbortException", "it failed")),
            _ => {
                let branches: Vec<(Context, Work<'_>)> = step
                    .names()
                    .unwrap()
                    .entries()
                    .into_iter()
                    .map(|(_, closure)| {
                        let work: Work<'_> =
                            Box::new(move |strand: &mut Strand| strand.call_value(&closure, Vec::new()));
                        (Arc::new(()) as Context, work)
                    })
                    .collect();
                let results = strand.branches(branches)?;
                Ok(Value::from(results.into_iter().collect::<Outcome<Vec<_>>>()?))
            }
        }
    }

    fn variable(&self, _strand: &mut Strand, name: &str) -> Outcome<Option<Value>> {
        Ok(Some(Value::from("of the host")).filter(|_| name == "outside"))
    }

    fn print(&self, _strand: &mut Strand, text: &str) -> Outcome<()> {
        self.said.lock().unwrap().push(text.to_string());
        Ok(())
    }
}

fn run_within(text: &str, limits: Limits) -> Result<Value, Failure> {
    let program = Program::read("Jenkinsfile", text).unwrap_or_else(|error| panic!("{error}"));
    Interpreter::new(program, Arc::new(Recorder::default()), limits).run(Arc::new(()))
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let result = match run_within(text, Limits::default()) {
            Ok(value) => show::inspect(&value),
            Err(failure) => failure.message,
        };
        assert_eq!(result, *expected, "{text}");
    }
}

#[test]
fn numbers_are_computed_as_groovy_does() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("7 / 2", "3.5"),
        ("1 / 3", "0.3333333333"),
        ("6 / 2", "3"),
        ("7.intdiv(2)", "3"),
        ("7 % 3", "1"),
        ("2 ** 10", "1024"),
        ("2147483647 + 1", "-2147483648"),
        ("2147483647L + 1", "2147483648"),
        ("1.10 + 2", "3.10"),
        ("0.1 + 0.2 == 0.3", "true"),
        ("'5'.toInteger() + 1", "6"),
        ("'x'.toInteger()", "java.lang.NumberFormatException: For input string: \"x\""),
        ("1 / 0", "java.lang.ArithmeticException: Division by zero"),
        ("1.5d * 2", "3.0"),
        ("10 <=> 9", "1"),
        ("(3.7 as int) + Math.max(1, 2)", "5"),
        ("def i = 1; i++ + ++i", "4"),
        ("5 & 3 | 8", "9"),
    ]);
}

#[test]
fn strings_do_what_people_ask_of_them() {
    check(&[
        ("def a = [b: 'c']; \"x ${a.b} $a.b ${-> 1}\"", "'x c c 1'"),
        ("'a' * 3 + 'b'", "'aaab'"),
        ("'a,b,,c,,'.split(',')", "['a', 'b', '', 'c']"),
        ("'a,b,,c'.tokenize(',')", "['a', 'b', 'c']"),
        ("' a b '.trim().toUpperCase().replace('A', 'x')", "'x B'"),
        ("'1.2.3'.split('\\\\.').collect { it.toInteger() }.sum()", "6"),
        ("'feature/x-1'.replaceAll('[^a-z0-9]+', '-')", "'feature-x-1'"),
        ("'ab12'.replaceAll(/([a-z]+)(\\d+)/, '$2$1')", "'12ab'"),
        ("'abc'[0] + 'abc'[-1] + 'abc'[1..2]", "'acbc'"),
        ("('v1.2' =~ /v(\\d+)\\.(\\d+)/)[0]", "['v1.2', '1', '2']"),
        ("def m = 'a1b2' =~ /\\d/; m.find() ? m.group() : null", "'1'"),
        ("'abc' ==~ /a.*/ ? 'yes' : 'no'", "'yes'"),
        ("'abc'.padLeft(5, '*').contains('*a')", "true"),
        ("String.format('%03d %s %.2f', 7, 'x', 1.5)", "'007 x 1.50'"),
        ("'''\n  a\n    b\n'''.stripIndent().trim()", "'a\\n  b'"),
        ("'a\\nb'.readLines().size()", "2"),
        ("'abc'.with { length() }", "3"),
        ("null + 'a'", "'nulla'"),
        ("'hello'.capitalize()", "'Hello'"),
        ("'(?i)A' as String", "'(?i)A'"),
        ("'foobar'.replaceAll(/(?<=foo)bar/, 'x')", "'foox'"),
    ]);
}

#[test]
fn collections_do_what_people_ask_of_them() {
    check(&[
        ("[3, 1, 2].sort()", "[1, 2, 3]"),
        ("[3, 1, 2].sort { a, b -> b <=> a }", "[3, 2, 1]"),
        ("['bb', 'a'].sort { it.size() }", "['a', 'bb']"),
        ("[1, 2, 3, 4].findAll { it % 2 == 0 }.collect { it * it }", "[4, 16]"),
        ("[1, 2, 3].inject(0) { a, b -> a + b }", "6"),
        ("[1, 2, 3].any { it > 2 } && [1, 2].every { it > 0 }", "true"),
        ("['a', 'b'].join('-')", "'a-b'"),
        ("[1, [2, [3]]].flatten().unique().reverse()", "[3, 2, 1]"),
        ("['a', 'bb', 'cc'].groupBy { it.size() }", "[1:['a'], 2:['bb', 'cc']]"),
        ("[a: 1, b: 2].collect { k, v -> \"$k=$v\" }", "['a=1', 'b=2']"),
        ("[a: 1, b: 2].findAll { it.value > 1 }", "['b':2]"),
        ("[a: 1].collectEntries { k, v -> [(k + 'x'): v + 1] }", "['ax':2]"),
        ("def m = [:]; m.a = 1; m['b'] = 2; m.put('c', 3); m.keySet().join()", "'abc'"),
        ("def l = []; l << 1; l += 2; l.add(3); l - 2", "[1, 3]"),
        ("def l = [1, 2]; l[5] = 3; l.size()", "6"),
        ("(1..3).collect { it }", "[1, 2, 3]"),
        ("('a'..'c').join()", "'abc'"),
        ("[[name: 'a'], [name: 'b']].name", "['a', 'b']"),
        ("[[name: 'a'], null]*.name", "['a', null]"),
        ("[1, 2, 3][0..1] + [1, 2, 3][-1]", "[1, 2, 3]"),
        ("def (a, b) = [1, 2]; [b, a]", "[2, 1]"),
        ("[1, 2, 1] as Set", "[1, 2]"),
        ("[a: [b: null]]?.a?.b?.c", "null"),
        ("[1, 2, 3].eachWithIndex { x, i -> assert x == i + 1 }", "[1, 2, 3]"),
        ("[a: 1].each { k, v -> assert k == 'a' }.size()", "1"),
        ("new groovy.json.JsonSlurperClassic().parseText('{\"a\": [1, 2.5, null]}').a[1]", "2.5"),
        ("groovy.json.JsonOutput.toJson([a: [1, 'x\"']])", "'{\"a\":[1,\"x\\\\\"\"]}'"),
        ("[3, 5].max() + [1, 2].sum { it * 2 }", "11"),
        ("def l = []; l << l; l.toString()", "'[(this Collection)]'"),
    ]);
}

#[test]
fn control_goes_where_it_should() {
    check(&[
        ("def s = 0; for (int i = 0; i < 5; i++) { if (i == 1) continue; if (i == 4) break; s += i }; s", "5"),
        ("def s = ''; for (x in [a: 1, b: 2]) { s += x.key }; s", "'ab'"),
        ("def i = 0; while (true) { if (++i > 3) break }; i", "4"),
        (
            "def f(x) { switch (x) { case 1: return 'one'; case [2, 3]: return 'few'; case ~/a.*/: return 'a'; case String: return 's'; default: return 'many' } }\n[1, 3, 'abc', 'x', 9].collect { f(it) }",
            "['one', 'few', 'a', 's', 'many']",
        ),
        ("try { fail() } catch (hudson.AbortException e) { e.message } finally { echo 'x' }", "'it failed'"),
        (
            "try { throw new RuntimeException('a') } catch (IllegalStateException | RuntimeException e) { e.getMessage() }",
            "'a'",
        ),
        ("try { null.foo() } catch (e) { e.class.simpleName }", "'NullPointerException'"),
        ("def f() { try { return 1 } finally { echo 'f' } }; f()", "1"),
        (
            "outer: for (a in 1..3) { for (b in 1..3) { if (b == 2) continue outer; if (a == 2) break outer } }; 'end'",
            "'end'",
        ),
        ("assert 1 == 2 : 'no'", "java.lang.AssertionError: no. Expression: 1 == 2"),
        ("def x = 5; if (x > 3) 'big' else 'small'", "'big'"),
        ("throw new Exception('gone')", "java.lang.Exception: gone"),
        ("do { x = (binding = 1) } while (false); x", "1"),
    ]);
}

#[test]
fn closures_see_what_is_around_them() {
    check(&[
        ("def n = 0; [1, 2].each { n += it }; n", "3"),
        ("def add = { a, b = 10 -> a + b }; add(1) + add(1, 2)", "14"),
        ("def f = { it * 2 } >> { it + 1 }; f(5)", "11"),
        ("def c = { a, b -> a - b }.curry(10); c(3)", "7"),
        ("def fact(n) { n < 2 ? 1 : n * fact(n - 1) }\nfact(10)", "3628800"),
        ("x = 1; def f() { x + 1 }; f()", "2"),
        (
            "def y = 1; def f() { y }; f()",
            "groovy.lang.MissingPropertyException: No such property: y for class: groovy.lang.Binding",
        ),
        (
            "def config = [:]; def body = { name = 'a'; port = 1 }; body.resolveStrategy = Closure.DELEGATE_FIRST; body.delegate = config; body(); name",
            "'a'",
        ),
        ("def f(Map m, String s) { m.k + s }; f('b', k: 'a')", "'ab'"),
        ("def f(String... xs) { xs.size() }; f('a', 'b')", "2"),
        ("['a'].collect(this.&up)\ndef up(s) { s.toUpperCase() }", "['A']"),
        ("outside", "'of the host'"),
        ("dir('x') { 1 }", "1"),
        ("sh(script: 'ls', returnStdout: true).trim()", "'ls'"),
        ("nothing 'x'", "NoSuchMethodError: No such DSL method 'nothing' found among steps"),
        ("parallel a: { 1 }, b: { sh 'x' }", "[1, 'x']"),
        (
            "def list = []; parallel a: { 100.times { list << it } }, b: { 100.times { list << it } }; list.size()",
            "200",
        ),
    ]);
}

#[test]
fn classes_of_scripts_work() {
    check(&[
        (
            "class A implements Serializable { String n; int c = 1; def up() { c++; this } }\nnew A(n: 'x').up().up().c",
            "3",
        ),
        ("class A { def n; A(n) { this.n = n }\n String toString() { \"A:$n\" } }\n\"${new A(1)}\"", "'A:1'"),
        ("class A { static N = 3; static f(x) { x + N } }\nA.f(1) + A.N", "7"),
        ("class A { def f() { 'a' } }\nclass B extends A { def g() { f() + 'b' } }\nnew B().g()", "'ab'"),
        ("enum E { ONE, TWO }\n[E.TWO.toString(), E.valueOf('ONE').ordinal(), E.values().size()]", "['TWO', 0, 2]"),
        (
            "class Bad extends Exception { Bad(m) { super(m) } }\ntry { throw new Bad('x') } catch (Bad e) { e.message }",
            "'x'",
        ),
        ("new Missing()", "groovy.lang.GroovyRuntimeException: unable to resolve class Missing"),
    ]);
}

#[test]
fn failures_say_where() {
    let failure = run_within("def a = 1\necho 'x'\n   a.missing()", Limits::default()).unwrap_err();
    let error = failure.error.unwrap();
    assert_eq!((error.position.line, error.line.as_str()), (3, "   a.missing()"));
    assert!(failure.message.contains("java.lang.Integer.missing()"), "{}", failure.message);
}

#[test]
fn endless_scripts_come_to_an_end() {
    let limits = Limits { steps: 200_000, memory: 8 << 20, time: Duration::from_secs(20), ..Limits::default() };
    let ends = |text: &str, words: &str| {
        let failure = run_within(text, limits).unwrap_err();
        assert!(failure.message.contains(words), "{text}: {}", failure.message);
    };
    ends("while (true) {}", "steps");
    ends("for (;;) { try { while (true) {} } catch (Throwable t) {} finally { echo 'x' } }", "steps");
    ends("def f() { f() }; f()", "nest");
    ends("def a = 'x' * 1000000; def l = []; while (true) { l << a + l.size() }", "bytes");
    ends("'x' * 2000000000", "bytes");
    ends("(1..2000000000).toList()", "elements");
    ends("def l = [1]; while (true) { l.addAll(l) }", "limit");
    ends("'x'.padLeft(2000000000)", "bytes");
    ends("def c; c = { c() }; c()", "nest");
    ends("def l = (1..20).toList(); [l, l, l, l, l, l].combinations()", "elements");
    // A pattern that goes back without end either finds its answer or is ended.
    match run_within("('a' * 60) ==~ /(?:(a|aa)+)+\\1b/", limits) {
        Ok(value) => assert!(!crate::operator::truth(&value)),
        Err(failure) => assert!(failure.message.contains("come to an end"), "{}", failure.message),
    }
}

#[test]
fn deep_values_are_dropped_and_compared_without_end() {
    check(&[
        ("def l = []; 50000.times { l = [l] }; l.size()", "1"),
        ("def m = [:]; 50000.times { m = [a: m] }; m == m", "true"),
        ("def a = [], b = []; a << a; b << b; a == b", "false"),
        ("def c = { 1 }; 20000.times { def d = c; c = { d } }; 'x'", "'x'"),
    ]);
}
