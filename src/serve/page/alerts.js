// Alerts by signature: reason, contributions, the lines that stand out; a session with its raw lines.
const ODD = { unseen: "never seen in a benign session", extra: "more of these than in the nearest benign session", missing: "after this something is missing", missing_before: "before this something is missing", contribution: "a feature that speaks loudest to LightGBM", residual: "a feature that the autoencoder does not expect", order: "the order departs from the nearest benign session", last: "the last line" };
const labelTag = (label) => label === "anomalous" ? tag(label, "warm") : label === "normal" ? tag("normal: a false alarm", "bad") : "";

const speaks = (why, ae) => {
  const shares = Object.entries({ LightGBM: why.shares.lgbm, autoencoder: why.shares.ae, profile: why.shares.profile }).filter(([, share]) => share !== null && share !== undefined);
  const most = Math.max(...why.contributions.map((c) => Math.abs(c.contribution)), 1e-9);
  const error = ae || why.residuals.reduce((sum, r) => sum + r.residual, 0) || 1;
  return [
    shares.length > 0 && [h("h3", {}, "Parts in the decision"), h("div", { class: "bars cool" }, shares.map(([name, share]) => [h("span", {}, name), bar(share), h("span", {}, Math.round(100 * share) + " %")]))],
    why.contributions.length > 0 && [h("h3", {}, "LightGBM: contributions to the log-odds"), h("p", { class: "muted" }, "Blue speaks for an anomaly, green against."), h("div", { class: "bars cool" }, why.contributions.map((c) => [h("code", {}, c.feature + " = " + number(Math.round(c.value * 100) / 100)), bar(Math.abs(c.contribution) / most, c.contribution < 0 ? "against" : null), h("span", {}, signed(Math.round(c.contribution * 1000) / 1000))]))],
    why.residuals.length > 0 && [h("h3", {}, "Autoencoder: parts of the error"), h("div", { class: "bars cool" }, why.residuals.map((r) => [h("code", {}, r.feature), bar(r.residual / error), h("span", {}, Math.round((100 * r.residual) / error) + " %")]))],
  ];
};
const deviants = (why) => ["unseen", "extra", "missing"].filter((kind) => why[kind].length).map((kind) => [kind, why[kind].map((d) => h("div", {}, h("code", {}, d.event_id), " " + d.count + " times" + (kind === "unseen" ? "" : ", " + d.benign + " in the benign session")))]);

const rawLines = (lines) => h("ol", { class: "lines", tabindex: "0", "aria-label": "Raw lines" }, lines.map((line) => h("li", { class: line.odd ? "odd" : null }, h("small", {}, line.file.split("/").pop() + ":" + line.line + " "), line.text, line.odd && [" ", h("em", {}, "← " + (ODD[line.odd] || line.odd))])));

const COLUMNS = ["session", "start (UTC)", "score", "p LightGBM", "z error", "fold", "label"];
// Two rows: numbers, and below them the reason, which opens.
const alertRow = (alert, run) => {
  const more = h("div");
  const box = h("details", {}, h("summary", {}, alert.reason), more);
  box.addEventListener("toggle", async () => {
    if (!box.open || more.childNodes.length) return;
    fill(more, {}, [facts([["nearest benign session", alert.nearest && h("code", {}, alert.nearest)], ...deviants(alert)]), speaks(alert, alert.ae), h("h3", {}, "Raw lines"), h("p", { class: "muted" }, "Reading …")]);
    let shown;
    try {
      const session = await api("session", { id: alert.session_id, run });
      shown = session.lines ? rawLines(session.lines) : note(session.unread || "The lines cannot be read.");
    } catch (error) {
      shown = note(error.message, true);
    }
    more.lastChild.replaceWith(shown);
  });
  const cells = [[link("#/session/" + encodeURIComponent(alert.session_id) + "?run=" + encodeURIComponent(run), h("code", {}, alert.session_id)), "t"], [when(alert.start), "t"], [alert.score.toFixed(4), "n"], [alert.p_lgbm === null ? "" : alert.p_lgbm.toFixed(4), "n"], [alert.z_ae === null ? "" : alert.z_ae.toFixed(1), "n"], [alert.fold, "t"], [[labelTag(alert.label), alert.type && h("small", {}, " " + alert.type.replaceAll("_", " "))], "path"]];
  const both = document.createDocumentFragment();
  both.append(h("tr", { class: "of" }, cells.map(([content, kind], at) => h("td", { class: kind, "data-name": COLUMNS[at] }, content))), h("tr", { class: "why" }, h("td", { colspan: COLUMNS.length }, box)));
  return both;
};

views.alerts = async (parts, query) => {
  const asked = Object.fromEntries(query);
  const LIMIT = 50;
  const offset = Number(asked.offset) || 0;
  const found = await api("alerts", { run: asked.run, q: asked.q, signature: asked.signature, fold: asked.fold, sort: asked.sort, up: asked.up, offset, limit: LIMIT });
  const go = (more) => {
    const next = { ...asked, offset: "", ...more };
    location.hash = "#/alerts?" + new URLSearchParams(Object.entries(next).filter(([, is]) => is));
  };
  const filter = h("input", { type: "search", id: "filter", value: asked.q || "", autocomplete: "off", placeholder: "session, reason, label, type" });
  filter.addEventListener("input", wait(() => { keepFocus = "filter"; go({ q: filter.value }); }, 250));
  const fold = h("select", { on: { change: (event) => go({ fold: event.target.value }) } }, ["", "test", "validation", "train", "unused"].map((f) => h("option", { value: f, selected: f === (asked.fold || "") }, f || "all folds")));
  const sort = asked.sort || "score";
  const head = (name, by, kind) => {
    const active = sort === by;
    const button = h("button", { type: "button", on: { click: () => go({ sort: by, up: (active ? !asked.up : by === "session") ? "true" : "" }) } }, name);
    return h("th", { scope: "col", class: kind, "aria-sort": active ? (asked.up ? "ascending" : "descending") : null }, button);
  };
  const some = table(COLUMNS.map((name, at) => (at > 1 && at < 5 ? [name, "n"] : name)), found.alerts.map((alert) => alertRow(alert, found.run)), "Alerts", true);
  const cells = some.querySelectorAll("thead th");
  [["session", "session", 0], ["start (UTC)", "start", 1], ["score", "score", 2, "n"]].forEach(([name, by, at, kind]) => cells[at].replaceWith(head(name, by, kind)));
  const group = (one) => h("li", {}, h("button", { type: "button", "aria-pressed": String((asked.signature || "") === one.id), on: { click: () => go({ signature: asked.signature === one.id ? "" : one.id }) } },
    h("b", {}, one.alerts.toLocaleString("en")), " " + one.signature, h("small", {}, "highest " + one.highest_score.toFixed(4) + (one.anomalous || one.normal ? " · " + one.anomalous + " labelled anomalous, " + one.normal + " normal" : ""))));
  return [
    heading("Alerts"),
    h("p", { class: "muted" }, plural(found.total, "alert") + " of run ", link(to("run", found.run), h("code", {}, found.run)), ", from ", target(found.path), "."),
    h("div", { class: "tools", role: "search" }, h("label", {}, "Filter", filter), h("label", {}, "Fold", fold), h("output", { for: "filter", class: "muted" }, plural(found.found, "alert") + (found.found === found.total ? "" : " of " + found.total.toLocaleString("en")))),
    h("div", { class: "split" },
      h("section", { "aria-label": "Signatures" }, h("h2", {}, plural(found.all_signatures, "signature")), h("p", { class: "muted" }, "Alike alerts. A click shows one kind alone."), h("ul", { class: "list" }, found.signatures.slice(0, 60).map(group)), found.all_signatures > 60 && h("p", { class: "muted" }, "The 60 most frequent.")),
      h("section", { "aria-label": "List of alerts" }, found.alerts.length ? some : h("p", {}, "No alert has that."),
        h("div", { class: "tools" }, offset > 0 && h("button", { class: "act", type: "button", on: { click: () => go({ offset: Math.max(0, offset - LIMIT) || "" }) } }, "Higher"), found.found > 0 && h("span", { class: "muted" }, offset + 1 + " to " + (offset + found.alerts.length) + " of " + found.found.toLocaleString("en")), offset + LIMIT < found.found && h("button", { class: "act", type: "button", on: { click: () => go({ offset: offset + LIMIT }) } }, "Next")))),
  ];
};

views.session = async ([id], query) => {
  const why = await api("session", { id, run: query.get("run") });
  const members = why.members.map((m) => [m.name, [number(Math.round(m.raw * 1e4) / 1e4), "n"], [m.share === null ? "" : Math.round(100 * m.share) + " %", "n"], [m.p !== undefined ? "p " + m.p.toFixed(4) : m.z !== undefined ? "z " + m.z.toFixed(2) : "", "n"]]);
  return [
    heading("Session ", h("code", {}, why.session_id), " ", why.is_alert === null ? "" : why.is_alert ? tag("alert", "bad") : tag("no alert", "good")),
    h("p", {}, why.reason),
    facts([["fused score", why.fusion_score !== null && why.fusion_score.toFixed(4) + (why.threshold !== null ? ", threshold " + why.threshold.toFixed(4) : "")], ["label", why.label === null ? "" : why.label ? "anomalous" : "normal"], ["start", why.timestamp && [when(why.timestamp), " UTC"]], ["signature", why.signature], ["nearest benign session", why.nearest && link("#/session/" + encodeURIComponent(why.nearest) + "?run=" + encodeURIComponent(why.run), h("code", {}, why.nearest))], ...deviants(why), ["run", link(to("run", why.run), h("code", {}, why.run))]]),
    members.length > 0 && [h("h2", {}, "Models"), table(["model", ["raw score", "n"], ["part", "n"], ["", "n"]], members, "What each model says")],
    speaks(why, (why.members.find((m) => m.name === "ae") || {}).raw),
    h("h2", {}, "Raw lines"),
    why.lines ? [h("p", { class: "muted" }, plural(why.lines.length, "line") + "; those that stand out are marked."), rawLines(why.lines)] : note(why.unread || "The lines cannot be read."),
  ];
};
