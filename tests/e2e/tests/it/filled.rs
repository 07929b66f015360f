//! Public dashboards and rules on a running cluster with something in it: every expression gives data, or what it asks for has a
//! reason not to be there.
//!
//! A comparison is asked for with its `bool` form, `absent(x)` as `x`, and `a unless b` as `a`: alerts give nothing while all is
//! well. Variables match everything. Of an expression without data, each selector is asked for by itself: one without series
//! needs a reason by its name in `suites/missing.txt`, or as a whole in `suites/empty.txt`; where all have series, the expression
//! stands there. That list only shrinks: what has data needs no line any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
    time::{Duration, Instant},
};

use e2e::Cluster;
use promql::{
    ast::{Expr, Selector},
    lex::Op,
    matcher::{Comparison, Matcher},
    parse::{Features, parse},
};
use serde_json::Value;

use crate::{
    shared::{IMAGE, fresh},
    suites::{self, Asked, expressions, substituted},
};

/// Selectors and expressions that give nothing though their metrics are there, each with its reason.
const EMPTY: &str = include_str!("suites/empty.txt");
/// Stands for a variable.
const VARIABLE: &str = "anyvalue";
/// How long scrapes, and rules that record, may take to have filled everything.
const PATIENCE: Duration = Duration::from_mins(8);

/// One of everything that upstream's exporters tell of.
const WORKLOADS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: filled}
---
apiVersion: v1
kind: Namespace
metadata: {name: monitoring}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: filled}
value: 10
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: filled}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      priorityClassName: filled
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: IMAGE
        command: [sh, -c, 'trap "exit 0" TERM; while true; do dd if=/dev/zero of=/tmp/x bs=1M count=4 conv=fsync 2> /dev/null; nslookup web > /dev/null; nslookup example.org > /dev/null; sleep 2; done & wait']
        resources: {limits: {cpu: 200m, memory: 64Mi}, requests: {cpu: 10m, memory: 16Mi}}
        ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: filled}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: filled}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: IMAGE
        command: [sleep, '100000']
        resources: {limits: {cpu: 100m, memory: 64Mi}, requests: {cpu: 10m, memory: 16Mi}}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: filled}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {terminationGracePeriodSeconds: 1, hostNetwork: true, containers: [{name: main, image: IMAGE, command: [sleep, '100000']}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: filled}
spec:
  backoffLimit: 0
  template:
    spec: {restartPolicy: Never, containers: [{name: main, image: IMAGE, command: ['false']}]}
---
apiVersion: v1
kind: Pod
metadata: {name: waits, namespace: filled}
spec: {nodeSelector: {nowhere: at-all}, containers: [{name: main, image: IMAGE}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unpulled, namespace: filled}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: '127.0.0.1:1/nobody/has/this:1'}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: db, namespace: filled}
spec: {minAvailable: 1, selector: {matchLabels: {app: db}}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota, namespace: filled}
spec: {hard: {pods: '20', requests.cpu: '10', requests.memory: 1Gi, limits.memory: 2Gi}}
---
# Used up: an alert of the severity that others are held back by.
apiVersion: v1
kind: ResourceQuota
metadata: {name: full, namespace: filled}
spec: {hard: {count/ingresses.networking.k8s.io: '1'}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: filled}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, minReplicas: 1, maxReplicas: 3, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: all, namespace: filled}
spec: {podSelector: {}, ingress: [{}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: filled}
spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
"#;

/// Puts one of everything on a cluster, and kube-prometheus' rules, which record what its dashboards ask for.
pub fn fill(cluster: &Cluster, suites: &Path) {
    cluster.kubectl("filled").apply(&WORKLOADS.replace("IMAGE", IMAGE));
    let kubectl = cluster.kubectl("monitoring");
    kubectl.until(&["get", "crd", "prometheusrules.monitoring.coreos.com"], |out| out.contains("prometheusrules"));
    for entry in std::fs::read_dir(suites.join("rules")).unwrap() {
        let path = entry.unwrap().path();
        kubectl.run(&["apply", "-f", path.to_str().unwrap()]).good();
    }
}

/// What the query API has for an expression: how many series.
fn count(cluster: &Cluster, expression: &str) -> usize {
    let ports = std::fs::read_to_string(cluster.run_dir().join("ports.json")).unwrap();
    let ports: Value = serde_json::from_str(&ports).unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/query", ports["prometheus"]);
    let mut curl = cluster.place.command("curl");
    let form = format!("query={expression}");
    let answered = curl.args(["--silent", "--max-time", "30", "--data-urlencode", &form, &url]).output().unwrap();
    let answer: Value = serde_json::from_slice(&answered.stdout)
        .unwrap_or_else(|error| panic!("{expression}: {error}: {}", String::from_utf8_lossy(&answered.stdout)));
    assert_eq!(answer["status"], "success", "{expression}: {answer}");
    match answer["data"]["resultType"].as_str() {
        Some("scalar" | "string") => 1,
        _ => answer["data"]["result"].as_array().map_or(0, Vec::len),
    }
}

/// An expression as it is judged.
fn judged(text: &str) -> Result<Expr, String> {
    let mut expr = parse(&substituted(text, VARIABLE), Features::default()).map_err(|error| error.to_string())?;
    relax(&mut expr);
    Ok(expr)
}

fn relax(expr: &mut Expr) {
    match expr {
        Expr::Call(call) if call.function.name == "absent" => {
            let inner = call.args.remove(0);
            *expr = inner;
            return relax(expr);
        }
        Expr::Binary(binary) if binary.op == Op::Unless => {
            let left = (*binary.left).clone();
            *expr = left;
            return relax(expr);
        }
        Expr::Binary(binary) if is_comparison(binary.op) => binary.returns_bool = true,
        Expr::Selector(selector) => any(&mut selector.matchers),
        Expr::Matrix(matrix) => any(&mut matrix.selector.matchers),
        _ => {}
    }
    expr.children_mut().into_iter().for_each(relax);
}

fn is_comparison(op: Op) -> bool {
    matches!(op.name(), "==" | "!=" | "<" | "<=" | ">" | ">=")
}

/// Conditions with variables hold for everything.
fn any(matchers: &mut Vec<Matcher>) {
    matchers.retain(|matcher| {
        let of_variable = matcher.value.contains(VARIABLE);
        !of_variable || matches!(matcher.comparison, Comparison::Equal | Comparison::Matches)
    });
    for matcher in matchers {
        if matcher.value.contains(VARIABLE) {
            *matcher = Matcher::new(&matcher.name, Comparison::Matches, ".*").expect("an expression");
        }
    }
}

/// A selector by itself, looking back an hour.
fn alone(selector: &Selector) -> String {
    let matchers: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", matchers.join(","))
}

fn lines() -> BTreeMap<&'static str, &'static str> {
    let line = |line: &'static str| line.rsplit_once(" ## ").unwrap_or_else(|| panic!("no reason: {line:?}"));
    EMPTY.lines().filter(|text| !text.is_empty() && !text.starts_with("# ")).map(line).collect()
}

/// What gives nothing and has no reason; notes which reasons were needed.
fn unexplained(cluster: &Cluster, asked: &[Asked], needed: &mut BTreeSet<String>) -> BTreeSet<String> {
    let (missing, empty) = (suites::missing(), lines());
    let (mut wrong, mut seen, mut series) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for Asked { file, text } in asked {
        let expr = judged(text).unwrap_or_else(|error| panic!("{file}: {text}: {error}"));
        let shown = expr.to_string();
        if !seen.insert(shown.clone()) || count(cluster, &shown) > 0 {
            continue;
        }
        let mut explained = true;
        for selector in expr.selectors() {
            let whole = alone(selector);
            let found = *series
                .entry(whole.clone())
                .or_insert_with(|| count(cluster, &format!("count(last_over_time({whole}[1h]))")) > 0);
            if found {
                continue;
            }
            explained = false;
            let named = selector.matchers.iter().find(|matcher| matcher.name == "__name__");
            let by_name = named.is_some_and(|matcher| {
                suites::reason(&missing, &matcher.value).is_some()
                    || suites::reason(&missing, &format!("~{}", matcher.value)).is_some()
            });
            if empty.contains_key(whole.as_str()) {
                needed.insert(whole);
            } else if !by_name {
                wrong.insert(format!("{whole} has no series: {file}"));
            }
        }
        if explained {
            if empty.contains_key(shown.as_str()) {
                needed.insert(shown);
            } else {
                wrong.insert(format!("{shown} gives nothing: {file}"));
            }
        }
    }
    wrong
}

#[test]
#[ignore = "second tier: scrapes and rules take minutes to fill it"]
fn expressions_of_dashboards_and_rules_have_data() {
    let Some(dir) = env::var_os("MADANG_SUITES") else {
        assert!(env::var_os("CI").is_none(), "MADANG_SUITES names no directory");
        return eprintln!("not run: MADANG_SUITES names no directory");
    };
    let Some(cluster) = fresh(7, &[]) else { return };
    let suites = Path::new(&dir);
    fill(&cluster, suites);
    let kubectl = cluster.kubectl("monitoring");
    let asked = expressions(suites);
    let began = Instant::now();
    let mut wrong;
    let mut needed = BTreeSet::new();
    loop {
        // Loops watch and never list: somebody who does belongs to a cluster.
        kubectl.run(&["get", "pods", "--all-namespaces"]).good();
        std::thread::sleep(Duration::from_secs(45));
        needed.clear();
        wrong = unexplained(&cluster, &asked, &mut needed);
        eprintln!("after {:?}: {} without data or reason", began.elapsed(), wrong.len());
        if wrong.is_empty() || began.elapsed() > PATIENCE {
            break;
        }
    }
    for line in lines().keys().filter(|line| !needed.contains(**line)) {
        wrong.insert(format!("needs no reason any more: {line}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn alerts_are_judged_by_what_they_look_at() {
    for (text, wanted) in [
        ("absent(up{job=\"$job\"} == 1)", "up{job=~\".*\"} == bool 1"),
        ("a{b!=\"$c\"} > 1 unless on (d) e", "a > bool 1"),
        ("sum(rate(a{b=~\"${c:regex}\"}[$__rate_interval]))", "sum(rate(a{b=~\".*\"}[5m]))"),
    ] {
        assert_eq!(judged(text).unwrap().to_string(), wanted, "{text}");
    }
}
