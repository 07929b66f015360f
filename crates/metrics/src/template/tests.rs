//! Templates and what they expand to, and templates that are wrong.

use promql::value::{Value as SampleValue, VectorSample};
use tsdb::labels::Labels;

use super::{
    Mode, Templates,
    calendar::Moment,
    notification::{self, Notification},
    prometheus::{self, Context},
    value::{ListKind, MapKind, Value},
};

fn vector() -> Vec<VectorSample> {
    [("b", 21.0), ("a", 11.0)]
        .map(|(instance, value)| VectorSample {
            labels: Labels::from_pairs([("__name__", "metric"), ("instance", instance)]),
            value: SampleValue::Float(value),
        })
        .into()
}

/// Expands a text as rules do, but without their variables, so that places are plain.
fn expand(text: &str, dot: &Value, mode: Mode) -> Result<String, String> {
    let query = |query: &str| if query == "missing" { Ok(Vec::new()) } else { Ok(vector()) };
    let context = Context {
        time: 1_353_755_652_000,
        query: &query,
        external_url: "http://testhost:9090/path/prefix",
        html: mode == Mode::Html,
    };
    let mut templates = Templates::new(mode);
    templates.add("test", text, &context).map_err(|error| error.to_string())?;
    templates.run("test", dot, &context).map_err(|error| error.to_string())
}

fn floats(values: &[f64]) -> Value {
    Value::list(ListKind::Any, values.iter().map(|value| Value::Float(*value)).collect())
}

#[test]
fn the_language_is_go_s() {
    for (text, expected) in [
        ("plain text", "plain text"),
        (
            "{{ 1 }}{{ 1.5 }}{{ 1e6 }}{{ 0x10 }}{{ 'a' }}{{ \"q\\n\\x41\\u00e9\" }}{{ `raw\\n` }}",
            "11.51e+061697q\nA\u{e9}raw\\n",
        ),
        ("a {{- 1 -}} b", "a1b"),
        ("a {{- /* gone */ -}} b{{/* too */}} c", "ab c"),
        ("{{ if true }}yes{{ else }}no{{ end }}", "yes"),
        ("{{ if 0 }}a{{ else if \"\" }}b{{ else if 1 }}c{{ else }}d{{ end }}", "c"),
        ("{{ with 5 }}{{ . }}{{ end }}{{ with 0 }}x{{ else with 3 }}{{ . }}{{ else }}z{{ end }}", "53"),
        ("{{ with $x := 3 }}{{ $x }}{{ end }}", "3"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 9 }}{{ end }}{{ $x }}", "2"),
        (
            "{{ range 4 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        ("{{ range $i, $e := args 7 8 }}{{ $i }}={{ $e }};{{ end }}", "arg0=7;arg1=8;"),
        ("{{ range 0 }}x{{ else }}none{{ end }}", "none"),
        ("{{ define \"a\" }}<{{ . }}>{{ end }}{{ template \"a\" 3 }}{{ template \"a\" }}", "<3><<no value>>"),
        ("{{ block \"b\" 4 }}[{{ . }}]{{ end }}", "[4]"),
        ("{{ and 1 0 (index 1 2) }}{{ or 0 \"x\" (index 1 2) }}{{ not 1 }}", "0xfalse"),
        ("{{ 3 | printf \"%d-%s\" 1 | len }}", "12"),
        (
            "{{ eq 1 2 1 }}{{ ne \"a\" \"b\" }}{{ lt 1 2 }}{{ le 2 2 }}{{ gt 1.5 2.5 }}{{ ge \"b\" \"a\" }}",
            "truetruetruetruefalsetrue",
        ),
        ("{{ len \"abc\" }}{{ index \"abc\" 1 }}{{ slice \"abcdef\" 1 3 }}", "398bc"),
        (
            "{{ html \"<a href='x'>\" }}{{ js \"it's <b>\" }}{{ urlquery \"a b&c\" }}",
            "&lt;a href=&#39;x&#39;&gt;it\\'s \\u003Cb\\u003Ea+b%26c",
        ),
        ("{{ print 1 2 \"a\" 3 4 }}{{ println 1 \"a\" }}", "1 2a3 41 a\n"),
        ("{{ (query \"metric\" | first).Labels.instance }}", "b"),
        ("{{ with query \"metric\" }}{{ . | first | value }}{{ end }}", "21"),
        ("{{ $x := query \"metric\" | first }}{{ $x.Labels.foo }}|{{ $x | label \"instance\" }}", "|b"),
        (
            "{{ range query \"metric\" | sortByLabel \"instance\" }}{{.Labels.instance}}:{{.Value}}: {{end}}",
            "a:11: b:21: ",
        ),
        ("{{ .Foo }}", "<no value>"),
        ("{{ .Foo.Bar }}", "<no value>"),
    ] {
        assert_eq!(expand(text, &Value::Nil, Mode::Text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn mistakes_are_told_with_go_s_words_and_places() {
    for (text, expected) in [
        ("{{", "template: test:1: unclosed action"),
        ("a\n{{ foo }}", "template: test:2: function \"foo\" not defined"),
        ("{{ if 1 }}", "template: test:1: unexpected EOF"),
        ("{{ end }}", "template: test:1: unexpected {{end}}"),
        ("{{ $x }}", "template: test:1: undefined variable \"$x\""),
        ("{{ 1 | 2 }}", "template: test:1: non executable command in pipeline stage 2"),
        ("{{ }}", "template: test:1: missing value for command"),
        ("{{ break }}", "template: test:1: {{break}} outside {{range}}"),
        ("{{ (1 }}", "template: test:1: unclosed left paren"),
        ("{{ 1) }}", "template: test:1: unexpected right paren"),
        ("{{ \"a }}", "template: test:1: unterminated quoted string"),
        ("{{ 1a }}", "template: test:1: bad number syntax: \"1a\""),
        ("{{/* a", "template: test:1: unclosed comment"),
        ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", "template: test:1: expected end; found {{else}}"),
        ("{{ range $a, $b, $c := . }}{{ end }}", "template: test:1: too many declarations in range"),
        (
            "{{ define \"a\" }}1{{ end }}{{ define \"a\" }}2{{ end }}",
            "template: test:1: template: multiple definition of template \"a\"",
        ),
        (
            "{{ query \"missing\" | first }}",
            "template: test:1:21: executing \"test\" at <first>: error calling first: first() called on vector with no elements",
        ),
        (
            "{{ (query \"missing\").banana }}",
            "template: test:1:10: executing \"test\" at <\"missing\">: can't evaluate field banana in type template.queryResult",
        ),
        (
            "{{ humanize \"one\" }}",
            "template: test:1:3: executing \"test\" at <humanize \"one\">: error calling humanize: strconv.ParseFloat: parsing \"one\": invalid syntax",
        ),
        (
            "{{ \"one\" | humanizePercentage }}",
            "template: test:1:11: executing \"test\" at <humanizePercentage>: error calling humanizePercentage: strconv.ParseFloat: parsing \"one\": invalid syntax",
        ),
        (
            "a\n b {{ eq 1 1.0 }}",
            "template: test:2:6: executing \"test\" at <eq 1 1.0>: error calling eq: incompatible types for comparison: int and float64",
        ),
        (
            "{{ template \"x\" }}",
            "template: test:1:12: executing \"test\" at <{{template \"x\"}}>: template \"x\" not defined",
        ),
        ("{{ toUpper 5 }}", "template: test:1:11: executing \"test\" at <5>: expected string; found 5"),
        (
            "{{ 5 | toUpper }}",
            "template: test:1:7: executing \"test\" at <toUpper>: wrong type for value; expected string; got int",
        ),
        (
            "{{ toUpper }}",
            "template: test:1:3: executing \"test\" at <toUpper>: wrong number of args for toUpper: want 1 got 0",
        ),
        (
            "{{ index (args) 1 }}",
            "template: test:1:3: executing \"test\" at <index (args) 1>: error calling index: value has type int; should be string",
        ),
    ] {
        assert_eq!(expand(text, &Value::Nil, Mode::Text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn no_template_runs_or_grows_without_end() {
    let forever = "{{ define \"a\" }}{{ template \"a\" . }}{{ end }}{{ template \"a\" . }}";
    assert!(expand(forever, &Value::Nil, Mode::Text).unwrap_err().contains("maximum template depth"));
    let long = "{{ range 1000000000 }}{{ range 1000000000 }}{{ end }}{{ end }}";
    assert!(expand(long, &Value::Nil, Mode::Text).unwrap_err().contains("too many steps"));
    let large = "{{ range 100000 }}{{ printf \"%9999d\" 1 }}{{ end }}";
    assert!(expand(large, &Value::Nil, Mode::Text).unwrap_err().contains("too long"));
    let deep = format!("{}1{}", "{{ if 1 }}".repeat(1000), "{{ end }}".repeat(1000));
    assert!(expand(&deep, &Value::Nil, Mode::Text).unwrap_err().contains("depth exceeded"));
    let parens = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(expand(&parens, &Value::Nil, Mode::Text).unwrap_err().contains("depth exceeded"));
}

#[test]
fn formats_are_go_s() {
    for (text, expected) in [
        ("%d|%5d|%-5d|%05d|%+d|%x|%X|%o|%b|%c|%U", "7|    7|7    |00007|+7|7|7|7|111|\u{7}|U+0007"),
        ("%v", "7"),
        ("%s", "%!s(int=7)"),
        ("%d %d", "7 %!d(MISSING)"),
        ("%", "%!(NOVERB)%!(EXTRA int=7)"),
        ("%%", "%%!(EXTRA int=7)"),
        ("%[1]d %[1]x", "7 7"),
    ] {
        let count = text.matches('|').count() + 1;
        let args = " 7".repeat(count);
        let template = format!("{{{{ printf {text:?}{args} }}}}");
        assert_eq!(expand(&template, &Value::Nil, Mode::Text).as_deref(), Ok(expected), "{text}");
    }
    for (format, value, expected) in [
        ("%.2f", "3.14159", "3.14"),
        ("%8.3f|", "3.14159", "   3.142|"),
        ("%e", "123456.0", "1.234560e+05"),
        ("%g", "1e21", "1e+21"),
        ("%.3g", "1234567.0", "1.23e+06"),
        ("%.4g", "0.00001234", "1.234e-05"),
        ("%d", "1.5", "%!d(float64=1.5)"),
        ("%f", "1", "%!f(int=1)"),
        ("%q", "\"a\\\"b\"", "\"a\\\"b\""),
        ("%6s|%-6s|%.2s", "\"abc\" \"abc\" \"abc\"", "   abc|abc   |ab"),
        ("%x", "\"hi\"", "6869"),
        ("%t", "true", "true"),
        ("%T %T", "1 \"a\"", "int string"),
        ("%*d", "5 1", "    1"),
        ("%08.3f", "-3.14159", "-003.142"),
    ] {
        let template = format!("{{{{ printf {format:?} {value} }}}}");
        assert_eq!(expand(&template, &Value::Nil, Mode::Text).as_deref(), Ok(expected), "{format} {value}");
    }
}

#[test]
fn numbers_are_made_readable_as_prometheus_does() {
    let infinite = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    for (function, values, expected) in [
        ("humanize", &[0.0, 1.0, 1_234_567.0, 0.12, -1.0, i64::MAX as f64][..], "0:1:1.235M:120m:-1:9.223E:"),
        ("humanize1024", &[0.0, 1.0, 1_048_576.0, 0.12, 1_234_567.0], "0:1:1Mi:0.12:1.177Mi:"),
        (
            "humanizeDuration",
            &[0.0, 1.0, 60.0, 3600.0, 86_400.0, 90_000.0, -(172_800.0 + 10_800.0 + 245.0), 899.99],
            "0s:1s:1m 0s:1h 0m 0s:1d 0h 0m 0s:1d 1h 0m 0s:-2d 3h 4m 5s:14m 59s:",
        ),
        (
            "humanizeDuration",
            &[0.1, 0.0001, 0.12345, 60.1, 60.5, 1.2345, 12.345],
            "100ms:100us:123.5ms:1m 0s:1m 0s:1.234s:12.35s:",
        ),
        ("humanizePercentage", &[-0.22222, 0.0, 0.1234567, 1.23456], "-22.22%:0%:12.35%:123.5%:"),
        (
            "humanizeTimestamp",
            &[0.0, -1.0, 1_435_065_584.128],
            "1970-01-01 00:00:00 +0000 UTC:1969-12-31 23:59:59 +0000 UTC:2015-06-23 13:19:44.128 +0000 UTC:",
        ),
        ("humanize", &infinite, "+Inf:-Inf:NaN:"),
        ("humanizeTimestamp", &infinite, "+Inf:-Inf:NaN:"),
    ] {
        let text = format!("{{{{ range . }}}}{{{{ {function} . }}}}:{{{{ end }}}}");
        assert_eq!(expand(&text, &floats(values), Mode::Text).as_deref(), Ok(expected), "{function}");
    }
}

#[test]
fn functions_of_rules_are_prometheus() {
    for (text, expected) in [
        ("{{ reReplaceAll \"(a)b\" \"x$1\" \"ab\" }}", "xa"),
        ("{{ \"aa bb CC\" | title }}", "Aa Bb CC"),
        ("{{ match \"a+\" \"aa\" }} {{ match \"a+\" \"b\" }}", "true false"),
        ("{{ graphLink \"up == 1\" }}", "/graph?g0.expr=up+%3D%3D+1&g0.tab=0"),
        ("{{ tableLink \"up\" }}", "/graph?g0.expr=up&g0.tab=1"),
        ("{{ pathPrefix }} {{ externalURL }}", "/path/prefix http://testhost:9090/path/prefix"),
        ("{{ printf \"%0.2f\" (parseDuration \"-1h2m10ms\") }}", "-3720.01"),
        ("{{ \"foo.example.com:12345\" | stripDomain }}", "foo:12345"),
        ("{{ \"[2001:0DB8::1]:12345\" | stripPort }}", "2001:0DB8::1"),
        ("{{ \"[2001:0DB8::1]::12345\" | stripPort }}", "[2001:0DB8::1]::12345"),
        ("{{ \"[2001:0DB8::1]:12345\" | stripDomain }}", "[2001:0DB8::1]:12345"),
        ("{{ \"192.0.2.1:1\" | stripDomain }}", "192.0.2.1:1"),
        ("{{ now }}", "1.353755652e+09"),
        ("{{ (now | toTime).Format \"Mon Jan 2 15:04:05 2006\" }}", "Sat Nov 24 11:14:12 2012"),
        ("{{ (1800 | toDuration).String }}", "30m0s"),
        ("{{ (\"-30m\" | parseDuration | toDuration | (now | toTime).Add).UnixMilli }}", "1353753852000"),
        ("{{ urlQueryEscape \"a b\" }}", "a+b"),
    ] {
        assert_eq!(expand(text, &Value::Nil, Mode::Text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn texts_of_rules_know_labels_and_value_by_short_names() {
    let labels = Labels::from_pairs([("instance", "a")]);
    let dot = prometheus::data(&labels, &Labels::from_pairs([("dc", "x")]), "http://e", &SampleValue::Float(1.5));
    let context = Context { time: 0, query: &|_| Err("no such".to_owned()), external_url: "http://e", html: false };
    let expand = |text: &str| prometheus::expand("__alert_A", text, &dot, context);
    let text = "{{ $labels.instance }}{{ $externalLabels.dc }}{{ $externalURL }}{{ $value }}{{ .Labels.none }}";
    assert_eq!(expand(text).as_deref(), Ok("axhttp://e1.5"));
    let error = expand("{{ query \"x\" }}").unwrap_err();
    assert!(error.starts_with("error executing template __alert_A: template: __alert_A:1:"), "{error}");
    assert!(error.ends_with("error calling query: no such"), "{error}");
    assert!(prometheus::check("__alert_A", "{{ foo }}").is_err());
}

#[test]
fn values_are_escaped_for_their_place_in_html() {
    for (text, expected) in [
        ("<b>{{ \"<i>&\" }}</b>", "<b>&lt;i&gt;&amp;</b>"),
        ("{{ safeHtml \"<i>\" }}", "<i>"),
        ("<a title=\"{{ `\"` }}\">", "<a title=\"&#34;\">"),
        ("<a href=\"{{ `javascript:alert(1)` }}\">", "<a href=\"#ZgotmplZ\">"),
        ("<a href=\"{{ `http://x/?a=b c` }}\">", "<a href=\"http://x/?a=b%20c\">"),
        ("<a href=\"/x?q={{ `a&b c` }}\">", "<a href=\"/x?q=a%26b%20c\">"),
        (
            "<script>var x = {{ \"</script>\" }};</script>{{ \"<\" }}",
            "<script>var x = \"\\u003c/script\\u003e\";</script>&lt;",
        ),
        ("{{ .Foo }}", ""),
        ("{{ define \"a\" }}<p>{{ . }}{{ end }}{{ tmpl \"a\" \"<\" }}", "<p>&lt;"),
    ] {
        assert_eq!(expand(text, &Value::Nil, Mode::Html).as_deref(), Ok(expected), "{text}");
    }
}

fn notify(text: &str, mode: Mode) -> Result<String, String> {
    let alert = |status: &str, name: &str| {
        Value::record(
            "template.Alert",
            vec![
                ("Status", "status", status.into()),
                ("Labels", "labels", Value::strings(MapKind::Labels, [("alertname", name), ("job", "j<1>")])),
                ("Annotations", "annotations", Value::strings(MapKind::Labels, [("summary", "s")])),
                ("StartsAt", "startsAt", Value::Time(Moment::from_millis(0))),
                ("GeneratorURL", "generatorURL", "http://g".into()),
            ],
        )
    };
    let alerts = Value::list(ListKind::Alerts, vec![alert("firing", "A"), alert("resolved", "B")]);
    let dot = Value::record(
        "template.Data",
        vec![
            ("Receiver", "receiver", "team".into()),
            ("Status", "status", "firing".into()),
            ("Alerts", "alerts", alerts),
            ("GroupLabels", "groupLabels", Value::strings(MapKind::Labels, [("job", "j<1>")])),
            ("CommonLabels", "commonLabels", Value::strings(MapKind::Labels, [("job", "j<1>"), ("x", "y")])),
            ("CommonAnnotations", "commonAnnotations", Value::strings(MapKind::Labels, [])),
            ("ExternalURL", "externalURL", "http://am".into()),
        ],
    );
    let routes = [("a", "{{ routeLabels \"b\" }}!"), ("b", "{{ .Status }}"), ("c", "{{ routeLabels \"c\" }}")];
    let routes = routes.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let templates = notification::load(mode, []).map_err(|error| error.to_string())?;
    let notification = Notification::new(&templates, 90_000_000_000, &dot, &routes);
    notification.expand(text).map_err(|error| error.to_string())
}

#[test]
fn functions_and_methods_of_notifications_are_alertmanager_s() {
    for (text, expected) in [
        ("{{ template \"__subject\" . }}", "[FIRING:1] j<1> (y)"),
        ("{{ template \"slack.default.fallback\" . }}", "[FIRING:1] j<1> (y) | http://am/#/alerts?receiver=team"),
        (
            "{{ template \"pagerduty.default.instances\" .Alerts.Firing }}",
            "Labels:\n - alertname = A\n - job = j<1>\nAnnotations:\n - summary = s\nSource: http://g\n",
        ),
        ("{{ .CommonLabels }}|{{ .CommonLabels.SortedPairs.Names.Join \",\" }}", "job=j<1>, x=y|job,x"),
        (
            "{{ range .Alerts.Resolved }}{{ .Labels.alertname }}{{ (.StartsAt | tz \"Europe/Paris\").Format \"15:04 MST\" }}{{ end }}",
            "B01:00 CET",
        ),
        ("{{ (index .Alerts 0).StartsAt | since | humanizeDuration }}", "1m 30s"),
        ("{{ (index .Alerts 0).StartsAt | date \"2006-01-02\" }}", "1970-01-01"),
        ("{{ dict \"a\" (list 1 \"b\") | toJson }}", "{\"a\":[1,\"b\"]}"),
        ("{{ append (list 1) 2 3 | len }}{{ stringSlice \"a\" \"b\" | join \"-\" }}", "3a-b"),
        ("{{ \"hello WORLD\" | title }}{{ \" x \" | trimSpace }}", "Hello Worldx"),
        ("{{ (toDate \"2006-01-02\" \"2024-02-03\").Unix }}", "1706918400"),
        ("{{ base64encode \"a?b\" }}{{ base64decode \"YT9i\" }}{{ urlUnescape \"a%20b+c\" }}", "YT9ia?ba b c"),
        ("{{ routeLabels \"a\" }}{{ routeLabels \"none\" }}", "firing!"),
        ("{{ .CommonLabels | toJson }}", "{\"job\":\"j<1>\",\"x\":\"y\"}"),
    ] {
        assert_eq!(notify(text, Mode::Text).as_deref(), Ok(expected), "{text}");
    }
    assert!(notify("{{ routeLabels \"c\" }}", Mode::Text).unwrap_err().contains("route label cycle detected: c -> c"));
    let html = notify("{{ template \"email.default.html\" . }}", Mode::Html).unwrap();
    assert!(html.contains("job = j&lt;1&gt;<br>") && html.contains("[1] Resolved"), "{html}");
}

#[test]
fn times_are_read_and_written_by_layout() {
    let moment = Moment::parse("Mon, 02 Jan 2006 15:04:05 -0700", "Sat, 03 Feb 2024 04:05:06 +0530").unwrap();
    for (layout, expected) in [
        ("2006-01-02T15:04:05Z07:00", "2024-02-03T04:05:06+05:30"),
        ("January _2, 06 3:04PM", "February  3, 24 4:05AM"),
        ("15h04 .000", "04h05 .000"),
        ("Jan 2 at 15:04 (Monday)", "Feb 3 at 04:05 (Saturday)"),
    ] {
        assert_eq!(moment.format(layout), expected, "{layout}");
    }
    assert!(Moment::parse("2006-01-02", "2024-13-02").is_err());
    assert_eq!(Moment::zero().rfc3339(), "0001-01-01T00:00:00Z");
}
