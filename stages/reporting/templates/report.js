"use strict";
// Sorts tables, draws charts when they come into view, switches colours. Vega is the only library.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // On a telephone sections open on demand.
  if (matchMedia("(max-width: 40rem)").matches) {
    for (const fold of all("details.fold, details.model")) fold.open = false;
  }
  // Sortable tables: https://www.w3.org/WAI/ARIA/apg/patterns/table/examples/sortable-table/
  function sortBy(head) {
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => {
      const cell = row.cells[column];
      const number = cell.dataset.value;
      return { row, number: number === undefined ? null : Number(number), text: cell.textContent.trim() };
    });
    const compare = (a, b) =>
      a.number !== null && b.number !== null
        ? a.number - b.number
        : a.text.localeCompare(b.text, "en", { numeric: true });
    const empty = (entry) => entry.text === "-"; // last in both directions
    rows.sort((a, b) => empty(a) - empty(b) || (down ? compare(b, a) : compare(a, b)));
    body.append(...rows.map((entry) => entry.row));
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("th button");
    if (button) sortBy(button.closest("th"));
  });

  // Colours.
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  function config() {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = { labelColor: colour("text"), titleColor: colour("text"),
      gridColor: colour("line"), domainColor: colour("faint"), tickColor: colour("faint") };
    const font = getComputedStyle(document.body).fontFamily;
    return {
      background: null, font, axis,
      legend: { labelColor: colour("text"), titleColor: colour("text") },
      view: { stroke: null },
      ...THEMES[isDark() ? "dark" : "light"], // of theme.py
    };
  }

  // Charts.
  const views = new Map(); // figure -> what vegaEmbed returned
  const pending = new Set(); // figures in view that are being drawn
  const specification = (figure) => JSON.parse(one("script", figure).textContent);
  async function draw(figure) {
    if (pending.has(figure)) return;
    pending.add(figure);
    views.get(figure)?.finalize();
    const spec = specification(figure);
    const caption = one("figcaption", figure).textContent.trim().replace(/\s+/g, " ");
    spec.description = caption;
    const options = { mode: "vega-lite", renderer: "svg", actions: false, config: config(),
      tooltip: { theme: isDark() ? "dark" : "light" } };
    const result = await vegaEmbed(one(".plot", figure), spec, options);
    views.set(figure, result);
    shareChoice(result.view);
    const fields = zoomedFields(spec);
    if (!one(".tools", figure) && fields.length) addTools(figure, fields);
    pending.delete(figure);
    figure.dataset.drawn = "true";
  }
  // The variants that a click in a legend singles out are so in all charts that have them.
  let chosen = [];
  const hasChoice = (view) => "of_store" in view.getState({ data: () => true, signals: () => false }).data;
  function shareChoice(view) {
    if (!hasChoice(view)) return;
    if (chosen.length) view.data("of_store", chosen).runAsync();
    view.addDataListener("of_store", (_, tuples) => {
      const plain = tuples.map(({ fields, values }) => ({ unit: "", fields, values }));
      if (JSON.stringify(plain.map((t) => t.values)) === JSON.stringify(chosen.map((t) => t.values))) return;
      chosen = plain;
      for (const other of views.values()) {
        if (other.view !== view && hasChoice(other.view)) other.view.data("of_store", chosen).runAsync();
      }
    });
  }
  // The fields whose axes zoom, that of the horizontal one first.
  function zoomedFields(spec) {
    const zoom = (spec.params ?? []).find((param) => param.name === "zoom");
    if (!zoom) return [];
    const view = (spec.layer ?? []).find((layer) => zoom.views?.includes(layer.name)) ?? spec;
    return zoom.select.encodings.map((channel) => view.encoding[channel].field);
  }
  function addTools(figure, fields) {
    const tools = document.createElement("div");
    tools.className = "tools";
    const name = one("strong", figure).textContent;
    for (const [sign, words, act] of [["+", "Zoom in", 0.6], ["−", "Zoom out", 1 / 0.6], ["↺", "Whole chart", 0]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = sign;
      button.setAttribute("aria-label", `${words}: ${name}`);
      button.title = words;
      button.addEventListener("click", () => zoom(views.get(figure).view, fields, act));
      tools.append(button);
    }
    one(".plot", figure).before(tools);
  }
  // Zooms around the middle of the visible range, also on logarithmic axes; factor 0 shows all.
  function zoom(view, fields, factor) {
    fields.forEach((field, number) => {
      const scale = view.scale(number ? "y" : "x");
      const [start, end] = scale.range();
      const middle = (start + end) / 2;
      const half = ((end - start) / 2) * factor;
      const domain = [scale.invert(middle - half), scale.invert(middle + half)];
      view.signal(`zoom_${field}`, factor ? domain : null);
    });
    view.runAsync();
  }

  // The data of a chart as a table, made when it is opened.
  function listValues(details) {
    if (one("table", details)) return;
    const rows = specification(details.closest("figure")).data.values;
    const names = Object.keys(rows[0] ?? {});
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const name of names) {
      const cell = document.createElement("th");
      const button = document.createElement("button");
      cell.scope = "col";
      button.type = "button";
      button.textContent = name.replaceAll("_", " ");
      cell.append(button);
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      for (const name of names) {
        const cell = line.insertCell();
        const value = row[name];
        cell.textContent = value ?? "-";
        if (typeof value === "number") {
          // Shares can have many digits.
          if (!Number.isInteger(value)) cell.textContent = Number(value.toPrecision(4));
          cell.dataset.value = value;
          cell.className = "number";
        }
      }
    }
    const frame = document.createElement("div");
    frame.className = "table";
    frame.tabIndex = 0;
    frame.append(table);
    details.append(frame);
  }
  for (const details of all(".values")) {
    details.addEventListener("toggle", () => details.open && listValues(details));
  }

  const figures = all(".chart");
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "300px" });
  figures.forEach((figure) => seen.observe(figure));
  addEventListener("beforeprint", () => {
    for (const figure of figures) if (!views.has(figure)) draw(figure);
  });

  // The colour switch: system, light, dark.
  const themes = ["auto", "light", "dark"];
  const button = one("#theme");
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* a page of a file may have none */ }
  function show(theme) {
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `Colours: ${theme}`;
    button.setAttribute("aria-label", `Colours: ${theme === "auto" ? "system" : theme}`);
    for (const figure of views.keys()) draw(figure);
  }
  button.addEventListener("click", () => {
    const theme = themes[(themes.indexOf(root.dataset.theme ?? "auto") + 1) % themes.length];
    try { localStorage.setItem("theme", theme); } catch { /* as above */ }
    show(theme);
  });
  dark.addEventListener("change", () => show(root.dataset.theme ?? "auto"));
  if (themes.includes(kept)) show(kept);

  // Contents: folded on small screens; the section in view is marked; a link opens its model.
  const narrow = matchMedia("(max-width: 60rem)");
  const contents = one("#contents");
  const fold = () => { contents.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const marker = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      links.get(entry.target.id)?.setAttribute("aria-current", String(entry.isIntersecting));
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  all("section").forEach((section) => marker.observe(section));
  function openTarget() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folds = target ? [one(":scope > details.fold", target.closest("section")), target] : [];
    for (const fold of folds) if (fold instanceof HTMLDetailsElement) fold.open = true;
    target?.scrollIntoView();
  }
  addEventListener("hashchange", openTarget);
  openTarget();
})();
