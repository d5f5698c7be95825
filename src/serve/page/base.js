"use strict";
// What all views use. Text goes into the page as text only.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

const fill = (made, attributes, children) => {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return made;
};
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Answers that did not change are not sent again (ETag).
const api = async (path, query) => {
  const words = Object.entries(query || {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const address = "/api/" + path + (words.length ? "?" + new URLSearchParams(words) : "");
  const response = await fetch(address, { headers: { accept: "application/json" } });
  const text = await response.text();
  let document = null;
  try { document = JSON.parse(text); } catch { /* said below */ }
  if (!response.ok || document === null) {
    const error = new Error((document && document.message) || text.trim() || response.statusText);
    error.help = document && document.help;
    throw error;
  }
  return document;
};

const link = (hash, ...children) => h("a", { href: hash }, ...children);
const to = (...parts) => "#/" + parts.map(encodeURIComponent).join("/");
const plural = (n, one) => n.toLocaleString("en") + " " + (n === 1 ? one : one + "s");
const seconds = (x) => {
  if (x === null || x === undefined) return "";
  if (x < 0.0095) return (x * 1000).toFixed(1) + " ms";
  if (x < 1) return Math.round(x * 1000) + " ms";
  if (x < 60) return x.toFixed(x < 10 ? 2 : 1) + " s";
  const whole = Math.round(x);
  return whole < 3600 ? Math.floor(whole / 60) + " min " + (whole % 60) + " s" : Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " min";
};
const bytes = (n) => {
  if (n === null || n === undefined) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (n >= 1000 && at < 4) { n /= 1000; at++; }
  return (at && n < 10 ? n.toFixed(1) : Math.round(n)) + " " + units[at];
};
const time = (text) => (text ? text.slice(0, 19).replace("T", " ") : "");
const when = (text) => h("time", { datetime: text, title: text + " (UTC)" }, time(text));
const number = (x) => {
  if (typeof x !== "number") return x === null || x === undefined ? "none" : String(x);
  if (Number.isInteger(x)) return Math.abs(x) < 1e15 ? x.toLocaleString("en") : String(x);
  const a = Math.abs(x);
  return a >= 1e-4 && a < 1e15 ? String(Number(x.toPrecision(6))) : x.toExponential(3);
};
const signed = (x) => (x > 0 ? "+" : "") + number(x);
const value = (x) => (x === null || x === undefined ? "none" : typeof x === "string" ? x : JSON.stringify(x));
const short = (text) => (text && /^[0-9a-f]{40,}$/.test(text) ? text.slice(0, 12) : text);
const tag = (text, kind) => h("span", { class: "tag " + (kind || text) }, text);
const pointer = (metric) => (metric.includes("#") ? metric.slice(metric.indexOf("#") + 1).replace(/^\//, "") : metric);
const delta = (x) => (x === null || x === undefined ? "" : x === 0 ? h("small", {}, "=") : h("small", { class: x > 0 ? "up" : "down" }, signed(x)));

// rows: arrays of cells; a cell is content, or [content, class]. head: names, or [name, class]. With `folds` a row becomes
// a block on narrow screens.
const table = (head, rows, caption, folds) => {
  const cell = (kind) => (content, at) => {
    const [inside, style] = Array.isArray(content) && typeof content[1] === "string" && content.length === 2 ? content : [content, null];
    const name = Array.isArray(head[at]) ? head[at][0] : head[at];
    return h(kind, { class: style, scope: kind === "th" ? "col" : null, "data-name": kind === "td" && folds ? name : null }, inside);
  };
  return h("div", { class: "wide" }, h("table", { class: folds ? "folds" : null, "aria-label": caption },
    h("thead", {}, h("tr", {}, head.map(cell("th")))),
    h("tbody", {}, rows.map((row) => (row instanceof Node ? row : h("tr", {}, row.map(cell("td"))))))));
};
const facts = (pairs) => h("dl", {}, pairs.filter(([, is]) => is !== null && is !== undefined && is !== "" && !(Array.isArray(is) && !is.length))
  .map(([name, is]) => [h("dt", {}, name), h("dd", {}, is)]));
const heading = (text, ...more) => h("h1", { tabindex: "-1" }, text, ...more);
const note = (text, bad) => h("p", { class: bad ? "note bad" : "note", role: bad ? "alert" : null }, text);
const wait = (act, ms) => { let timer; return (...words) => { clearTimeout(timer); timer = setTimeout(() => act(...words), ms); }; };
const target = (path, ...text) => link(to("lineage", path), ...(text.length ? text : [h("code", {}, path)]));

// By first part of the address: (parts, query) → what is shown. Each view file adds its own.
const views = {};
