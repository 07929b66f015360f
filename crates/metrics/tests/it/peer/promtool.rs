//! promtool as the client: what it prints of this data base is what it prints of Prometheus; what it says of rules and their tests is
//! what is said here.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use metrics::{
    rule::unit::{self, Settings},
    web::door::Door,
};
use task::Task;

use super::{
    both,
    data::{END, START},
};

fn promtool(arguments: &[&str], dir: &Path) -> Output {
    let program = env::var_os("MADANG_PROMTOOL").expect("MADANG_PROMTOOL names promtool, which xtask builds");
    Command::new(program).args(arguments).current_dir(dir).output().unwrap()
}

/// Asks both data bases through promtool.
pub async fn queries() {
    let (place, peer) = both().await;
    let task = Task::root("promtool");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = format!("http://{}", listener.local_addr().unwrap());
    let theirs = format!("http://{}", peer.address);
    let (metrics, door) = (place.metrics.clone(), Door { gate: None, open: true, local_only: true });
    let handler = move |request| {
        let (metrics, door) = (metrics.clone(), door.clone());
        async move { metrics.answer(&door, request).await }
    };
    task.spawn("listener", serve::http::serve(task.child("listener"), listener, None, Default::default(), handler));
    let (start, end) = ((START / 1000).to_string(), (END / 1000).to_string());
    let time = format!("--time={end}");
    let (from, to) = (format!("--start={start}"), format!("--end={end}"));
    let series = "--match=requests_total{job=\"api\"}";
    let cases: [&[&str]; 11] = [
        &["query", "instant", &time, "URL", "sort(sum by (job) (rate(requests_total[5m])))"],
        &["query", "instant", &time, "-o", "json", "URL", "sort(temperature)"],
        &["query", "instant", &time, "URL", "sum("],
        &["query", "instant", &time, "URL", "histogram_quantile(0.9, sum(latency))"],
        &["query", "range", &from, &to, "--step=5m", "URL", "sum by (job) (temperature)"],
        &["query", "range", &from, &to, "--step=1s", "URL", "up"],
        &["query", "range", &from, &to, "--step=5m", "-o", "json", "URL", "avg(memory_bytes)"],
        &["query", "labels", &from, &to, "URL", "job"],
        &["query", "labels", &from, &to, "URL", "nothing"],
        &["query", "series", &from, &to, series, "URL"],
        &["query", "series", &from, &to, "--match={", "URL"],
    ];
    for case in cases {
        let ask = |url: &str| {
            let arguments: Vec<&str> = case.iter().map(|word| if *word == "URL" { url } else { *word }).collect();
            let output = promtool(&arguments, Path::new("/"));
            let sorted = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).replace(url, "URL");
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                // Series come in no order.
                lines.sort();
                lines
            };
            (output.status.code(), sorted(&output.stdout), sorted(&output.stderr))
        };
        let asked = (ours.clone(), theirs.clone());
        let (mine, other) = tokio::task::block_in_place(|| (ask(&asked.0), ask(&asked.1)));
        assert_eq!(mine, other, "{case:?}");
    }
    task.drain(Duration::from_secs(1)).await;
}

/// Runs every test of rules that upstream ships through both.
pub fn rules(fixtures: &Path) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        path.extension().is_some_and(|extension| extension == "yml") && text.contains("tests:")
    });
    files.sort();
    let mut verdicts = [0, 0];
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let theirs = promtool(&["test", "rules", name], fixtures);
        let ours = unit::test(&file, &Settings::default(), &mut Vec::new());
        let told = String::from_utf8_lossy(&theirs.stderr).into_owned();
        assert_eq!(ours.is_ok(), theirs.status.success(), "{name}: {ours:?}\npromtool: {told}");
        verdicts[usize::from(ours.is_ok())] += 1;
    }
    assert!(verdicts.iter().all(|count| *count >= 3), "{verdicts:?}");
}
