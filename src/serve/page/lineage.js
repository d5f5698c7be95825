// Where a file or a number comes from, or what comes from it.
const actionPanel = (node) => [
  h("h3", {}, node.stage + " ", node.decision && tag(node.decision)),
  facts([
    ["kind or command", h("code", {}, node.kind || node.command || node.action)], ["key", h("code", {}, node.key)],
    ["executed in", node.run && link(to("run", node.run), h("code", {}, node.run))],
    ["started", node.started && [when(node.started), " UTC for " + seconds(node.seconds)]],
    ["where", node.host && node.host + " (" + node.platform + "), logweir " + node.program],
    ["memory", node.peak_memory && "at most " + bytes(node.peak_memory)],
    ["variables", Object.entries(node.env || {}).map(([name, is]) => h("div", {}, h("code", {}, name + "=" + (is === null ? "(unset)" : is))))],
    ["tools", Object.entries(node.tools || {}).map(([name, is]) => h("div", {}, h("code", {}, name + ": " + is.trim())))],
    ["acts on", node.effect], ["warnings", node.warnings || null],
  ]),
  h("details", { open: true }, h("summary", {}, "parameters"), h("pre", {}, JSON.stringify(node.params ?? {}, null, 2))),
];
const artifactPanel = (node) => [
  h("h3", {}, node.path),
  facts([["content (blake3)", h("code", {}, node.digest)], ["lay at", node.file && h("code", {}, node.file)]]),
  h("p", {}, target(node.path, "What produced it"), " · ", link(to("impact", node.path), "What comes from it"), node.path.startsWith("reports/") && !node.path.endsWith("/") && [" · ", h("a", { href: "/" + node.path.split("/").map(encodeURIComponent).join("/") }, "Open")]),
];

const origin = (down) => async (parts, query) => {
  const wanted = parts.join("/");
  const page = down ? "impact" : "lineage";
  const field = h("input", { type: "text", id: "filter", value: wanted, autocomplete: "off", spellcheck: "false", placeholder: "reports/metrics.json#/fusion/f1", "aria-label": "Path, path#/pointer, digest or key" });
  const form = h("form", { class: "tools", role: "search", on: { submit: (event) => { event.preventDefault(); location.hash = to(page, field.value.trim()); } } },
    h("label", {}, "Target", field), h("button", { class: "act" }, down ? "What comes from it" : "What produced it"));
  if (!wanted) return [heading("Lineage"), form, h("p", { class: "muted" }, "A path in the project, ", h("code", {}, "path#/json/pointer"), " for one number, ", h("code", {}, "root:path"), " for a source, or the first digits of a digest or key.")];
  let found;
  try {
    found = await api(page, { target: wanted, run: query.get("run") });
  } catch (error) {
    return [heading("Lineage"), form, note(error.message, true), error.help && h("p", { class: "muted" }, error.help)];
  }
  const byId = new Map(found.nodes.map((node) => [node.id, node]));
  const panel = h("section", { class: "panel", "aria-live": "polite", hidden: true });
  const choose = (id) => {
    const node = byId.get(id);
    panel.replaceChildren(...fill(h("div"), {}, [node.type === "action" ? actionPanel(node) : artifactPanel(node)]).childNodes);
    panel.hidden = false;
  };
  const actions = found.nodes.filter((node) => node.type === "action");
  const artifacts = found.nodes.filter((node) => node.type === "artifact");
  const made = new Set(found.edges.map(([, after]) => after));
  const sources = artifacts.filter((node) => !made.has(node.id));
  return [
    heading(down ? "What comes from " : "Where ", h("code", {}, wanted), down ? "" : " comes from"),
    form,
    found.value !== null && h("p", {}, "Its value is ", h("b", {}, value(found.value)), "."),
    (found.notes || []).map((text) => note(text)),
    h("p", {}, plural(artifacts.length, "artifact") + " and " + plural(actions.length, "action") + (down ? "" : ", back to " + plural(sources.length, "source")) + (found.as_of ? ", as of run " : ""), found.as_of && link(to("run", found.as_of), h("code", {}, found.as_of)), ". ", down ? target(wanted, "What produced it") : link(to("impact", wanted.split("#")[0]), "What comes from it")),
    found.layout ? drawGraph(found.layout, { label: "Lineage of " + wanted, choose }) : h("p", { class: "muted" }, "Too many to draw: the tables below have them."),
    panel,
    h("h2", {}, "Stages, sources first"),
    table(["stage", "kind or command", "key", "executed in", ["took", "n"], "parameters"], actions.map((node) => [
      node.stage, [h("code", {}, (node.kind || node.command || node.action || "").slice(0, 120)), "path"], h("code", {}, short(node.key)),
      node.run ? link(to("run", node.run), h("code", {}, node.run)) : "", [seconds(node.seconds), "n"],
      [h("details", {}, h("summary", {}, "show"), h("pre", {}, JSON.stringify(node.params ?? {}, null, 2))), "path"],
    ]), "Stages", true),
    h("h2", {}, "Artifacts"),
    table(["artifact", "content (blake3)", "place"], artifacts.map((node) => [[target(node.path), "path"], h("code", {}, short(node.digest)), made.has(node.id) ? "made" : node.file ? h("code", {}, node.file) : "source"]), "Artifacts", true),
  ];
};
views.lineage = origin(false);
views.impact = origin(true);
