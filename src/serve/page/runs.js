// The first page: how the last run ended, its numbers, all runs.
const result = (run) => run.interrupted ? tag("interrupted", "warm") : run.failed ? tag(run.failed + " failed", "bad") : tag("ok", "good");
const options = (run) => [run.profile && "--profile " + run.profile, ...run.overrides.map((o) => "--set " + o), ...run.forced.map((f) => "--force " + f), ...run.targets].filter(Boolean).join(" ");
const FIRST = ["fusion/average_precision", "fusion/f1", "fusion/precision", "fusion/recall", "fusion/fpr", "alerts/test", "alerts/alerts_per_day", "threshold/value"];
const leading = (metrics, most) => {
  const known = FIRST.map((name) => metrics.find((row) => pointer(row.metric) === name)).filter(Boolean);
  return (known.length ? known : metrics).slice(0, most);
};

views[""] = async (parts, query) => {
  const n = Number(query.get("n")) || 100;
  const [runs, metrics] = await Promise.all([api("runs", { n }), api("metrics", { n: 30 })]);
  if (!runs.runs.length) return [heading("No runs yet"), h("p", {}, "Start one: ", h("code", {}, "logweir run"), ". This page follows it.")];
  const last = runs.runs[0];
  const one = (run, at) => [
    [link(to("run", run.run), h("code", {}, run.run)), "t"], [when(run.started), "t"], [seconds(run.seconds), "n"], result(run),
    [number(run.executed), "n"], [number(run.restored), "n"], [number(run.fresh), "n"],
    [[run.pipeline !== "pipeline.yaml" && h("small", {}, run.pipeline + " "), options(run) && h("code", {}, options(run))], "path"],
    runs.runs[at + 1] ? link(to("compare", runs.runs[at + 1].run, run.run), "compare") : "",
  ];
  const shown = leading(metrics.metrics, 8);
  return [
    heading("Runs"),
    h("p", {}, "The last run, ", link(to("run", last.run), h("code", {}, last.run)), ", began ", when(last.started), " UTC and took " + seconds(last.seconds) + ": ", result(last), " " + plural(last.executed, "stage") + " executed, " + last.restored + " restored, " + last.fresh + " fresh."),
    shown.length > 0 && [h("h2", {}, "Numbers of the last runs"), h("p", { class: "muted" }, "A click shows where a number comes from. Beside it the change from the run before; the line goes over " + plural(metrics.runs.length, "run") + ". ", link("#/metrics", "All metrics")), h("ul", { class: "tiles" }, shown.map(metricTile))],
    h("h2", {}, "History"),
    table(["run", "started (UTC)", ["took", "n"], "result", ["executed", "n"], ["restored", "n"], ["fresh", "n"], "options", ""], runs.runs.map(one), "Runs, newest first", true),
    runs.before > 0 && h("p", {}, link("#/?n=" + Math.min(n * 10, n + runs.before), "Show more"), h("span", { class: "muted" }, " (" + plural(runs.before, "run") + " before these)")),
  ];
};
