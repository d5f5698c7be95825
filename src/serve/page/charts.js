// A small line of values from run to run; gaps where a run has none.
const spark = (values, runs) => {
  const some = values.map((v, at) => [at, v]).filter(([, v]) => typeof v === "number");
  const low = Math.min(...some.map(([, v]) => v)), high = Math.max(...some.map(([, v]) => v));
  const x = (at) => (values.length < 2 ? 98 : 2 + (196 * at) / (values.length - 1));
  const y = (v) => (high > low ? 38 - (34 * (v - low)) / (high - low) : 22);
  let d = "", gap = true;
  values.forEach((v, at) => {
    if (typeof v !== "number") { gap = true; return; }
    d += (gap ? "M" : "L") + x(at).toFixed(1) + " " + y(v).toFixed(1);
    gap = false;
  });
  const words = some.length ? plural(some.length, "value") + " over " + plural(runs || values.length, "run") + ", from " + number(low) + " to " + number(high) : "no values";
  const last = some[some.length - 1];
  return s("svg", { viewBox: "0 0 200 44", preserveAspectRatio: "none", role: "img", "aria-label": words }, s("title", {}, words),
    s("path", { class: "spark", d }), last && s("path", { class: "spark", "stroke-width": 5, "stroke-linecap": "round", d: "M" + x(last[0]).toFixed(1) + " " + y(last[1]).toFixed(1) + "l.01 0" }));
};

// A row of metrics as tiles, each the way to its lineage.
const metricTile = (row) => {
  const name = pointer(row.metric);
  return h("li", {}, h("a", { class: "tile", href: to("lineage", row.metric), title: row.metric + ": where it comes from" },
    h("span", {}, name.replaceAll("_", " ")), h("b", {}, number(row.value)), delta(row.delta), row.values && spark(row.values)));
};

const bar = (share, kind) => {
  const inside = h("i", { class: kind });
  inside.style.width = Math.max(0.5, Math.min(100, 100 * share)) + "%";
  return h("div", {}, inside);
};
