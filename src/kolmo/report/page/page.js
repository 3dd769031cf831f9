"use strict";
(() => {
  const text = document.getElementById("text");
  const tip = document.getElementById("tip");
  const encoder = new TextEncoder();
  document.documentElement.classList.add("js");

  const number = (value, digits = 0) =>
    value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const make = (tag, content, className) => {
    const node = document.createElement(tag);
    node.textContent = content;
    if (className) node.className = className;
    return node;
  };

  // A token's costs are thousandths of bits, one for each character; a row of a hex dump holds those of its bytes.
  const isHex = (token) => token.parentNode.parentNode.classList.contains("h");
  const costs = (token) => {
    if (!isHex(token)) return token.dataset.b.split(",").map(Number);
    const all = token.parentNode.parentNode.dataset.b.split(",");
    return [Number(all[[...token.parentNode.children].indexOf(token)])];
  };
  const size = (token) => {
    if (token.dataset.n) return Number(token.dataset.n);
    if (token.classList.contains("n") || isHex(token)) return 1;
    return encoder.encode(token.textContent).length;
  };
  const visible = { " ": "\u2423", "\u00a0": "\u2423", "\t": "\u21e5" };
  const characters = (token) => {
    if (token.classList.contains("n")) return ["line end"];
    if (token.classList.contains("e") || isHex(token)) return [token.textContent];
    return Array.from(token.textContent, (one) => visible[one] || one);
  };

  let current = null;
  let still = false; // the page moved under the pointer, which must not take over from the keyboard
  const hide = () => {
    if (current) current.classList.remove("on");
    current = null;
    tip.style.display = "none";
  };
  const show = (token, byKey) => {
    if (current === token) return;
    hide();
    current = token;
    still = byKey;
    if (byKey) token.classList.add("on");
    const row = token.closest(".r");
    let offset = Number(row.dataset.o);
    for (let other = token.previousElementSibling; other; other = other.previousElementSibling) offset += size(other);
    const each = costs(token);
    const total = each.reduce((sum, cost) => sum + cost, 0) / 1000;
    const last = offset + size(token) - 1;
    const where = last > offset ? `bytes ${number(offset)} to ${number(last)}` : `byte ${number(offset)}`;
    const line = row.dataset.l ? `, line ${number(Number(row.dataset.l))}` : "";
    const names = characters(token);
    const title = each.length > 1 ? "" : isHex(token) ? `0x${names[0]}: ` : `${names[0]}: `;
    tip.replaceChildren(make("strong", `${title}${number(total, 2)} bits`), make("span", where + line));
    if (each.length > 1) {
      const most = Math.max(...each, 4000);
      const list = document.createElement("ol");
      each.forEach((cost, at) => {
        const item = document.createElement("li");
        const bar = make("s", "");
        bar.style.height = `${((36 * cost) / most).toFixed(1)}px`;
        item.append(bar, make("b", names[at]), make("span", number(cost / 1000, cost < 9950 ? 1 : 0)));
        list.append(item);
      });
      tip.append(list);
    }
    tip.style.display = "block";
    const spot = token.getClientRects()[0] || token.getBoundingClientRect();
    const box = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, spot.left), document.documentElement.clientWidth - box.width - 8);
    const above = spot.top - box.height - 6;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 8 ? above : spot.bottom + 6}px`;
  };

  const tokenAt = (event) => event.target.closest("#text i");
  const point = (event) => {
    const token = tokenAt(event);
    if (token) show(token, false);
    else hide();
  };
  text.addEventListener("pointerover", (event) => still || point(event));
  document.addEventListener("pointermove", (event) => {
    if (!still || (!event.movementX && !event.movementY)) return;
    still = false;
    point(event);
  });
  text.addEventListener("pointerleave", () => still || hide());
  text.addEventListener("click", (event) => {
    const token = tokenAt(event);
    if (token) show(token, false);
  });
  document.addEventListener("scroll", () => current && !current.classList.contains("on") && hide(), { passive: true });

  // Arrows walk from token to token, up and down from row to row.
  const rows = [...text.querySelectorAll(".r[data-o]")];
  const tokensOf = (row) => [...row.querySelectorAll("code > i")];
  const beside = (token, step) => {
    const next = step > 0 ? token.nextElementSibling : token.previousElementSibling;
    if (next) return next;
    for (let at = rows.indexOf(token.closest(".r")) + step; rows[at]; at += step) {
      const tokens = tokensOf(rows[at]);
      if (tokens.length) return step > 0 ? tokens[0] : tokens[tokens.length - 1];
    }
    return token;
  };
  const below = (token, step) => {
    const goal = token.getBoundingClientRect().left;
    const row = rows[rows.indexOf(token.closest(".r")) + step];
    let best = token;
    let least = Infinity;
    for (const other of row ? tokensOf(row) : []) {
      const distance = Math.abs(other.getBoundingClientRect().left - goal);
      if (distance < least) [best, least] = [other, distance];
    }
    return best;
  };
  const moves = { ArrowRight: [beside, 1], ArrowLeft: [beside, -1], ArrowDown: [below, 1], ArrowUp: [below, -1] };
  text.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const move = moves[event.key];
    if (!move || event.target !== text || event.altKey || event.ctrlKey || event.metaKey) return;
    const top = rows.find((row) => row.getBoundingClientRect().bottom > 90);
    const next = current ? move[0](current, move[1]) : top && tokensOf(top)[0];
    event.preventDefault();
    if (!next) return;
    next.scrollIntoView({ block: "nearest" });
    const place = next.getBoundingClientRect();
    if (place.top < 160) window.scrollBy(0, place.top - 160); // from under the legend, with room for the tip
    show(next, true);
  });
  text.addEventListener("blur", hide);

  // Colour by character: split the tokens, and put them together again.
  const edges = text.dataset.edges.split(",").map(Number);
  const level = (cost) => edges.filter((edge) => cost >= 1000 * edge).length;
  const byCharacter = (wanted) => {
    hide();
    for (const token of text.querySelectorAll("code > i[data-b*=',']")) {
      if (!wanted) {
        token.textContent = token.textContent;
        token.className = token.dataset.k || "";
        continue;
      }
      const each = costs(token);
      token.dataset.k = token.className;
      token.className = "";
      token.replaceChildren(...Array.from(token.textContent, (one, at) => make("s", one, `c${level(each[at])}`)));
    }
  };
  for (const choice of document.querySelectorAll(".mode input")) {
    choice.addEventListener("change", () => byCharacter(choice.value === "character"));
    if (choice.checked && choice.value === "character") byCharacter(true); // kept by a reload
  }

  // The curve: what is under the pointer, and a click goes there.
  const plot = document.querySelector(".plot");
  if (!plot) return;
  const out = document.querySelector(".key output");
  const mark = plot.querySelector("hr");
  const points = plot.dataset.p.split(" ").map((pair) => pair.split(","));
  const share = (event) => {
    const box = plot.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 0.999999);
  };
  plot.addEventListener("pointermove", (event) => {
    const at = share(event);
    const [near, mean] = points[Math.floor(at * points.length)];
    mark.style.display = "block";
    mark.style.left = `${100 * at}%`;
    out.textContent = `byte ${number(Math.floor(at * Number(plot.dataset.n)))}: ${near} here, ${mean} from the start`;
  });
  plot.addEventListener("pointerleave", () => {
    mark.style.display = "none";
    out.textContent = "";
  });
  plot.addEventListener("click", (event) => {
    const offset = share(event) * Number(plot.dataset.n);
    const row = rows.filter((one) => Number(one.dataset.o) <= offset).pop() || rows[0];
    row.scrollIntoView({ block: "center" });
    const token = tokensOf(row)[0];
    if (token) show(token, true);
  });
})();
