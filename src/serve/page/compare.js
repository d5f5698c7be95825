// Two runs side by side, what differs, and which differences can have moved which number.
const change = (d) => [h("b", {}, d.stage), " " + (["added", "removed"].includes(d.kind) ? d.kind : reason(d))];

views.compare = async ([from, to_]) => {
  const runs = (await api("runs", { n: 300 })).runs;
  if (runs.length < 2) return [heading("Compare"), h("p", {}, "There is nothing to compare yet: it takes two runs.")];
  const a = from || runs[1].run, b = to_ || runs[0].run;
  const pick = (label, chosen, act) => h("label", {}, label, h("select", { on: { change: (event) => act(event.target.value) } }, [...(runs.some((run) => run.run === chosen) ? [] : [{ run: chosen, started: "" }]), ...runs].map((run) => h("option", { value: run.run, selected: run.run === chosen }, run.run + (options(run.overrides ? run : { overrides: [], forced: [], targets: [] }) && "  " + options(run))))));
  const tools = h("div", { class: "tools" }, pick("Earlier", a, (run) => { location.hash = to("compare", run, b); }), pick("Later", b, (run) => { location.hash = to("compare", a, run); }), h("button", { class: "act", type: "button", on: { click: () => { location.hash = to("compare", b, a); } } }, "Swap"));
  let found, details;
  try {
    [found, ...details] = await Promise.all([api("diff", { from: a, to: b }), api("runs/" + encodeURIComponent(a)), api("runs/" + encodeURIComponent(b))]);
  } catch (error) {
    return [heading("Compare"), tools, note(error.message, true), error.help && h("p", { class: "muted" }, error.help)];
  }
  const side = (run, title) => h("section", {}, h("h2", {}, title + " ", link(to("run", run.run), h("code", {}, run.run))), facts([["result", result(run)], ["started", [when(run.started), " UTC"]], ["took", seconds(run.seconds)], ["options", options(run) && h("code", {}, options(run))], ["stages", run.executed + " executed, " + run.restored + " restored, " + run.fresh + " fresh"], ["critical path", seconds(run.critical_path.seconds)]]));
  const [old, young] = details;
  const took = new Map(old.stages.map((stage) => [stage.stage, stage]));
  const stages = [...new Set([...young.stages, ...old.stages].map((stage) => stage.stage))];
  const differs = new Map(found.stages.map((stage) => [stage.stage, stage]));
  const now = new Map(young.stages.map((stage) => [stage.stage, stage]));
  const decision = (stage) => (stage ? tag(stage.decision) : h("small", {}, "not there"));
  const roots = found.stages.flatMap((stage) => stage.leaves.filter((leaf) => leaf.root).map((leaf) => ({ stage: stage.stage, ...leaf })));
  const moved = found.metrics.filter((row) => !/ci95|\/by_|\/\d+$/.test(row.pointer));
  const shown = moved.length ? moved : found.metrics;
  return [
    heading("Two runs side by side"), tools,
    found.notes.map((text) => note(text)),
    h("div", { class: "sides" }, side(old, "Earlier"), side(young, "Later")),
    h("h2", {}, "What was changed"),
    roots.length || found.stages.some((stage) => stage.change !== "changed")
      ? h("ul", {}, roots.map((leaf) => h("li", {}, change(leaf))), found.stages.filter((stage) => stage.change !== "changed").map((stage) => h("li", {}, h("b", {}, stage.stage), " " + stage.change)))
      : h("p", {}, "Nothing: every stage has the same key."),
    h("h2", {}, "Numbers that moved"),
    h("p", { class: "muted" }, found.metrics.length + " of " + plural(found.compared, "number") + (shown.length < found.metrics.length ? "; intervals, types and lists are left out here" : "") + ". The causes are the changes that lead to the number; others cannot have moved it."),
    shown.length > 0 && table(["metric", ["earlier", "n"], ["later", "n"], ["change", "n"], "can be caused by"], shown.slice(0, 200).map((row) => [[target(row.metric, pointer(row.metric)), "path"], [number(row.old), "n"], [number(row.new), "n"], [delta(row.delta), "n"], [row.causes.map((cause) => h("div", {}, change(cause))), "path"]]), "Numbers that moved", true),
    h("h2", {}, "Artifacts that differ"),
    found.artifacts.length ? table(["artifact", "stage", "earlier", "later"], found.artifacts.map((one) => [[target(one.path), "path"], one.stage, h("code", {}, short(one.old) || "none"), h("code", {}, short(one.new) || "none")]), "Artifacts that differ", true) : h("p", {}, "None."),
    h("h2", {}, "Stages"),
    table(["stage", "earlier", "later", ["took", "n"], ["took", "n"], "differs"], stages.map((name) => [name, decision(took.get(name)), decision(now.get(name)), [seconds(took.get(name)?.seconds), "n"], [seconds(now.get(name)?.seconds), "n"], [differs.has(name) ? differs.get(name).leaves.map((leaf) => h("div", {}, reason(leaf))) : "", "path"]]), "Stages of both runs", true),
  ];
};
