//! The five steps. Each waits for what it promises, and fails where that does not come.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    cluster::{Cluster, until},
    shop,
};

/// For what takes seconds on an idle machine.
const SOON: Duration = Duration::from_secs(120);
/// For a run, whose first one installs three languages.
const RUN: Duration = Duration::from_secs(30 * 60);
/// For what waits for rates over minutes.
const RATES: Duration = Duration::from_secs(8 * 60);

/// 1: the server, and the first push.
pub fn push(cluster: &mut Cluster) -> Result<()> {
    cluster.server.connect()?;
    let address = cluster.server.address().to_owned();
    let flags = if address == "127.0.0.1" { Vec::new() } else { vec!["--node-ip", &address] };
    let ready = cluster.server.start(&flags)?;
    println!("   madang: ready in {} ms", ready.as_millis());
    cluster.sign_in()?;
    cluster.give(&cluster.base, "shop/debian:bookworm-slim")?;
    cluster.give(&cluster.docker, "shop/docker:cli")?;
    cluster.found("shop")?;
    let journal = cluster.server.scratch("stock")?;
    shop::copy(&cluster.repository, journal.to_str().context("a plain path")?)?;
    let commit = shop::push(cluster, "The shop")?;
    println!("   git push: {commit}");
    Ok(())
}

/// The run of a commit, once it has ended; what it is doing is told meanwhile.
fn run_of(cluster: &Cluster, commit: &str) -> Result<Value> {
    let find = || -> Result<Option<Value>> {
        let runs = cluster.get(&["pipelineruns"])?;
        let of = |run: &&Value| run["status"]["commit"] == commit || run["spec"]["commit"] == commit;
        Ok(runs["items"].as_array().and_then(|runs| runs.iter().find(of)).cloned())
    };
    until("the push starts a run", SOON, find)?;
    let mut told = String::new();
    until("the run", RUN, || {
        let Some(run) = find()? else { bail!("the run is gone") };
        let status = &run["status"];
        let (now, progress) =
            (status["now"].as_str().unwrap_or_default(), status["progress"].as_str().unwrap_or_default());
        let line = format!("{progress} {now}");
        if line != told && !now.is_empty() {
            println!("   {line}");
            told = line;
        }
        Ok(status["result"].is_string().then_some(run))
    })
}

/// Fails where a run has not ended as it should.
fn expect(run: &Value, phase: &str) -> Result<()> {
    let status = &run["status"];
    let (name, number) = (run["metadata"]["name"].as_str().unwrap_or_default(), &status["number"]);
    let message = status["message"].as_str().unwrap_or_default();
    println!("   run {number}: {} {message}", status["phase"].as_str().unwrap_or_default());
    ensure!(status["phase"] == phase, "run {name} is {} and not {phase}: {message}", status["phase"]);
    Ok(())
}

/// 2: the run of the first push.
pub fn pipeline(cluster: &mut Cluster) -> Result<()> {
    let commit = cluster.git(&["rev-parse", "HEAD"])?;
    let run = run_of(cluster, &commit)?;
    expect(&run, "Succeeded")?;
    let status = &run["status"];
    let stage = |name: &str| {
        let found = status["stages"].as_array().and_then(|all| all.iter().find(|stage| stage["name"] == name));
        found.cloned().with_context(|| format!("the run has no stage {name}"))
    };
    for test in ["test inventory", "test orders", "test storefront"] {
        ensure!(stage(test)?["pod"].is_string(), "the stage {test} names no pod");
    }
    let parts = ["inventory", "orders", "storefront"].map(stage).into_iter().collect::<Result<Vec<Value>>>()?;
    let times =
        |field: &str| parts.iter().filter_map(|stage| stage[field].as_str().map(str::to_owned)).collect::<Vec<_>>();
    let (starts, ends) = (times("started"), times("finished"));
    ensure!(
        starts.iter().max() < ends.iter().min(),
        "the services were built one after the other: {starts:?} {ends:?}"
    );
    let tests = status["tests"]["total"].as_i64().unwrap_or_default();
    ensure!(tests >= 13 && status["tests"]["failed"] == 0, "reports of {tests} tests are kept: {}", status["tests"]);
    let name = run["metadata"]["name"].as_str().context("a run without a name")?;
    let signed = format!("Authorization: Bearer {}", cluster.token);
    let url = format!("http://127.0.0.1:3000/pipelines/shop/{name}/artifacts");
    let (code, artifacts) = cluster.curl(&["--header", &signed, &url])?;
    ensure!(code == 200 && artifacts.contains("deployed.txt"), "no artifact deployed.txt: {code} {artifacts}");
    let user = format!("kim:{}", cluster.token);
    for service in ["inventory", "orders", "storefront"] {
        let url = format!("http://127.0.0.1:5000/v2/shop/{service}/tags/list");
        let (code, tags) = cluster.curl(&["--user", &user, &url])?;
        ensure!(
            code == 200 && tags.contains(&commit[..12]),
            "the registry has no shop/{service} of {commit}: {code} {tags}"
        );
    }
    println!("   {tests} tests, three images");
    Ok(())
}

/// 3: requests through the gateway, metrics, pods that come and go.
pub fn customers(cluster: &mut Cluster) -> Result<()> {
    until("the shop answers at port 8080", SOON, || {
        let (code, page) = cluster.curl(&["http://127.0.0.1:8080/"])?;
        Ok((code == 200 && page.contains("<h1>The Pottery</h1>")).then_some(()))
    })?;
    for expression in [
        "sum(rate(gateway_requests_total{namespace=\"shop\"}[1m])) > 0",
        "sum(rate(shop_orders_total{outcome=\"accepted\"}[1m])) > 0",
        "sum(rate(container_cpu_usage_seconds_total{namespace=\"shop\"}[1m])) > 0",
    ] {
        until(&format!("there is {expression}"), RATES, || Ok(cluster.query(expression)?.first().map(|_| ())))?;
    }
    let orders = |wanted: fn(u64) -> bool| {
        let count = cluster.get(&["deployment", "orders"])?["status"]["readyReplicas"].as_u64().unwrap_or_default();
        Ok(wanted(count).then_some(count))
    };
    cluster.kubectl(&["scale", "deployment/load", "--replicas=4"])?;
    let most = until("more customers, more order pods", RATES, || orders(|count| count >= 2))?;
    cluster.kubectl(&["scale", "deployment/load", "--replicas=1"])?;
    until("fewer customers, one order pod", RATES, || orders(|count| count == 1))?;
    println!("   order pods: 1, {most} or more, 1");
    Ok(())
}

/// Weights of the shop's route.
fn weights(cluster: &Cluster) -> Result<Vec<(String, u64)>> {
    let route = cluster.get(&["httproute", "shop"])?;
    let backends = route["spec"]["rules"][0]["backendRefs"].as_array().cloned().unwrap_or_default();
    let one = |backend: &Value| {
        (backend["name"].as_str().unwrap_or_default().to_owned(), backend["weight"].as_u64().unwrap_or(1))
    };
    Ok(backends.iter().map(one).filter(|(_, weight)| *weight > 0).collect())
}

/// 4: a commit that is taken back by itself, and one that is not.
pub fn releases(cluster: &mut Cluster) -> Result<()> {
    let alert = "ALERTS{alertname=\"ShopFailsRequests\",alertstate=\"firing\"}";
    shop::patch(&cluster.repository, shop::BAD)?;
    let bad = shop::push(cluster, "Recommend something")?;
    println!("   git push: {bad}, slower and with an error");
    let run = run_of(cluster, &bad)?;
    expect(&run, "Failed")?;
    let message = run["status"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains("rolled back"), "the run does not say why: {message:?}");
    let release = cluster.get(&["release", &format!("storefront-{}", &bad[..12])])?;
    ensure!(release["status"]["phase"] == "RolledBack", "the release: {}", release["status"]);
    ensure!(weights(cluster)? == [("storefront".to_owned(), 100)], "weights: {:?}", weights(cluster)?);
    until("the alert has fired", RATES, || {
        Ok(cluster.query(&format!("max_over_time({alert}[30m])"))?.first().map(|_| ()))
    })?;
    until("the alert has cleared", RATES, || Ok(cluster.query(alert)?.is_empty().then_some(())))?;

    shop::patch(&cluster.repository, shop::GOOD)?;
    let good = shop::push(cluster, "Recommend something that there is")?;
    println!("   git push: {good}, without it");
    expect(&run_of(cluster, &good)?, "Succeeded")?;
    let release = cluster.get(&["release", &format!("storefront-{}", &good[..12])])?;
    ensure!(release["status"]["phase"] == "Succeeded", "the release: {}", release["status"]);
    ensure!(weights(cluster)? == [("storefront".to_owned(), 100)], "weights: {:?}", weights(cluster)?);
    let image = cluster.kubectl(&[
        "get",
        "deployment/storefront",
        "--output=jsonpath={.spec.template.spec.containers[0].image}",
    ])?;
    ensure!(image.ends_with(&good[..12]), "the storefront runs {image}");
    for _ in 0..20 {
        let (code, items) = cluster.curl(&["http://127.0.0.1:8080/api/items"])?;
        ensure!(code == 200 && items.contains("\"recommended\":true"), "{code} {items}");
    }
    Ok(())
}

/// 5: what the console is shown from: pages, the runs with their logs, alerts, the dashboard.
pub fn console(cluster: &mut Cluster) -> Result<()> {
    let get = |path: &str| -> Result<String> {
        let token = format!("Authorization: Bearer {}", cluster.token);
        let (code, body) = cluster.curl(&["--header", &token, &format!("http://127.0.0.1:3000{path}")])?;
        ensure!(code == 200, "{path}: {code} {body}");
        Ok(body)
    };
    ensure!(get("/")?.contains("<title>Madang</title>"), "no page at port 3000");
    let found = get("/api/search?query=shop")?;
    ensure!(found.contains("\"uid\":\"shop\""), "the sample's dashboard is not found: {found}");
    let dashboard: Value = serde_json::from_str(&get("/api/dashboards/uid/shop")?)?;
    let panels = dashboard["dashboard"]["panels"].as_array().map_or(0, Vec::len);
    ensure!(panels == 16, "the sample's dashboard has {panels} panels");
    let runs = cluster.get(&["pipelineruns"])?;
    let runs = runs["items"].as_array().cloned().unwrap_or_default();
    ensure!(runs.len() == 3, "{} runs of three pushes", runs.len());
    for run in &runs {
        let name = run["metadata"]["name"].as_str().unwrap_or_default();
        let log = get(&format!("/pipelines/shop/{name}/log"))?;
        ensure!(
            log.contains("go test") || log.contains("node --test"),
            "the log of {name} tells nothing of tests: {log}"
        );
    }
    let alerts = get("/prometheus/api/v1/rules?type=alert")?;
    ensure!(alerts.contains("ShopFailsRequests"), "the shop's alert is not there");
    println!("   {panels} panels, {} runs with their logs", runs.len());
    Ok(())
}
