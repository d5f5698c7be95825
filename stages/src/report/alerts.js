(() => {
  // The table of alerts: filter, order, groups. Without it the table stands as it is: by signature, the highest score first.
  const table = document.getElementById("alert-table");
  if (!table) return;
  const filter = document.getElementById("alert-filter");
  const groups = document.getElementById("alert-groups");
  const count = document.getElementById("alert-count");
  const heads = [...table.tHead.rows[0].cells];
  const bodies = [...table.tBodies].map((body) => ({
    body,
    head: body.querySelector("tr.group"),
    alerts: [...body.querySelectorAll("tr.of")].map((row) => {
      const next = row.nextElementSibling;
      const rows = next && next.classList.contains("why") ? [row, next] : [row];
      return { rows, cells: row.cells, text: rows.map((r) => r.textContent).join(" ").toLowerCase() };
    }),
  }));
  const all = bodies.flatMap((one) => one.alerts);
  const flat = document.createElement("tbody");
  const none = document.createElement("tbody");
  const empty = none.insertRow().insertCell();
  empty.colSpan = heads.length;
  empty.className = "none";
  empty.textContent = "No alert has that.";
  let column = heads.findIndex((head) => head.hasAttribute("aria-sort"));
  let down = true;
  const value = (alert) => {
    const button = alert.cells[column].querySelector("button.o");
    return button ? button.dataset.exact : alert.cells[column].textContent;
  };
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    const [m, n] = [Number(x), Number(y)];
    const order = x !== "" && y !== "" && !Number.isNaN(m) && !Number.isNaN(n) ? m - n : x < y ? -1 : x > y ? 1 : 0;
    return down ? -order : order;
  };
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = new Set(all.filter((alert) => words.every((word) => alert.text.includes(word))));
    heads.forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    while (table.tBodies.length) table.tBodies[0].remove();
    if (groups && groups.checked) {
      const filled = bodies
        .map((one) => ({ ...one, some: one.alerts.filter((alert) => shown.has(alert)).sort(compare) }))
        .filter((one) => one.some.length)
        .sort((a, b) => compare(a.some[0], b.some[0]));
      for (const one of filled) {
        one.body.replaceChildren(...(one.head ? [one.head] : []), ...one.some.flatMap((alert) => alert.rows));
        table.append(one.body);
      }
    } else {
      flat.replaceChildren(...[...shown].sort(compare).flatMap((alert) => alert.rows));
      table.append(flat);
    }
    if (!shown.size) table.append(none);
    count.textContent = shown.size === all.length ? all.length + " listed" : shown.size + " of " + all.length + " listed";
  };
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      down = i === column ? !down : head.classList.contains("n");
      column = i;
      show();
    });
    head.replaceChildren(button);
  });
  filter.addEventListener("input", show);
  if (groups) groups.addEventListener("change", show);
  show();
})();
