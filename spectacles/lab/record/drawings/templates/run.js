// Draws the rows of one run or two. Whatever a program chose is put in as text, never as HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const $ = (selector) => document.querySelector(selector);
  const drawing = $("#drawing"), list = $(".rows"), panel = $(".panel"), where = $(".where");
  const two = data.sides.length > 1;
  const elements = [];     // by pair
  let now = -1, stepping = false, zoom = 1, view = 0;

  function make(tag, classes, text) {
    const element = document.createElement(tag);
    if (classes) element.className = classes;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Lanes: two columns each, so that an arrow goes from middle to middle.

  function columns() {
    data.sides.forEach((side, number) => {
      const tracks = side.lanes.map((lane) => lane.folded ? ".45em .45em" : "minmax(0, 1fr) minmax(0, 1fr)");
      root.style.setProperty("--lanes" + number, tracks.join(" "));
    });
  }

  function lanes(number) {
    const element = make("div", "lanes");
    element.style.gridTemplateColumns = "var(--lanes" + number + ")";
    return element;
  }

  const over = (lane) => (2 * lane + 1) + " / span 2";

  // A name may be folded at these signs too.
  function folding(element, text) {
    const pieces = text.split(/(?<=[_\-.:#])|(?=\/)/);
    pieces.forEach((piece, place) => element.append(...(place ? [make("wbr"), piece] : [piece])));
    return element;
  }

  function heads() {
    document.querySelectorAll(".head").forEach((head, number) => {
      const row = lanes(number);
      data.sides[number].lanes.forEach((lane, place) => {
        lane.folded = lane.dull;
        const name = make("button", "name " + (lane.task ? "task" : "thing"));
        name.type = "button";
        name.style.gridColumn = over(place);
        name.title = lane.label + " (" + lane.kind + ")";
        name.append(folding(make("b"), lane.label));
        lane.state = make("small", "", "");
        name.append(lane.state);
        const fold = () => {
          name.classList.toggle("folded", lane.folded);
          name.setAttribute("aria-expanded", String(!lane.folded));
          name.setAttribute("aria-label", (lane.folded ? "Déplier " : "Replier ") + lane.label);
        };
        name.addEventListener("click", () => { lane.folded = !lane.folded; fold(); columns(); fit(); });
        fold();
        row.append(name);
      });
      head.querySelector(".names").append(row);
    });
  }

  // Rows

  function cell(number, place) {
    const side = data.sides[number], row = side.rows[place];
    const element = make("div", "cell " + (row.kind || ""));
    element.dataset.side = number;
    element.append(make("span", "number", row.kind === "decision" ? "◆" : row.n));
    const area = lanes(number);
    lines(area, row.lanes, place > 0 ? side.rows[place - 1].lanes : row.lanes);
    for (const [lane, count] of Object.entries(row.counts || {})) {
      const badge = make("span", "count", count);
      badge.style.gridColumn = over(Number(lane));
      area.append(badge);
    }
    arrow(area, row);
    element.append(area);
    const said = make("div", "said");
    if (row.t >= 0) said.append(make("span", "who", side.lanes[row.t].label + " : "));
    said.append(row.words);
    if (row.times) said.append(" (" + row.times + " fois)");
    if (row.out) said.append(" ", make("span", "out", row.out));
    if (row.place) said.append(" ", make("span", "place", row.place));
    if (row.note) said.append(make("span", "note", row.note));
    element.append(said);
    return element;
  }

  function lines(area, states, before) {
    [...states].forEach((state, lane) => {
      const changes = state !== before[lane];
      if (changes && before[lane] !== "-") line(area, lane, before[lane] + " before");
      if (state !== "-") line(area, lane, state + (changes ? " after" : ""));
    });
  }

  function line(area, lane, classes) {
    const element = make("i", classes);
    element.style.gridColumn = over(lane);
    area.append(element);
  }

  // Beside a row that the other run has alone, the lanes go on.
  function blank(number, index) {
    const element = make("div", "cell"), place = last(number, index);
    element.dataset.side = number;
    const area = lanes(number);
    if (place >= 0 && place + 1 < data.sides[number].rows.length) {
      lines(area, data.sides[number].rows[place].lanes, data.sides[number].rows[place].lanes);
    }
    element.append(make("span", "number"), area);
    return element;
  }

  function arrow(area, row) {
    const marks = { begins: "○", death: "✗", decision: "◆" };
    if (row.t >= 0 && row.o >= 0 && row.o !== row.t && row.kind !== "death") {
      const right = (row.o > row.t) === (row.go !== "from");
      const shaft = make("div", "arrow " + (row.go ? (right ? "right" : "left") : "none"));
      shaft.style.gridColumn = (2 * Math.min(row.t, row.o) + 2) + " / " + (2 * Math.max(row.t, row.o) + 2);
      if (row.kind !== "birth") shaft.append(make("span", "", row.call));
      area.append(shaft);
    }
    const sign = marks[row.kind] || (row.o < 0 ? "●" : "");
    if (row.t >= 0 && sign) {
      const mark = make("span", "mark", sign);
      mark.style.gridColumn = over(row.t);
      area.append(mark);
    }
  }

  function pairRow(pair, index) {
    const item = make("li", "row");
    item.tabIndex = -1;
    item.dataset.index = index;
    if (two && index === data.differs) item.append(make("div", "band", "Ici, les deux exécutions se séparent"));
    data.sides.forEach((side, number) => {
      const place = pair[number];
      if (place !== null && place === side.gap && place > 0) {
        item.append(make("div", "gap", "… " + side.left + " étapes ne sont pas dessinées …"));
      }
      item.append(place === null || place === undefined ? blank(number, index) : cell(number, place));
    });
    if (two && data.differs >= 0 && index >= data.differs && !alike(pair)) item.classList.add("differs");
    return item;
  }

  function alike(pair) {
    const [left, right] = pair.map((place, number) => place === null ? null : data.sides[number].rows[place]);
    return left && right && left.words === right.words && left.call === right.call && left.out === right.out;
  }

  let built = 0;
  function build(until) {
    const some = document.createDocumentFragment();
    for (; built < Math.min(until, data.pairs.length); built++) {
      elements[built] = pairRow(data.pairs[built], built);
      some.append(elements[built]);
    }
    list.append(some);
  }
  function buildRest() {
    build(built + 250);
    if (built < data.pairs.length) setTimeout(buildRest, 0);
    else root.dataset.ready = "yes";
  }

  // Where one is

  function choose(index, step) {
    if (!data.pairs.length) return;
    index = Math.max(0, Math.min(index, data.pairs.length - 1));
    build(index + 50);
    elements[now]?.classList.remove("now");
    elements[now]?.removeAttribute("aria-current");
    document.querySelectorAll(".mate").forEach((one) => one.classList.remove("mate"));
    now = index;
    if (step !== undefined) stepping = step;
    list.classList.toggle("stepping", stepping);
    const row = elements[now];
    row.classList.add("now");
    row.setAttribute("aria-current", "step");
    row.focus({ preventScroll: true });
    mates(now);
    tell(now);
    state(now);
    row.scrollIntoView({ block: "nearest" });
    where.textContent = (now + 1) + " / " + data.pairs.length;
  }

  function mates(index) {
    data.pairs[index].forEach((place, number) => {
      if (place === null) return;
      for (const mate of data.sides[number].rows[place].mates || []) {
        const other = data.pairs.findIndex((pair) => pair[number] === mate);
        elements[other]?.classList.add("mate");
      }
    });
  }

  function all() {
    stepping = false;
    list.classList.remove("stepping");
    elements[now]?.classList.remove("now");
    now = -1;
    panel.hidden = true;
    where.textContent = data.pairs.length + " étapes";
    state(data.pairs.length - 1);
  }

  // What the heads say: who waits for what, what lies where, at the row chosen.

  function last(number, index) {
    for (; index >= 0; index--) if (data.pairs[index][number] !== null && data.pairs[index][number] !== undefined) return data.pairs[index][number];
    return -1;
  }

  function state(index) {
    data.sides.forEach((side, number) => {
      const at = last(number, index);
      const present = (spans) => spans.filter((span) => span[1] <= at && at < span[2]);
      const said = side.lanes.map((lane, place) => {
        const letter = at < 0 ? "l" : side.rows[at].lanes[place];
        if (letter === "-" && side.rows.slice(0, at + 1).some((row) => row.lanes[place] !== "-")) return ["n'est plus", "dead"];
        return [lane.pid ? "PID " + lane.pid : "", ""];
      });
      for (const [lane, , , row] of present(side.waits)) {
        said[lane] = ["attend " + (row >= 0 ? side.rows[row].call : ""), "wait"];
      }
      const counts = new Map();
      for (const [lane] of present(side.lies)) counts.set(lane, (counts.get(lane) || 0) + 1);
      for (const [lane, count] of counts) said[lane] = [count + (count > 1 ? " envois" : " envoi"), "hot"];
      for (const [lane, , , text] of present(side.holds)) said[lane] = [text, "lock"];
      side.lanes.forEach((lane, place) => {
        lane.state.textContent = said[place][0];
        lane.state.className = said[place][1];
      });
    });
  }

  // The bytes and fields of a row

  function tell(index) {
    panel.replaceChildren();
    data.pairs[index].forEach((place, number) => {
      const one = make("div", "one" + (two || root.classList.contains("phone") ? " narrow" : ""));
      one.dataset.side = number;
      if (place !== null && place !== undefined) one.append(...told(data.sides[number], data.sides[number].rows[place], place));
      panel.append(one);
    });
    panel.hidden = false;
  }

  function told(side, row, place) {
    const what = make("div", "");
    const who = row.t >= 0 ? side.lanes[row.t].label + " : " : "";
    what.append(make("p", "big", who + row.words + (row.out ? " " + row.out : "")));
    const object = row.o >= 0 ? " → " + side.lanes[row.o].label : "";
    what.append(make("p", "place", [row.n, row.call + (row.go === "from" ? object.replace("→", "←") : object), row.place].filter(Boolean).join(" · ")));
    for (const mate of row.mates || []) {
      const other = side.rows[mate];
      const does = mate > place ? "pris à l'étape " : "mis à l'étape ";
      what.append(make("p", "place", does + other.n + (other.t >= 0 ? ", " + side.lanes[other.t].label : "")));
    }
    const lying = side.lies.filter((span) => row.o >= 0 && span[0] === row.o && span[1] <= place && place < span[2]);
    if (lying.length) {
      what.append(make("p", "place", "là, après cette étape : " + lying.slice(0, 6).map((span) => span[3] >= 0 ? side.rows[span[3]].words : "?").join(" ; ") + (lying.length > 6 ? " ; …" : "")));
    }
    if (row.note) what.append(make("p", "note", row.note));
    const parts = [what];
    const facts = make("dl", "");
    for (const [name, value] of row.facts || []) facts.append(make("dt", "", name), make("dd", "", value));
    parts.push(facts);
    if (row.bytes) {
      const bytes = make("pre", "", row.bytes);
      bytes.tabIndex = 0;
      parts.push(bytes);
    }
    return parts;
  }

  // Sizes, sides, colours

  function fit() {
    const phone = innerWidth < 640;
    root.classList.toggle("phone", phone);
    // Two runs beside each other do not fit on a phone: one of them, then.
    const seen = !two ? -1 : phone ? view % 2 : view - 1;
    const page = drawing.parentElement;
    page.classList.toggle("hide0", seen === 1);
    page.classList.toggle("hide1", two && seen === 0);
    const shown = two && seen < 0 ? 2 : 1;
    root.style.setProperty("--shown", shown);
    const width = drawing.clientWidth / shown / zoom;
    const most = Math.max(...data.sides.map((side) => side.lanes.filter((lane) => !lane.folded).length), 1);
    const narrow = width < 320 + most * 72 || width < 640;
    drawing.classList.toggle("narrow", narrow);
    drawing.classList.toggle("tight", narrow && (width - 50) / most < 44);
    root.style.setProperty("--words", Math.max(width - most * 150, width * .3) / 16 + "em");
  }

  const actions = {
    next: () => choose(stepping || now >= 0 ? now + 1 : 0, true),
    back: () => choose(now < 0 ? data.pairs.length - 1 : now - 1, true),
    first: () => choose(0),
    last: () => choose(data.pairs.length - 1),
    all,
    differs: () => { if (data.differs >= 0) choose(data.differs, true); },
    sides: () => { view = (view + 1) % (innerWidth < 640 ? 2 : 3); fit(); },
    larger: () => size(zoom * 1.15),
    smaller: () => size(zoom / 1.15),
    theme: () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
    },
  };
  const keys = {
    " ": "next", ArrowRight: "next", ArrowDown: "next", ArrowLeft: "back", ArrowUp: "back", Home: "first", End: "last",
    Escape: "all", "+": "larger", "=": "larger", "-": "smaller", d: "differs", v: "sides", t: "theme",
  };

  function size(wanted) {
    zoom = Math.max(.5, Math.min(wanted, 3));
    root.style.setProperty("--zoom", zoom.toFixed(3));
    fit();
  }

  document.addEventListener("keydown", (event) => {
    const action = keys[event.key];
    if (!action || event.ctrlKey || event.altKey || event.metaKey) return;
    if (action === "next" && event.key === " " && event.target.closest("button, summary")) return;
    if (event.key.startsWith("Arrow") && event.target.closest("pre")) return;
    event.preventDefault();
    if (event.key.endsWith("Down") || event.key.endsWith("Up")) {
      const was = stepping;
      actions[action]();
      stepping = was;
      list.classList.toggle("stepping", stepping);
    } else actions[action]();
  });
  $(".bar").addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) actions[button.dataset.do]();
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) choose(Number(row.dataset.index), false);
  });
  list.addEventListener("pointerover", (event) => {
    const row = event.target.closest(".row");
    if (row && event.pointerType === "mouse") tell(Number(row.dataset.index));
  });
  list.addEventListener("pointerleave", () => { if (now >= 0) tell(now); else panel.hidden = true; });
  addEventListener("resize", fit);
  addEventListener("beforeprint", () => build(data.pairs.length));

  list.classList.toggle("many", data.pairs.length > 600);
  heads();
  columns();
  fit();
  build(150);
  all();
  buildRest();
})();
