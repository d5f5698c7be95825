// A placed DAG as SVG. Boxes are buttons: Tab goes from one to the next, arrows along edges, Enter shows what is behind one.
const drawGraph = (layout, { critical = [], label, choose }) => {
  const [wide, high] = layout.size;
  const margin = 12;
  const on = new Set(critical);
  const next = new Map(critical.slice(1).map((stage, at) => [critical[at], stage]));
  const point = ([x, y]) => x + margin + " " + (y + margin);
  const svg = s("svg", { width: wide + 2 * margin, height: high + 2 * margin, viewBox: "0 0 " + (wide + 2 * margin) + " " + (high + 2 * margin), role: "group", "aria-label": label },
    s("defs", {}, s("marker", { id: "head", viewBox: "0 0 8 8", refX: 7.5, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" }, s("path", { class: "head", d: "M0 .8L8 4L0 7.2z" }))));
  for (const edge of layout.edges) {
    let d = "M" + point(edge.route[0]);
    for (let at = 0; at + 1 < edge.route.length; at++) {
      const [a, b] = [edge.route[at], edge.route[at + 1]];
      const middle = (a[1] + b[1]) / 2;
      d += at % 2 === 0 ? "C" + point([a[0], middle]) + " " + point([b[0], middle]) + " " + point(b) : "L" + point(b);
    }
    svg.append(s("path", { d, "marker-end": "url(#head)", class: next.get(edge.from) === edge.to ? "critical" : null }));
  }
  const boxes = new Map();
  const open = (id) => {
    boxes.forEach((box, other) => box.setAttribute("aria-expanded", String(other === id)));
    choose(id);
  };
  const go = (id) => { const box = boxes.get(id); if (box) box.focus(); };
  const step = (id, key) => {
    const ways = { ArrowDown: ["from", "to"], ArrowUp: ["to", "from"] };
    if (ways[key]) {
      const [here, there] = ways[key];
      const edge = layout.edges.find((one) => one[here] === id);
      if (edge) go(edge[there]);
      return;
    }
    const own = layout.nodes.find((node) => node.id === id).box;
    const row = layout.nodes.filter((node) => Math.abs(node.box[1] - own[1]) < 20).sort((a, b) => a.box[0] - b.box[0]);
    const at = row.findIndex((node) => node.id === id) + (key === "ArrowRight" ? 1 : -1);
    if (row[at]) go(row[at].id);
  };
  for (const node of layout.nodes) {
    const [x, y, w, t] = node.box;
    const lines = node.label.split("\n");
    const texts = lines.map((line, at) => s("text", { class: at ? "minor" : null, x: x + margin + w / 2, y: y + margin + t / 2 + (at - (lines.length - 1) / 2) * 16 + 4.5 }, line));
    const box = s("g", { class: node.class + (on.has(node.id) ? " critical" : ""), "data-id": node.id, tabindex: choose ? "0" : null, role: choose ? "button" : null, "aria-expanded": choose ? "false" : null, "aria-label": lines.join(", ") + (on.has(node.id) ? ", on the critical path" : "") + ", " + node.class },
      s("title", {}, node.id), s("rect", { x: x + margin, y: y + margin, width: w, height: t, rx: 6 }), texts);
    if (choose) {
      box.addEventListener("click", () => open(node.id));
      box.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(node.id); }
        else if (event.key.startsWith("Arrow")) { event.preventDefault(); step(node.id, event.key); }
      });
    }
    boxes.set(node.id, box);
    svg.append(box);
  }
  return h("div", { class: "graph" }, svg);
};
