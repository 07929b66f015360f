// Counts requests and shows the counts in Prometheus' text format.

const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export class Metrics {
  #requests = new Map();
  #durations = new Map();
  #began = Date.now() / 1000;
  #version;

  constructor(version) {
    this.#version = version;
  }

  observe(handler, method, code, seconds) {
    // Anybody can make up methods; series cannot.
    const known = ["GET", "HEAD", "POST"].includes(method) ? method : "other";
    const labels = `handler="${handler}",method="${known}",code="${code}"`;
    this.#requests.set(labels, (this.#requests.get(labels) ?? 0) + 1);
    const histogram = this.#durations.get(handler) ?? { buckets: BOUNDS.map(() => 0), sum: 0, count: 0 };
    BOUNDS.forEach((bound, at) => (histogram.buckets[at] += seconds <= bound ? 1 : 0));
    histogram.sum += seconds;
    histogram.count += 1;
    this.#durations.set(handler, histogram);
  }

  text() {
    const lines = [];
    const family = (name, kind, help) => lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`);
    family("shop_storefront_info", "gauge", "The version that runs.");
    lines.push(`shop_storefront_info{version="${this.#version.replace(/[\\"\n]/g, "_")}"} 1`);
    family("http_requests_total", "counter", "Requests answered.");
    for (const [labels, count] of [...this.#requests].sort()) lines.push(`http_requests_total{${labels}} ${count}`);
    family("http_request_duration_seconds", "histogram", "Time to answer a request.");
    for (const [handler, { buckets, sum, count }] of [...this.#durations].sort()) {
      const series = `http_request_duration_seconds`;
      BOUNDS.forEach((bound, at) => lines.push(`${series}_bucket{handler="${handler}",le="${bound}"} ${buckets[at]}`));
      lines.push(`${series}_bucket{handler="${handler}",le="+Inf"} ${count}`);
      lines.push(`${series}_sum{handler="${handler}"} ${sum}`, `${series}_count{handler="${handler}"} ${count}`);
    }
    family("process_resident_memory_bytes", "gauge", "Resident memory.");
    lines.push(`process_resident_memory_bytes ${process.memoryUsage().rss}`);
    family("process_start_time_seconds", "gauge", "Start of the process, in seconds since 1970.");
    lines.push(`process_start_time_seconds ${this.#began.toFixed(3)}`);
    return lines.join("\n") + "\n";
  }
}
