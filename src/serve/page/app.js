// Addresses: what is behind # chooses the view. Views are functions that return what to show.
let keepFocus = null;
let shownFor = null;
let turn = 0;

const show = async (again) => {
  const mine = ++turn;
  const address = location.hash.startsWith("#/") ? location.hash.slice(2) : "";
  const [path, words] = address.split("?");
  const [name, ...parts] = path.split("/").map(decodeURIComponent);
  const query = new URLSearchParams(words || "");
  document.querySelectorAll("nav a[href^='#']").forEach((one) => {
    const own = one.getAttribute("href").slice(2);
    const here = own === name || (own === "" && name === "run") || (own === "alerts" && name === "session") || (own === "lineage" && name === "impact");
    if (here) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
  });
  const main = $("main");
  main.setAttribute("aria-busy", "true");
  let content;
  try {
    content = views[name] ? await views[name](parts, query) : [heading("There is nothing here"), h("p", {}, link("#/", "Runs"))];
  } catch (error) {
    content = [heading("That could not be shown"), note(error.message, true), error.help && h("p", { class: "muted" }, error.help)];
  }
  // A slower answer to an earlier question comes too late.
  if (mine !== turn) return;
  // Nothing that the reader opened is taken away by an update.
  if (again && main.querySelector(".panel:not([hidden]), td details[open]")) { main.removeAttribute("aria-busy"); return; }
  const scroll = again ? [scrollX, scrollY] : [0, 0];
  const focused = again || keepFocus ? keepFocus || (document.activeElement && document.activeElement.id) : null;
  const typed = focused && $(focused) && $(focused).value;
  main.replaceChildren(...fill(h("div"), {}, [content]).childNodes);
  main.removeAttribute("aria-busy");
  const title = main.querySelector("h1");
  document.title = (title ? title.textContent.trim() + " · " : "") + "logweir";
  const field = focused && $(focused);
  if (field) {
    if (typed !== null && field.value !== typed) field.value = typed;
    field.focus({ preventScroll: true });
    if (field.setSelectionRange && field.type !== "checkbox") field.setSelectionRange(field.value.length, field.value.length);
  } else if (!again && shownFor !== null && title) title.focus({ preventScroll: true });
  if (!keepFocus) scrollTo(...scroll);
  keepFocus = null;
  shownFor = name;
};

const head = async () => {
  try {
    const about = await api("overview");
    $("project").textContent = about.folder + (about.pipeline === "pipeline.yaml" ? "" : " · " + about.pipeline);
    $("report").hidden = !about.report;
    if (about.trouble) $("project").append(h("span", { class: "bad" }, "  " + about.pipeline + " has errors: " + about.trouble));
  } catch { /* the view says what is wrong */ }
};

addEventListener("hashchange", () => show(false));
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(input|select|textarea)$/i.test(document.activeElement.tagName) && !event.ctrlKey && !event.metaKey) {
    const field = $("filter");
    if (field) { event.preventDefault(); field.focus(); field.select(); }
  }
  if (event.key === "Escape") {
    const panel = document.querySelector(".panel:not([hidden])");
    if (panel) {
      panel.hidden = true;
      const box = document.querySelector(".graph [aria-expanded=true]");
      if (box) { box.setAttribute("aria-expanded", "false"); box.focus(); }
    }
  }
});
$("skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
show(false);
head();
follow(() => { show(true); head(); });
