// One run: its graph with times and critical path, what each stage did and why.
const reason = (r) => {
  const moved = r.old === null && r.new === null ? "" : ": " + short(value(r.old)) + " → " + short(value(r.new));
  return r.kind + (r.subject ? " " + r.subject : "") + moved;
};

const stagePanel = (stage) => [
  h("h3", { id: "stage-name" }, stage.stage + " ", tag(stage.decision)),
  facts([
    ["kind or command", stage.action && h("code", {}, stage.action)],
    ["took", stage.seconds !== null && seconds(stage.seconds)],
    ["executed in", stage.executed_in && link(to("run", stage.executed_in), h("code", {}, stage.executed_in))],
    ["memory", stage.peak_memory && "at most " + bytes(stage.peak_memory)],
    ["threads", stage.threads],
    ["key", stage.key && h("code", {}, stage.key)],
    ["because", stage.reasons.length ? h("ul", { class: "list" }, stage.reasons.slice(0, 30).map((r) => h("li", {}, reason(r)))) : null],
    ["reads", Object.entries(stage.inputs).map(([slot, files]) => h("div", {}, h("small", {}, slot + " "), Object.keys(files).slice(0, 8).map((path) => [target(path), " "]), Object.keys(files).length > 8 && "… " + Object.keys(files).length + " files"))],
    ["writes", Object.entries(stage.outputs).map(([slot, out]) => h("div", {}, h("small", {}, slot + " "), target(out.path), h("small", {}, " " + bytes(out.size))))],
    ["warnings", stage.warnings.map((text) => h("div", {}, text))],
  ]),
  h("details", {}, h("summary", {}, "parameters"), h("pre", {}, JSON.stringify(stage.params, null, 2))),
];

views.run = async ([id]) => {
  const [run, graph] = await Promise.all([api("runs/" + encodeURIComponent(id)), api("runs/" + encodeURIComponent(id) + "/graph")]);
  const path = run.critical_path;
  const names = path.stages.map((step) => step.stage);
  const panel = h("section", { class: "panel", "aria-live": "polite", hidden: true });
  const choose = (name) => {
    const stage = run.stages.find((one) => one.stage === name);
    panel.replaceChildren(...fill(h("div"), {}, [stagePanel(stage)]).childNodes);
    panel.hidden = false;
  };
  const longest = Math.max(...run.stages.map((stage) => (stage.decision === "run" && stage.seconds) || 0), 1e-9);
  const order = [...run.stages].sort((a, b) => (b.decision === "run") - (a.decision === "run"));
  const pick = (name) => h("button", { class: "act", type: "button", on: { click: () => { choose(name); panel.scrollIntoView({ block: "nearest" }); } } }, name);
  const gain = path.stages.map((step) => path.seconds - step.if_free);
  return [
    heading("Run ", h("code", {}, run.run), " ", result(run)),
    facts([
      ["started", [when(run.started), " UTC, took " + seconds(run.seconds)]], ["pipeline", run.pipeline], ["options", options(run) && h("code", {}, options(run))],
      ["stages", plural(run.executed, "stage") + " executed, " + run.restored + " restored, " + run.fresh + " fresh, " + run.failed + " failed, " + run.skipped + " not started"],
      ["memory", run.peak_memory && "at most " + bytes(run.peak_memory)], ["host", run.host],
      ["roots", Object.entries(run.roots).map(([name, place]) => h("div", {}, h("code", {}, name + " = " + place)))],
    ]),
    h("p", {}, link(to("compare", "last~1", run.run), "Compare with another run"), " · ", link("#/alerts?run=" + encodeURIComponent(run.run), "Alerts of this run")),
    h("h2", {}, "Stages"),
    graph.too_large ? h("p", { class: "muted" }, plural(graph.too_large, "stage") + ": too many to draw; the table below has them.") : [
      h("ul", { class: "key" }, [["run", "executed"], ["restore", "restored"], ["fresh", "fresh"], ["failed", "failed"], ["critical", "critical path"]].map(([kind, text]) => h("li", { class: kind }, h("i"), text))),
      drawGraph(graph, { critical: names, label: "Stages of run " + run.run + " and what they need", choose }),
      h("p", { class: "muted" }, "Times are those of the execution that made the outputs in place. Click a stage, or go there with Tab and the arrow keys, for its key, parameters, inputs and outputs." + (graph.folded ? " " + plural(graph.folded, "action") + " of matrices and maps are in the table only." : "")),
    ],
    panel,
    names.length > 0 && [
      h("h2", {}, "Critical path: " + seconds(path.seconds)),
      h("p", { class: "muted" }, "The longest chain of executed stages: only work on it makes the run shorter. At the right: how much shorter it were without the stage."),
      h("div", { class: "bars" }, path.stages.map((step, at) => [pick(step.stage), bar(step.seconds / Math.max(path.seconds, 1e-9)), h("span", {}, seconds(step.seconds), h("small", {}, "  −" + seconds(gain[at])))])),
    ],
    h("h2", {}, "All stages"),
    table(["stage", "decision", ["took", "n"], "", ["memory", "n"], "key", "because"], order.map((stage) => [
      pick(stage.stage), tag(stage.decision), [seconds(stage.seconds), "n"],
      stage.decision === "run" && stage.seconds ? h("div", { class: "bars cool" }, h("span"), bar(stage.seconds / longest), h("span")) : "",
      [bytes(stage.peak_memory), "n"], h("code", {}, short(stage.key)), [stage.reasons.slice(0, 2).map(reason).join("; ") + (stage.reasons.length > 2 ? " …" : ""), "path"],
    ]), "Stages of the run", true),
  ];
};
