// All numbers over the last runs; a click on one shows its lineage.
views.metrics = async (parts, query) => {
  const n = Number(query.get("n")) || 30;
  const all = query.get("all") === "1";
  const found = await api("metrics", { n, metrics: all ? "**" : "" });
  if (!found.metrics.length) return [heading("Metrics"), h("p", {}, "No numbers yet: name an output slot that holds JSON or CSV under ", h("code", {}, "metrics:"), " of its stage.")];
  const list = h("ul", { class: "tiles" });
  const count = h("output", { class: "muted", for: "filter" });
  const MOST = 300;
  const show = (words) => {
    const fits = found.metrics.filter((row) => words.every((word) => row.metric.toLowerCase().includes(word)));
    list.replaceChildren(...fits.slice(0, MOST).map(metricTile));
    count.textContent = plural(fits.length, "number") + (fits.length > MOST ? ", the first " + MOST + " are shown" : "");
  };
  const filter = h("input", { type: "search", id: "filter", autocomplete: "off", value: query.get("q") || "", placeholder: "e.g. fusion recall" });
  const words = () => filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  filter.addEventListener("input", wait(() => show(words()), 80));
  show(words());
  const go = (more) => { location.hash = "#/metrics?" + new URLSearchParams({ n, all: all ? "1" : "0", q: filter.value, ...more }); };
  const runs = h("select", { on: { change: (event) => go({ n: event.target.value }) } }, [30, 100, 300, 1000].map((k) => h("option", { value: k, selected: k === n }, k)));
  const which = h("input", { type: "checkbox", checked: all, on: { change: (event) => go({ all: event.target.checked ? "1" : "0" }) } });
  return [
    heading("Metrics"),
    h("p", { class: "muted" }, "Of run ", link(to("run", found.run), h("code", {}, found.run)), ", with the change from the run before and the way over " + plural(found.runs.length, "run") + (found.unchanged ? " (" + plural(found.unchanged, "run") + " that did nothing are left out)" : "") + ". A click shows where a number comes from."),
    h("div", { class: "tools" }, h("label", {}, "Filter", filter), h("label", {}, "Runs", runs), h("label", {}, which, "intervals, types and lists too"), count),
    Object.entries(found.missing).map(([path, why]) => note(path + ": " + why)),
    list,
  ];
};
