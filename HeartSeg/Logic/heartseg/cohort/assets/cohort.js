"use strict";
// The list of cases, the case that is shown, and the verdicts. No frameworks, no network but the program's own server.
(function () {
  const data = JSON.parse(document.getElementById("cohort-data").textContent);
  const by = (id) => document.getElementById(id);
  const served = location.protocol.startsWith("http"), store = "heartseg review " + location.pathname;
  const PAGE = 100;
  const reviews = new Map(Object.entries(data.reviews));
  let rows = data.cases, at = 0;

  function make(tag, options, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(options || {})) {
      if (key === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  // --- verdicts ---

  const empty = { verdict: "", comment: "", time: "", result: "" };
  const reviewOf = (c) => reviews.get(c.name) || empty;
  const isOld = (c) => reviewOf(c).result !== c.made && (reviewOf(c).verdict || reviewOf(c).comment);
  const verdictOf = (c) => (isOld(c) ? "" : reviewOf(c).verdict);

  function readStore() {
    try { return JSON.parse(localStorage.getItem(store) || "{}"); } catch { return {}; }
  }

  function say(text) { by("saved").textContent = text; }

  function tellStore() {
    const kept = readStore();
    const open = Object.keys(kept).filter((name) => JSON.stringify(kept[name]) !== JSON.stringify(data.reviews[name]));
    say(open.length ? `${open.length} verdict(s) are in this browser only: download review.csv, and put it in the folder of this page.` : "");
  }

  // Requests are sent one after the other, so that the last word on a case is the last one that arrives.
  let sending = Promise.resolve(), pending = 0;

  async function send(name, review) {
    try {
      const answer = await fetch("review", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ case: name, ...review }) });
      if (!answer.ok) throw new Error(await answer.text());
      say(`saved to review.csv: ${name}`);
    } catch (error) {
      say(`NOT SAVED: ${name} (${error.message}). Is heartseg cohort --review still running?`);
    }
    document.body.dataset.pending = String(--pending);
  }

  function save(c, change) {
    const review = { ...reviewOf(c), ...change, time: new Date().toISOString().slice(0, 19) + "+00:00", result: c.made };
    if (isOld(c) && !("verdict" in change)) review.verdict = "";
    reviews.set(c.name, review);
    if (served) {
      document.body.dataset.pending = String(++pending);
      sending = sending.then(() => send(c.name, review));
    } else {
      try {
        localStorage.setItem(store, JSON.stringify({ ...readStore(), [c.name]: review }));
        tellStore();
      } catch {
        say("this browser keeps nothing: download review.csv before you close the page");
      }
    }
    tellProgress();
  }

  window.addEventListener("beforeunload", (event) => { if (pending) event.preventDefault(); });

  function csv() {
    const cell = (text) => {
      const plain = /^ *[=+\-@\t\r]/.test(text) ? "'" + text : text;
      return /[",\r\n]/.test(plain) ? '"' + plain.replaceAll('"', '""') + '"' : plain;
    };
    const lines = [["case", "verdict", "comment", "time", "result"]];
    for (const [name, r] of reviews) lines.push([name, r.verdict, r.comment, r.time, r.result]);
    return lines.map((line) => line.map(cell).join(",") + "\r\n").join("");
  }

  function download() {
    const link = make("a", { href: URL.createObjectURL(new Blob([csv()], { type: "text/csv" })), download: "review.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // --- the list ---

  function matches(c, text, shown) {
    if (shown === "open" && verdictOf(c)) return false;
    if ((shown === "accept" || shown === "reject") && verdictOf(c) !== shown) return false;
    if (["done", "no heart", "failed"].includes(shown) && c.status !== shown) return false;
    return !text || c.name.toLowerCase().includes(text) || c.message.toLowerCase().includes(text) || c.findings.some((f) => f[1].includes(text));
  }

  function filter(name) {
    const text = by("search").value.trim().toLowerCase(), shown = by("shown").value;
    rows = data.cases.filter((c) => matches(c, text, shown));
    const found = rows.findIndex((c) => c.name === name);
    at = found >= 0 ? found : Math.max(0, Math.min(at, rows.length - 1));
    drawList();
    drawCase();
  }

  function why(c) {
    const names = ["error", "implausible value", "outlier", "warning", "value out of range"];
    const counted = c.counts.map((n, k) => (n ? `${n} ${names[k]}${n > 1 ? "s" : ""}` : "")).filter((t) => t);
    return [c.message || (c.status === "done" ? "" : c.status), ...counted].filter((t) => t).join(", ") || "nothing unusual";
  }

  function verdictText(c) {
    if (isOld(c)) return "earlier result";
    return { accept: "✓ accepted", reject: "✗ rejected" }[reviewOf(c).verdict] || (reviewOf(c).comment ? "commented" : "");
  }

  function drawList() {
    const first = Math.floor(at / PAGE) * PAGE, list = by("list");
    list.replaceChildren(...rows.slice(first, first + PAGE).map((c, k) => {
      const chosen = first + k === at;
      return make("li", { role: "option", id: `row-${first + k}`, "aria-selected": String(chosen), on: { click: () => go(first + k) } },
        make("span", { class: "place" }, String(first + k + 1)), make("span", { class: "name" }, c.name),
        make("span", { class: `verdict ${verdictOf(c)}` }, verdictText(c)), make("span", { class: "why" }, why(c)));
    }));
    const chosen = by(`row-${at}`);
    if (chosen) {
      list.setAttribute("aria-activedescendant", chosen.id);
      if (chosen.offsetTop < list.scrollTop) list.scrollTop = chosen.offsetTop;
      const over = chosen.offsetTop + chosen.offsetHeight - list.clientHeight;
      if (over > list.scrollTop) list.scrollTop = over;
    }
    by("where").textContent = rows.length ? `Case ${at + 1} of ${rows.length}` : "No case matches.";
  }

  function tellProgress() {
    const done = data.cases.filter((c) => verdictOf(c)), accepted = done.filter((c) => verdictOf(c) === "accept").length;
    by("progress").textContent = `${accepted} accepted, ${done.length - accepted} rejected, ${data.cases.length - done.length} without a verdict`;
  }

  // --- one case ---

  function strip(m, value) {
    const ns = "http://www.w3.org/2000/svg", [low, high] = m.axis;
    const x = (v) => 4 + 142 * Math.min(1, Math.max(0, (v - low) / (high - low)));
    const svg = document.createElementNS(ns, "svg");
    svg.setAttribute("class", "strip"); svg.setAttribute("viewBox", "0 0 150 16"); svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `5 to 95 % of the cases: ${m.inner.map((v) => v.toFixed(m.decimals)).join(" to ")}`);
    const path = (d, color, width) => {
      const p = document.createElementNS(ns, "path");
      p.setAttribute("d", d); p.setAttribute("stroke", color); p.setAttribute("stroke-width", width);
      svg.append(p);
    };
    path("M4 8H146", "#b7bdc5", 1);
    path(`M${x(m.inner[0])} 8H${x(m.inner[1])}`, "#56b4e9", 7);
    path(`M${x(m.median)} 3V13`, "#57606a", 1);
    path(`M${x(value)} 1V15`, "#1b1f24", 3);
    return svg;
  }

  function valueRow(c, [k, value, low, high, cut]) {
    const m = data.measures[k], remarks = c.remarks[k] || [];
    const interval = low === null || high === null ? "" : `${low.toFixed(m.decimals)} to ${high.toFixed(m.decimals)}`;
    return make("tr", {}, make("th", { scope: "row" }, m.title), make("td", { class: "value" }, make("b", {}, value.toFixed(m.decimals))),
      make("td", { class: "interval" }, interval), make("td", {}, strip(m, value)),
      make("td", { class: "remark" }, [...remarks, cut].filter((t) => t).join("; ")));
  }

  function table(c, values, title) {
    const heads = ["Measure", "Value", "90 %", "Among the cases", "Remark"].map((t) => make("th", { scope: "col" }, t));
    return make("table", {}, make("caption", {}, title), make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...values.map((v) => valueRow(c, v))));
  }

  function drawCase() {
    const c = rows[at], box = by("case");
    if (!c) { box.replaceChildren(); return; }
    const home = encodeURIComponent(c.name), review = reviewOf(c);
    const button = (verdict, text) => make("button", { type: "button", id: verdict, "aria-pressed": String(verdictOf(c) === verdict), on: { click: () => judge(verdict) } }, text);
    const comment = make("textarea", { id: "comment", "aria-label": `Comment on ${c.name}`, placeholder: "comment", on: { change: (e) => { save(c, { comment: e.target.value }); drawList(); } } });
    comment.value = review.comment;
    const parts = [
      make("h3", {}, `${c.name}: ${c.status}`), make("p", { class: "sub" }, c.facts.join(" · ")),
      make("div", { class: "actions" }, button("accept", "Accept (a)"), button("reject", "Reject (r)"), make("span", { class: `verdict ${verdictOf(c)}` }, verdictText(c))), comment,
    ];
    if (isOld(c)) parts.push(make("p", { class: "notice" }, `The verdict "${review.verdict || "none"}" was given to an earlier result of this case: look again.`));
    if (c.message) parts.push(make("p", {}, c.message));
    const open = c.files.filter((f) => !["surfaces", "print"].includes(f));
    if (open.length) parts.push(make("ul", { class: "links" }, ...open.map((f) => make("li", {}, make("a", { href: `${home}/${f}`, target: "_blank", rel: "noopener" }, f)))));
    if (c.files.includes("preview.png")) parts.push(make("a", { href: `${home}/preview.png`, target: "_blank", rel: "noopener" }, make("img", { src: `${home}/preview.png`, alt: `Slices of ${c.name} with contours` })));
    parts.push(...c.findings.map(([severity, code, message]) => make("span", { class: `finding ${severity}` }, make("span", { class: "severity" }, severity), `${message} `, make("span", { class: "small" }, code))));
    const first = c.values.filter(([k]) => data.measures[k].key || c.remarks[k]), rest = c.values.filter(([k]) => !(data.measures[k].key || c.remarks[k]));
    if (first.length) parts.push(table(c, first, "Key measures, and those with a remark"));
    if (rest.length) parts.push(make("details", {}, make("summary", {}, `Other measures (${rest.length})`), table(c, rest, "Other measures")));
    box.replaceChildren(...parts);
    mark(c);
  }

  function mark(c) {
    const values = new Map(c.values.map(([k, value]) => [k, value]));
    for (const svg of document.querySelectorAll("svg[data-number]")) {
      const { low, high, left, right, number } = svg.dataset, value = values.get(Number(number));
      const share = value === undefined ? null : Math.min(1, Math.max(0, (value - low) / (high - low)));
      const x = Number(left) + (right - left) * share;
      svg.querySelector(".mark").setAttribute("d", share === null ? "" : `M${x} 12l-5-9h10z`);
    }
  }

  function go(place) {
    if (place < 0 || place >= rows.length) return;
    leaveComment();
    at = place;
    drawList();
    drawCase();
  }

  function leaveComment() {
    const box = by("comment");
    if (box && document.activeElement === box) box.blur();
  }

  function judge(verdict) {
    const c = rows[at];
    if (!c) return;
    leaveComment();
    const next = rows[at + 1];
    save(c, { verdict });
    if (by("shown").value) filter(verdict && next ? next.name : c.name);
    else if (verdict && next) go(at + 1);
    else { drawList(); drawCase(); }
  }

  function nextOpen() {
    const later = rows.findIndex((c, k) => k > at && !verdictOf(c));
    go(later >= 0 ? later : rows.findIndex((c) => !verdictOf(c)));
  }

  const keys = {
    j: () => go(at + 1), ArrowDown: () => go(at + 1), k: () => go(at - 1), ArrowUp: () => go(at - 1),
    a: () => judge("accept"), r: () => judge("reject"), u: () => judge(""), n: nextOpen,
    c: () => by("comment") && by("comment").focus(), "/": () => by("search").focus(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName);
    if (typing) {
      if (event.key === "Escape") { event.target.blur(); by("list").focus({ preventScroll: true }); }
      return;
    }
    if (!keys[event.key]) return;
    event.preventDefault();
    by("review").scrollIntoView({ block: "nearest" });
    keys[event.key]();
  });
  by("search").addEventListener("input", () => filter());
  by("shown").addEventListener("change", () => filter());
  by("download").addEventListener("click", download);
  for (const button of document.querySelectorAll("[data-filter], [data-status]")) {
    button.addEventListener("click", () => {
      by("search").value = button.dataset.filter || "";
      by("shown").value = button.dataset.status || "";
      filter();
      by("review").scrollIntoView();
    });
  }

  async function start() {
    if (served) {
      try {
        for (const [name, review] of Object.entries(await (await fetch("review")).json())) reviews.set(name, review);
        by("download").hidden = true;
      } catch (error) { say(`review.csv cannot be read (${error.message})`); }
    } else {
      for (const [name, review] of Object.entries(readStore())) if (review.time >= (reviews.get(name) || empty).time) reviews.set(name, review);
      tellStore();
    }
    tellProgress();
    filter();
    document.body.dataset.ready = "yes";
  }
  start();
})();
