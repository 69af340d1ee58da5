"use strict";
// What the page adds to what stands in it: without this script all tables and pictures are still there to read.
(() => {
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...inside) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name in element && typeof value !== "string") element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...inside);
    return element;
  };

  // Light and dark ------------------------------------------------------------------------------------------------
  const root = document.documentElement, theme = document.getElementById("theme");
  const stored = () => { try { return localStorage.getItem("assay-theme"); } catch { return null; } };
  const redraw = [];
  const paint = (dark) => {
    root.dataset.theme = dark ? "dark" : "light";
    theme.setAttribute("aria-pressed", String(dark));
    redraw.forEach((draw) => draw());
  };
  paint((stored() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark");
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme !== "dark";
    paint(dark);
    try { localStorage.setItem("assay-theme", dark ? "dark" : "light"); } catch { /* a page from disk may keep nothing */ }
  });

  // Dialog --------------------------------------------------------------------------------------------------------
  const dialog = document.getElementById("details"), inside = dialog.querySelector(".inside");
  const show = (title, ...content) => {
    document.getElementById("details-title").textContent = title;
    inside.replaceChildren(...content);
    if (!dialog.open) dialog.showModal();
    inside.scrollTop = 0;
  };
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    if (location.hash.startsWith("#record-")) history.replaceState(null, "", location.pathname + location.search);
  });

  // What is behind a number ---------------------------------------------------------------------------------------
  const behind = JSON.parse(document.getElementById("records").textContent);
  const list = (part) => make("dl", {}, ...Object.entries(part).flatMap(
    ([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
  const open = (id) => {
    const record = Object.hasOwn(behind.records ?? {}, id) ? behind.records[id] : null;
    if (!record) return false;
    const copy = make("button", { type: "button" }, "Copy");
    copy.addEventListener("click", () => navigator.clipboard?.writeText(record.command).then(
      () => { copy.textContent = "Copied"; }, () => { copy.textContent = "Select the text to copy it"; }));
    const parts = record.parts.flatMap(([heading, index]) => [make("h3", {}, heading), list(behind.parts[index])]);
    show(record.title, make("h3", {}, "Command"), make("pre", { class: "command" }, record.command), copy, ...parts);
    return true;
  };

  // Addresses of rows and numbers ---------------------------------------------------------------------------------
  const follow = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    all(".opened").forEach((row) => row.classList.remove("opened"));
    if (!id || open(id)) return;
    const place = document.getElementById(id);
    if (place?.tagName !== "TR") return;
    const table = place.closest("table");
    table.dispatchEvent(new Event("clear"));
    const button = place.closest("tbody").querySelector("button.seeds");
    if (button && button.getAttribute("aria-expanded") === "false") button.click();
    place.classList.add("opened");
    place.scrollIntoView({ block: "center" });
    place.querySelector("a").focus({ preventScroll: true });
  };
  addEventListener("hashchange", follow);

  // Tables --------------------------------------------------------------------------------------------------------
  const key = (cell) => {
    if (!cell) return NaN;
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim().replace(/,(?=\d{3})/g, "");
    return /^[-+]?[\d.]/.test(text) ? parseFloat(text) : text === "-" || text === "" ? NaN : text;
  };
  const compare = (a, b) => {
    const absent = (value) => typeof value === "number" && isNaN(value);
    if (absent(a) || absent(b)) return absent(a) - absent(b);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  // A spreadsheet takes text that begins like this for a formula.
  const inert = (text) => (/^[=+\-@\t\r]/.test(text) && isNaN(Number(text)) ? `'${text}` : text);
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  const enhance = (table) => {
    const board = table.classList.contains("leaderboard");
    const heads = all("thead th", table), titles = heads.map((head) => head.textContent.trim());
    const units = board ? [...table.tBodies] : [...table.tBodies[0].rows];
    if (units.length < 2 && !board) return;
    const first = (unit) => (board ? unit.rows[0] : unit);
    const hidden = new Set();
    const tools = make("div", { class: "tools", role: "group", "aria-label": `Tools of the table: ${table.caption.textContent}` });
    const count = make("span", { class: "count", role: "status" });

    const searched = make("input", { type: "search", placeholder: "e.g. vae" });
    const filter = () => {
      const words = searched.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const unit of units) {
        const text = unit.textContent.toLowerCase();
        unit.hidden = !words.every((word) => text.includes(word));
        left += !unit.hidden;
      }
      count.textContent = `${left} of ${units.length} rows`;
    };
    searched.addEventListener("input", filter);
    table.addEventListener("clear", () => { searched.value = ""; filter(); });

    heads.forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      const better = head.dataset.better;
      button.addEventListener("click", () => {
        const before = head.getAttribute("aria-sort");
        const start = better === "higher" ? "descending" : "ascending";
        const way = !before ? start : before === "ascending" ? "descending" : "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", way);
        const sign = way === "ascending" ? 1 : -1;
        const keyed = units.map((unit, i) => [key(first(unit).cells[column]), i, unit]);
        keyed.sort(([a, i], [b, j]) => {
          const missing = [a, b].some((value) => typeof value === "number" && isNaN(value));
          return (missing ? 1 : sign) * compare(a, b) || i - j;
        });
        const parent = board ? table : table.tBodies[0];
        parent.append(...keyed.map(([, , unit]) => unit));
      });
    });

    const columns = make("div", { class: "columns" });
    titles.forEach((title, column) => {
      if (!column) return;
      const box = make("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        box.checked ? hidden.delete(column) : hidden.add(column);
        for (const row of table.rows) if (row.cells[column]) row.cells[column].hidden = hidden.has(column);
      });
      columns.append(make("label", {}, box, title));
    });

    const download = make("button", { type: "button", class: "csv" }, "Download csv");
    download.addEventListener("click", () => {
      const rows = [[]], kept = titles.map((_, i) => i).filter((i) => !hidden.has(i));
      const numbers = ["value", "low", "high", "floor"];
      const partsOf = new Map(kept.map((i) => [i, numbers.filter((name) => all("tbody tr", table).some((row) => row.cells[i]?.dataset[name] !== undefined))]));
      for (const i of kept) {
        const parts = partsOf.get(i);
        if (parts.length) rows[0].push(...parts.map((name) => (name === "value" ? titles[i] : `${titles[i]} ${name}`)));
        else rows[0].push(titles[i]);
      }
      for (const row of all("tbody tr", table)) {
        if (row.hidden || row.parentElement.hidden) continue;
        const line = [];
        for (const i of kept) {
          const cell = row.cells[i], parts = partsOf.get(i);
          if (parts.length) line.push(...parts.map((name) => cell.dataset[name] ?? ""));
          else line.push([...cell.childNodes].filter((node) => !node.matches?.(".permalink, button")).map((node) => node.textContent).join("").trim());
        }
        rows.push(line);
      }
      const text = rows.map((row) => row.map((cell) => quoted(inert(cell))).join(",")).join("\n") + "\n";
      const address = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      make("a", { href: address, download: `${table.dataset.name ?? "table"}.csv` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    });

    tools.append(make("label", {}, "Filter", searched));
    if (titles.length > 2) tools.append(make("details", {}, make("summary", {}, "Columns"), columns));
    tools.append(download);
    const several = all("button.seeds", table);
    if (several.length) {
      const box = make("input", { type: "checkbox" });
      box.addEventListener("change", () => several.forEach(
        (button) => { if ((button.getAttribute("aria-expanded") === "true") !== box.checked) button.click(); }));
      tools.append(make("label", {}, box, "Single seeds"));
    }
    several.forEach((button) => button.addEventListener("click", () => {
      const opened = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(opened));
      all("tr.seed", button.closest("tbody")).forEach((row) => { row.hidden = !opened; });
    }));
    tools.append(count);
    filter();
    table.closest(".wide").before(tools);
  };
  all("table.data").forEach(enhance);

  // Pictures open large; where a picture says something of each sample, they stand apart, each above its words ------
  all("button.enlarge").forEach((button) => button.addEventListener("click", () => {
    const image = button.querySelector("img"), content = [];
    if (button.dataset.sheet) {
      const { size, gap, labels } = JSON.parse(button.dataset.sheet);
      labels.forEach((row, y) => {
        const tiles = row.map((label, x) => {
          const tile = make("canvas", { width: size, height: size, role: "img", "aria-label": label });
          const at = [x * (size + gap), y * (size + gap), size, size];
          tile.getContext("2d").drawImage(image, ...at, 0, 0, size, size);
          return make("li", {}, tile, label);
        });
        const list = make("ul", { class: "sheet" }, ...tiles);
        list.style.setProperty("--across", Math.min(row.length, 12));
        content.push(list);
      });
    } else content.push(make("img", { src: image.src, alt: image.alt }));
    show(image.alt, ...content);
  }));

  // Plots ---------------------------------------------------------------------------------------------------------
  const ink = () => {
    const style = getComputedStyle(root), colour = (name) => style.getPropertyValue(name).trim();
    const text = { labelColor: colour("--ink"), titleColor: colour("--ink") };
    return {
      background: "transparent", view: { stroke: colour("--line") },
      axis: { ...text, gridColor: colour("--faint"), domainColor: colour("--line"), tickColor: colour("--line") },
      legend: text, header: text, title: { color: colour("--ink") }, rule: { color: colour("--soft") },
    };
  };
  const read = (figure) => {
    const spec = JSON.parse(figure.querySelector("script").textContent), { packed, count } = spec.data;
    spec.data = { values: Array.from({ length: count }, (_, i) => Object.fromEntries(Object.entries(packed).map(
      ([name, column]) => [name, Array.isArray(column) ? column[i] : column.of[column.at[i]]]))) };
    return spec;
  };
  const draw = (figure) => {
    const spec = read(figure), canvas = figure.querySelector(".canvas"), width = figure.clientWidth;
    canvas.classList.toggle("fits", spec.width === "container");
    spec.config = ink();
    if (spec.spec) {
      const room = width - spec.usermeta.left, gap = 26;
      const fit = Math.max(1, Math.floor(room / (spec.usermeta.least + gap)));
      spec.columns = Math.min(spec.columns, fit);
      spec.spec.width = Math.min(320, Math.max(100, Math.floor(room / spec.columns) - gap));
    }
    const across = Math.max(1, Math.floor(width / 230));
    spec.config.legend = { ...spec.config.legend, columns: across, labelLimit: Math.min(300, width - 60), symbolOpacity: 1 };
    spec.description = figure.querySelector("figcaption").firstChild.textContent.trim();
    const options = { ast: true, renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
    return vegaEmbed(canvas, spec, options).then(() => {
      canvas.querySelector("summary")?.setAttribute("aria-label", "Save this plot as a picture");
      figure.dataset.drawn = root.dataset.theme;
    },
      (error) => { canvas.textContent = `This plot could not be drawn: ${error.message}`; });
  };
  const drawn = new Set();
  const seen = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
    if (!isIntersecting || drawn.has(target)) return;
    drawn.add(target);
    draw(target);
  }), { rootMargin: "400px" });
  all("figure.plot").forEach((figure) => {
    seen.observe(figure);
    figure.querySelector("button.numbers").addEventListener("click", () => {
      const rows = read(figure).data.values;
      const known = new Set(rows.flatMap(Object.keys));
      const names = [...known].filter((name) => !["joined", "dash"].includes(name) && rows.some((row) => (row[name] ?? "") !== ""));
      const body = rows.map((row) => make("tr", {}, ...names.map((name, i) => make(i ? "td" : "th", i ? {} : { scope: "row" }, String(row[name] ?? "")))));
      const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
      const title = figure.querySelector("figcaption").firstChild.textContent.trim();
      show(title, make("table", {}, make("caption", {}, title), make("thead", {}, head), make("tbody", {}, ...body)));
    });
  });
  redraw.push(() => drawn.forEach(draw));
  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => drawn.forEach(draw), 200); });

  addEventListener("load", follow); // after the browser's own jump to the address
  root.dataset.ready = String(Math.round(performance.now()));
})();
