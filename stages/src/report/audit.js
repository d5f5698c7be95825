"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const panel = $("audit");
  const body = $("audit-body");
  const title = $("audit-title");
  // All lineage documents of the page as one graph.
  const nodes = new Map();
  const into = new Map();
  const out = new Map();
  const link = (map, a, b) => map.set(a, (map.get(a) || new Set()).add(b));
  for (const block of document.querySelectorAll("script.logweir-lineage")) {
    const lineage = JSON.parse(block.textContent);
    lineage.nodes.forEach((node) => nodes.set(node.id, node));
    lineage.edges.forEach(([from, to]) => { link(into, to, from); link(out, from, to); });
  }
  const before = (id) => [...(into.get(id) || [])];
  const after = (id) => [...(out.get(id) || [])];
  // Text goes into the page as text only.
  const make = (tag, text, kind) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  const code = (text) => make("code", text);
  const list = () => body.appendChild(make("dl"));
  const row = (dl, name, ...values) => {
    dl.append(make("dt", name));
    const dd = make("dd");
    values.forEach((value) => { const line = make("div"); line.append(value); dd.append(line); });
    dl.append(dd);
  };
  const quote = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const command = (text) => {
    const line = make("div", undefined, "command");
    const shown = code(text);
    const copy = make("button", "copy");
    copy.type = "button";
    copy.setAttribute("aria-label", "copy the command " + text);
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(shown);
        copy.textContent = "selected";
      }
    });
    line.append(shown, copy);
    body.append(line);
  };
  const params = (node) => {
    const more = make("details");
    more.append(make("summary", "parameters"), make("pre", JSON.stringify(node.params ?? {}, null, 2)));
    return more;
  };
  const known = ["id", "type", "stage", "action", "key", "params", "run", "path", "digest", "file"];
  const stage = (dl, node) => {
    row(dl, "stage", node.action && node.action !== node.stage ? node.stage + " (" + node.action + ")" : node.stage);
    row(dl, "key", code(node.key));
    for (const [name, value] of Object.entries(node)) {
      if (!known.includes(name)) row(dl, name, code(typeof value === "string" ? value : JSON.stringify(value)));
    }
  };
  const file = (node) => {
    const both = make("span");
    both.append(code(node.path), " ", make("small", node.digest || ""));
    return both;
  };
  const files = (ids) => ids.map((id) => nodes.get(id)).filter((n) => n && n.type === "artifact").map(file);
  // Everything before a node, each once, the nearest first.
  const chain = (id) => {
    const seen = new Set([id]);
    const order = [id];
    for (let i = 0; i < order.length; i++) {
      for (const next of before(order[i])) if (!seen.has(next)) { seen.add(next); order.push(next); }
    }
    return order.map((each) => nodes.get(each));
  };
  const story = (id) => {
    const all = chain(id);
    const steps = all.filter((n) => n.type === "action");
    if (steps.length) body.append(make("h3", "Made by, back to the sources"));
    const ol = make("ol");
    for (const step of steps) {
      const li = make("li");
      const more = make("details");
      const dl = make("dl");
      more.append(make("summary", step.stage + " · key " + step.key.slice(0, 16)));
      stage(dl, step);
      const reads = files(before(step.id));
      if (reads.length) row(dl, "read", ...reads);
      more.append(dl, make("pre", JSON.stringify(step.params ?? {}, null, 2)));
      li.append(more);
      ol.append(li);
    }
    body.append(ol);
    const sources = all.filter((n) => n.type === "artifact" && !before(n.id).length);
    if (sources.length) {
      body.append(make("h3", "Sources"));
      const ul = make("ul");
      sources.forEach((n) => { const li = make("li"); li.append(file(n)); ul.append(li); });
      body.append(ul);
    }
  };
  const artifact = (path) => [...nodes.values()].find((n) => n.type === "artifact" && n.path === path);
  const split = (origin) => {
    const at = origin.indexOf("#");
    return at < 0 ? [origin, ""] : [origin.slice(0, at), origin.slice(at + 1)];
  };
  const place = (where) => {
    const cell = /^cell=(\d+),(\d+)$/.exec(where);
    if (cell) return "line " + cell[1] + ", column " + cell[2] + " (the header is line 1)";
    const row = /^row=(\d+);column=(.*)$/.exec(where);
    if (row) return "row " + row[1] + " of the table, column " + row[2];
    return "";
  };

  let opener = null;
  const open = (from, heading) => {
    if (opener) opener.removeAttribute("aria-expanded");
    opener = from;
    from.setAttribute("aria-expanded", "true");
    body.replaceChildren();
    title.textContent = heading;
    panel.hidden = false;
    body.scrollTop = 0;
    title.focus({ preventScroll: true });
  };
  const close = () => {
    if (panel.hidden) return;
    panel.hidden = true;
    if (opener) { opener.removeAttribute("aria-expanded"); opener.focus({ preventScroll: true }); }
    opener = null;
  };

  const number = (button) => {
    const { origin, plus, exact, how } = button.dataset;
    const [path, where] = split(origin);
    open(button, where ? "Where " + (button.textContent.length > 40 ? "this" : button.textContent) + " comes from" : path);
    const dl = list();
    row(dl, plus ? "sum of" : "from", code(origin), ...(plus ? [code(plus)] : []));
    if (place(where)) row(dl, "place", place(where));
    if (exact) row(dl, "exact value", code(exact));
    if (how) row(dl, "shown", how);
    const found = artifact(path);
    const digest = (found && found.digest) || button.dataset.digest;
    if (digest) row(dl, "content (blake3)", code(digest));
    if (button.dataset.key) row(dl, "key in the file", code(button.dataset.key));
    if (found) before(found.id).map((id) => nodes.get(id)).filter((n) => n.type === "action").forEach((n) => stage(dl, n));
    // A file that is in no document still names the action that made it.
    const maker = !found && [...nodes.values()].find((n) => n.key && n.key === button.dataset.key);
    if (maker) stage(dl, maker);
    body.append(make("p", "To check it:"));
    const pointer = where.startsWith("/");
    command("logweir lineage " + quote(pointer ? origin : path));
    if (plus) command("logweir lineage " + quote(plus));
    command("logweir verify " + quote(path));
    if (found || maker) story((found || maker).id);
    else body.append(make("p", "This page carries no lineage document about " + path + ": the command prints it.", "muted"));
  };
  const drawn = (shape) => {
    const node = nodes.get(shape.dataset.id);
    if (!node) return;
    open(shape, node.type === "action" ? "Stage " + node.stage : node.path);
    const dl = list();
    if (node.type === "action") {
      stage(dl, node);
      const reads = files(before(node.id)), writes = files(after(node.id));
      if (reads.length) row(dl, "inputs", ...reads);
      if (writes.length) row(dl, "outputs", ...writes);
      const more = params(node);
      more.open = true;
      body.append(more);
    } else {
      row(dl, "path", code(node.path));
      row(dl, "content (blake3)", code(node.digest || ""));
      command("logweir lineage " + quote(node.path));
    }
    story(node.id);
  };

  const graph = document.querySelector(".graph svg");
  if (graph) {
    graph.setAttribute("role", "group");
    graph.setAttribute("aria-label", "stages and sources");
    for (const shape of graph.querySelectorAll("g[data-id]")) {
      const node = nodes.get(shape.dataset.id);
      shape.setAttribute("tabindex", "0");
      shape.setAttribute("role", "button");
      shape.setAttribute("aria-label", node ? node.stage || node.path : shape.dataset.id);
      shape.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); drawn(shape); }
      });
    }
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-origin]");
    if (button) return number(button);
    const shape = event.target.closest(".graph g[data-id]");
    if (shape) drawn(shape);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  $("audit-close").addEventListener("click", close);
  document.documentElement.classList.add("live");
})();
