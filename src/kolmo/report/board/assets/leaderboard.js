"use strict";
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  root.classList.add("js");
  const number = (value, digits = 0) =>
    value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const signed = (value, digits) => (value > 0 ? "+" : value < 0 ? "\u2212" : "") + number(Math.abs(value), digits);
  const make = (tag, content = "", className = "") => {
    const node = document.createElement(tag);
    node.textContent = content;
    if (className) node.className = className;
    return node;
  };

  // Tables: a click on a head sorts by its column, numbers upwards first; what has none stays at the end.
  const valueOf = (row, column, metric) => {
    const cell = row.cells[column];
    if (!cell) return "";
    const text = cell.dataset.m ? cell.dataset.m.split(" ")[metric] : cell.dataset.v;
    if (text === undefined) return cell.tagName === "TH" ? cell.textContent.trim().toLowerCase() : cell.textContent;
    return text === "-" ? "" : Number(text);
  };
  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
  const sort = (table, column, ascending) => {
    const rows = [...table.tBodies[0].rows];
    const metric = Number(table.dataset.measure || 0);
    const keyed = rows.map((row, place) => ({ row, place, value: valueOf(row, column, metric) }));
    keyed.sort((one, other) => {
      if ((one.value === "") !== (other.value === "")) return one.value === "" ? 1 : -1;
      return (ascending ? 1 : -1) * compare(one.value, other.value) || one.place - other.place;
    });
    table.tBodies[0].append(...keyed.map((item) => item.row));
    for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
    table.tHead.rows[0].cells[column].setAttribute("aria-sort", ascending ? "ascending" : "descending");
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, column, head.getAttribute("aria-sort") !== "ascending"));
    });
  }

  // The columns of corpora show any metric; what came with the page is kept for the way back.
  for (const choice of document.querySelectorAll("select[data-board]")) {
    const table = choice.closest("section").querySelector("table");
    const cells = [...table.querySelectorAll("td[data-m]")];
    const first = cells.map((cell) => [...cell.childNodes]);
    const show = () => {
      const metric = Number(choice.value);
      const home = choice.options[choice.selectedIndex].defaultSelected;
      const digits = Number(choice.options[choice.selectedIndex].dataset.digits);
      const least = new Map();
      for (const cell of cells) {
        const value = Number(cell.dataset.m.split(" ")[metric]);
        if (!(value >= (least.get(cell.cellIndex) ?? Infinity)) && !cell.classList.contains("other"))
          least.set(cell.cellIndex, value);
      }
      cells.forEach((cell, place) => {
        const text = cell.dataset.m.split(" ")[metric];
        const marks = first[place].filter((node) => node.nodeName === "SUP");
        if (home) cell.replaceChildren(...first[place]);
        else {
          const shown = text === "-" ? "" : Number(text) < 1e5 ? number(Number(text), digits) : Number(text).toExponential(2);
          cell.replaceChildren(...marks, make("b", shown));
        }
        if (cell.dataset.best === undefined) cell.dataset.best = cell.classList.contains("best") ? "1" : "";
        const rated = metric !== 5; // Min-K is no race
        cell.classList.toggle("best", home ? cell.dataset.best === "1" : rated && Number(text) === least.get(cell.cellIndex));
      });
      table.dataset.measure = metric;
    };
    choice.addEventListener("change", show);
    if (!choice.options[choice.selectedIndex].defaultSelected) show(); // kept by a reload
  }

  // Documents
  if (!$("x-data")) return;
  const data = JSON.parse($("x-data").textContent);
  const { edges, steps } = data;
  const inputs = { section: $("x-section"), corpus: $("x-corpus"), a: $("x-a"), b: $("x-b") };
  const views = [...document.querySelectorAll("input[name=x-view]")];
  const state = { section: 0, corpus: 0, a: 0, b: -1, document: -1, view: "a", order: "difference", up: false };

  const section = () => data.sections[state.section];
  const corpus = () => data.corpora[state.corpus];
  const cost = (model, place) => {
    const costs = model < 0 ? null : section().costs[state.corpus][model];
    return (costs && costs[place]) || null;
  };
  const name = (model) => section().models[model];

  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const halves = (text) => {
    const raw = bytes(text);
    return Array.from({ length: raw.length / 2 }, (_, at) => raw[2 * at] | (raw[2 * at + 1] << 8));
  };
  // Pieces of a document under a model: where each ends, in UTF-16 units, and its bits; null where it was not scored.
  const pieces = (found) => {
    const bits = halves(found.bits).map((value) => (value === 65535 ? null : value / 100));
    const lengths = found.wide ? halves(found.wide) : found.lengths ? bytes(found.lengths) : bits.map(() => 1);
    let end = 0;
    return bits.map((cost, at) => ({ start: end, end: (end += lengths[at]), bits: cost }));
  };
  // Pieces of both, joined until both end at one place: there the difference is exact.
  const joined = (one, other) => {
    const found = [];
    let [i, j, start] = [0, 0, 0];
    while (i < one.length && j < other.length) {
      let [a, b] = [one[i].bits, other[j].bits];
      while (one[i].end !== other[j].end) {
        if (one[i].end < other[j].end) {
          if (++i >= one.length) return found;
          a = a === null || one[i].bits === null ? null : a + one[i].bits;
        } else {
          if (++j >= other.length) return found;
          b = b === null || other[j].bits === null ? null : b + other[j].bits;
        }
      }
      found.push({ start, end: one[i].end, a, b, bits: a === null || b === null ? null : a - b });
      start = one[i].end;
      i += 1;
      j += 1;
    }
    return found;
  };

  // Characters that show nothing, or must not act, appear as escapes; a line end keeps its sign.
  const odd = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}\p{Zl}\p{Zp}]/u;
  const print = (node, text) => {
    let plain = "";
    const flush = () => {
      if (plain) node.append(plain);
      plain = "";
    };
    for (const character of text) {
      if (character === "\n") {
        flush();
        node.append(make("em", "\u21b5"), "\n");
      } else if (character === "\t" || !odd.test(character)) plain += character;
      else {
        flush();
        const code = character.codePointAt(0);
        node.append(make("em", code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`));
      }
    }
    flush();
  };
  const clean = (text) => {
    const node = document.createElement("span");
    print(node, text);
    return node.textContent.replaceAll("\u21b5\n", " ");
  };

  const level = (bits) => edges.filter((edge) => bits >= edge).length;
  const shade = (bits) => {
    const depth = steps.filter((step) => Math.abs(bits) >= step).length;
    return depth ? `${bits < 0 ? "a" : "b"}${depth}` : "";
  };
  const draw = (text, parts, colour) => {
    const box = make("div", "", "text");
    parts.forEach((part, at) => {
      const node = make("i", "", part.bits === null ? "none" : colour(part.bits));
      node.dataset.at = at;
      print(node, text.slice(part.start, part.end));
      box.append(node);
    });
    box.parts = parts;
    return box;
  };

  const fill = (select, names, chosen) => {
    select.replaceChildren(
      ...names.map(([value, label]) => {
        const option = make("option", label);
        option.value = value;
        option.selected = value === chosen;
        return option;
      }),
    );
  };
  const here = () => section().models.map((_, at) => at).filter((at) => section().costs[state.corpus][at]);
  const settle = () => {
    if (!section().costs[state.corpus].some(Boolean)) state.corpus = section().costs.findIndex((one) => one.some(Boolean));
    const models = here();
    if (!models.includes(state.a)) state.a = models[0];
    if (state.b >= 0 && (!models.includes(state.b) || state.b === state.a)) state.b = models.find((at) => at !== state.a) ?? -1;
    if (state.b < 0) state.view = "a";
    if (state.document >= corpus().documents.length) state.document = -1; // the first of the list
  };

  const gap = (place) => {
    const [a, b] = [cost(state.a, place), cost(state.b, place)];
    return a && b ? a.bpc - b.bpc : null;
  };
  const list = () => {
    const both = state.b >= 0;
    const columns = [
      ["name", "document"],
      ["a", "A"],
      ...(both ? [["b", "B"], ["difference", "A \u2212 B"]] : []),
    ];
    if (!columns.some(([key]) => key === state.order)) [state.order, state.up] = ["a", false];
    const value = (place) => {
      if (state.order === "name") return clean(corpus().documents[place].name).toLowerCase();
      if (state.order === "difference") return gap(place);
      return cost(state.order === "a" ? state.a : state.b, place)?.bpc ?? null;
    };
    const order = corpus().documents.map((_, place) => place);
    order.sort((one, other) => {
      const [x, y] = [value(one), value(other)];
      if (x === null || y === null) return (x === null) - (y === null);
      const size = state.order === "difference" ? Math.abs(x) - Math.abs(y) : compare(x, y);
      return (state.up ? 1 : -1) * size || one - other;
    });
    if (state.document < 0) state.document = order[0];
    const head = $("x-list").tHead.rows[0];
    head.replaceChildren(
      ...columns.map(([key, label]) => {
        const cell = make("th", "", key === "name" ? "" : "num");
        const button = make("button", label);
        button.type = "button";
        cell.scope = "col";
        cell.append(button);
        if (key === state.order) cell.setAttribute("aria-sort", state.up ? "ascending" : "descending");
        button.addEventListener("click", () => {
          state.up = key === state.order ? !state.up : key === "name";
          state.order = key;
          list();
        });
        return cell;
      }),
    );
    $("x-list").tBodies[0].replaceChildren(
      ...order.map((place) => {
        const row = make("tr", "", place === state.document ? "on" : "");
        const title = make("th");
        const button = make("button", clean(corpus().documents[place].name));
        button.type = "button";
        title.scope = "row";
        title.title = clean(corpus().documents[place].name);
        title.append(button);
        const cells = [cost(state.a, place)?.bpc, ...(both ? [cost(state.b, place)?.bpc, gap(place)] : [])];
        row.append(
          title,
          ...cells.map((cell, at) => make("td", cell === undefined || cell === null ? "" : at === 2 ? signed(cell, 3) : number(cell, 3))),
        );
        row.addEventListener("click", () => {
          state.document = place;
          show();
        });
        return row;
      }),
    );
  };

  const legend = () => {
    const labels = [`< ${edges[0]}`, ...edges.map((edge, at) => (at + 1 < edges.length ? `${edge}\u2013${edges[at + 1]}` : `\u2265 ${edge}`))];
    const rows = document.createElement("ul");
    if (state.view === "difference") {
      rows.append(make("li", "bits:", "word"));
      [...steps.keys()].reverse().forEach((at) => rows.append(make("li", `\u2264 \u2212${steps[at]}`, `a${at + 1}`)));
      rows.append(make("li", "even"));
      steps.forEach((step, at) => rows.append(make("li", `\u2265 ${step}`, `b${at + 1}`)));
      rows.append(make("li", "\u00a0 blue: A is better", "word"));
    } else {
      rows.append(make("li", "bits of each token:", "word"), ...labels.map((label, at) => make("li", label, `c${at}`)));
    }
    $("x-legend").replaceChildren(rows);
  };

  const panel = (model, text, place) => {
    const box = document.createElement("section");
    const found = cost(model, place);
    const letter = model === state.a ? "A" : "B";
    box.append(make("h4", `${state.b < 0 ? "" : `${letter}: `}${clean(name(model))}${found ? `, ${number(found.bpc, 4)}` : ""}`));
    if (!found) box.append(make("p", "was not evaluated on this corpus."));
    else if (!found.bits) box.append(make("p", "gives one number for a document, not one for each token."));
    else box.append(draw(text, pieces(found), (bits) => `c${level(bits)}`));
    return box;
  };
  const read = () => {
    const shown = corpus().documents[state.document];
    const place = state.document;
    const costs = make("ul", "", "costs");
    const models = here().filter((at) => cost(at, place));
    models.sort((one, other) => cost(one, place).bpc - cost(other, place).bpc);
    for (const at of models) {
      const item = make("li", `${clean(name(at))} `);
      item.append(make("b", number(cost(at, place).bpc, 4)));
      costs.append(item);
    }
    const part = shown.cut ? `, of which the first ${number(Array.from(shown.text).length)} are shown` : "";
    const about = shown.about ? `${clean(shown.about)} \u00b7 ` : "";
    $("x-head").replaceChildren(
      make("h3", clean(shown.name)),
      make("p", `${about}${number(shown.characters)} characters${part}`, "note"),
      costs,
    );
    const box = $("x-text");
    box.className = state.view === "both" ? "both" : "";
    if (shown.text === null) {
      $("x-legend").replaceChildren();
      box.replaceChildren(make("p", "Its text was not kept."));
      return;
    }
    legend();
    const [a, b] = [cost(state.a, place), cost(state.b, place)];
    if (state.view === "difference") {
      const part = document.createElement("section");
      part.append(make("h4", `${clean(name(state.a))} \u2212 ${clean(name(state.b))}`));
      if (a && b && a.bits && b.bits) part.append(draw(shown.text, joined(pieces(a), pieces(b)), shade));
      else part.append(make("p", "One of the two gives no costs of tokens."));
      box.replaceChildren(part);
    } else {
      const wanted = state.view === "both" ? [state.a, state.b] : [state.a];
      box.replaceChildren(...wanted.map((model) => panel(model, shown.text, place)));
    }
  };

  const show = () => {
    hide();
    settle();
    fill(inputs.section, data.sections.map((one, at) => [at, one.title]), state.section);
    const corpora = data.corpora.map((one, at) => [at, one.name]).filter(([at]) => section().costs[at].some(Boolean));
    fill(inputs.corpus, corpora.map(([at, label]) => [at, clean(label)]), state.corpus);
    const models = here().map((at) => [at, clean(name(at))]);
    fill(inputs.a, models, state.a);
    fill(inputs.b, [[-1, "none"], ...models.filter(([at]) => at !== state.a)], state.b);
    inputs.section.parentNode.hidden = data.sections.length < 2;
    inputs.section.parentNode.style.display = data.sections.length < 2 ? "none" : "";
    for (const view of views) {
      view.checked = view.value === state.view;
      view.disabled = view.value !== "a" && state.b < 0;
    }
    list();
    read();
  };
  for (const [key, select] of Object.entries(inputs)) {
    select.addEventListener("change", () => {
      state[key] = Number(select.value);
      if (key === "b" && state.b >= 0 && state.view === "a") state.view = "difference";
      if (key === "corpus" || key === "section") state.document = -1;
      show();
      keep();
    });
  }
  for (const view of views) {
    view.addEventListener("change", () => {
      state.view = view.value;
      show();
      keep();
    });
  }

  // A link to what is shown: #documents?corpus=0&document=3&a=0&b=1&view=both
  const keep = () => {
    const { section, corpus, document, a, b, view } = state;
    const query = new URLSearchParams({ section, corpus, document, a, b, view });
    try {
      history.replaceState(null, "", `#documents?${query}`);
    } catch {
      // a page from a file may not
    }
  };
  const recall = () => {
    const [anchor, query] = location.hash.slice(1).split("?");
    if (anchor !== "documents" || !query) return false;
    const given = new URLSearchParams(query);
    const limits = { section: data.sections.length, corpus: data.corpora.length, a: Infinity, b: Infinity, document: Infinity };
    for (const [key, limit] of Object.entries(limits)) {
      const value = Number(given.get(key) ?? NaN);
      if (Number.isInteger(value) && value >= (key === "b" ? -1 : 0) && value < limit) state[key] = value;
    }
    if (views.some((view) => view.value === given.get("view"))) state.view = given.get("view");
    return true;
  };

  // The tip: what a token costs, and under the other model what overlaps it.
  const tip = $("tip");
  const hide = () => {
    tip.style.display = "none";
    for (const node of document.querySelectorAll(".text i.on, .text i.near")) node.classList.remove("on", "near");
  };
  const point = (node) => {
    hide();
    const box = node.parentNode;
    const part = box.parts[Number(node.dataset.at)];
    node.classList.add("on");
    const text = corpus().documents[state.document].text.slice(part.start, part.end);
    const quoted = JSON.stringify(clean(text)).replaceAll("\\\\", "\\");
    tip.replaceChildren();
    if (part.bits === null) tip.append(make("strong", "not scored"));
    else if ("a" in part) {
      tip.append(make("strong", `${signed(part.bits, 2)} bits`), make("span", `A ${number(part.a, 2)}, B ${number(part.b, 2)}`));
    } else {
      tip.append(make("strong", `${number(part.bits, 2)} bits`), make("span", `probability ${(2 ** -part.bits).toPrecision(2)}`));
    }
    tip.append(make("span", quoted));
    for (const other of document.querySelectorAll("#x-text .text")) {
      if (other === box) continue;
      const near = other.parts.map((one, at) => [one, at]).filter(([one]) => one.start < part.end && one.end > part.start);
      for (const [, at] of near) other.children[at].classList.add("near");
      const scored = near.filter(([one]) => one.bits !== null);
      const sum = scored.reduce((total, [one]) => total + one.bits, 0);
      const tokens = near.length === 1 ? "one token" : `${near.length} tokens`;
      tip.append(make("span", `there: ${number(sum, 2)} bits in ${tokens}`));
    }
    tip.style.display = "block";
    const spot = node.getClientRects()[0] || node.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, spot.left), root.clientWidth - size.width - 8);
    const above = spot.top - size.height - 6;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 8 ? above : spot.bottom + 6}px`;
  };
  const tokenAt = (event) => event.target.closest("#x-text .text > i");
  $("x-text").addEventListener("pointerover", (event) => {
    const node = tokenAt(event);
    if (node) point(node);
    else hide();
  });
  $("x-text").addEventListener("pointerleave", hide);
  $("x-text").addEventListener("click", (event) => tokenAt(event) && point(tokenAt(event)));
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());

  const models = here();
  if (models.length > 1) {
    const able = models.filter((at) => section().costs[state.corpus][at].some((one) => one && one.bits));
    [state.a, state.b] = able.length > 1 ? able : models;
    state.view = able.length > 1 ? "difference" : "a";
  }
  const linked = recall();
  show();
  if (linked) $("documents").scrollIntoView();
  window.addEventListener("hashchange", () => recall() && show());
})();
