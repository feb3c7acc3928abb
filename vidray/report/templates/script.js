"use strict";
// The page reads without this script; it adds sorting, filters, tooltips, and keys in charts.

const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// ---- Tables: a button in each head sorts; missing values stay last, whichever way.
const compareText = new Intl.Collator(undefined, { numeric: true }).compare;

function sort(table, column, isNumber, sign) {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [row.cells[column].dataset.key, row]);
  const isKnown = ([key]) => key !== "";
  const compare = isNumber ? (a, b) => Number(a) - Number(b) : compareText;
  const known = keyed.filter(isKnown).sort(([a], [b]) => sign * compare(a, b));
  const missing = keyed.filter((pair) => !isKnown(pair));
  body.append(...[...known, ...missing].map(([, row]) => row));
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const isNumber = head.classList.contains("number");
    // On paper the head is repeated on each page, which browsers do not do with a button in it.
    const printed = make("span", { className: "printed" }, head.textContent);
    const button = make("button", { type: "button" }, ...head.childNodes);
    head.append(button, printed);
    button.addEventListener("click", () => {
      const first = isNumber ? "descending" : "ascending";
      const other = isNumber ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sort(table, column, isNumber, order === "ascending" ? 1 : -1);
    });
  });
}

function makeSearchable(figure) {
  const rows = [...figure.querySelector("tbody").rows];
  const input = make("input", { type: "search", autocomplete: "off" });
  const count = make("span", { role: "status" });
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const isIn = (row) => words.every((word) => row.textContent.toLowerCase().includes(word));
    rows.forEach((row) => { row.hidden = !isIn(row); });
    count.textContent = words.length ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  });
  figure.querySelector(".scroll").before(make("label", { className: "search" }, "Filter", input, count));
}

all(".table table").forEach(makeSortable);
all(".table.long").forEach(makeSearchable);

// ---- Marks of charts: their name beside the pointer, and beside the mark that the arrow keys reach.
const tip = make("div", { id: "tip", role: "status" });
document.getElementById("content").append(tip);
let current = null;

const isMark = (element) => element.closest(".role-mark") !== null && element.getAttribute("aria-label");
const marksOf = (chart) => all(".role-mark [aria-label]", chart).filter(isMark);

function pictureOf(mark) {
  const link = mark.closest("a");
  const target = link && document.getElementById(decodeURIComponent(link.getAttribute("href").slice(1)));
  const picture = target && target.querySelector("img");
  return picture ? [make("img", { src: picture.src, alt: "" })] : [];
}

function show(mark, x, y) {
  tip.replaceChildren(mark.getAttribute("aria-label"), ...pictureOf(mark));
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(Math.max(4, x + 12), document.documentElement.clientWidth - width - 4);
  const top = y + 16 + height < window.innerHeight ? y + 16 : y - height - 12;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

function hide() {
  tip.replaceChildren();
  if (current) current.classList.remove("current");
  current = null;
}

function goTo(mark) {
  hide();
  current = mark;
  mark.classList.add("current");
  mark.scrollIntoView({ block: "nearest", inline: "nearest" });
  const box = mark.getBoundingClientRect();
  show(mark, box.left + box.width / 2, box.top + box.height / 2);
}

function onKey(event) {
  const marks = marksOf(event.currentTarget);
  const at = marks.indexOf(current);
  const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 };
  if (event.key === "Escape") hide();
  else if (event.key === "Enter" && current && current.closest("a")) {
    const address = current.closest("a").getAttribute("href");
    hide();
    location.hash = address;
  } else if (event.key in steps && marks.length) {
    event.preventDefault();
    const last = marks.length - 1;
    goTo(marks[at < 0 && event.key !== "End" ? 0 : Math.min(last, Math.max(0, steps[event.key]))]);
  }
}

all("svg.drawing").forEach((chart) => {
  if (!marksOf(chart).length) return;
  chart.setAttribute("aria-keyshortcuts", "ArrowRight ArrowLeft Home End Escape");
  chart.addEventListener("keydown", onKey);
  chart.addEventListener("blur", hide);
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("[aria-label]");
    if (mark && mark !== chart && isMark(mark)) show(mark, event.clientX, event.clientY);
    else if (!current) hide();
  });
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

// ---- A link into a closed fold opens it.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}
window.addEventListener("hashchange", openTarget);
if (location.hash) openTarget();

// ---- Chapters: the one that is read is marked, and all folds open or close at once.
const navigation = document.querySelector("nav");
const links = new Map(all("a", navigation).map((link) => [link.hash.slice(1), link]));
const seen = new Set();
const reading = new IntersectionObserver((entries) => {
  entries.forEach(({ target, isIntersecting }) => { seen[isIntersecting ? "add" : "delete"](target.id); });
  const first = [...links.keys()].find((name) => seen.has(name));
  if (!first) return;
  links.forEach((link) => link.removeAttribute("aria-current"));
  links.get(first).setAttribute("aria-current", "true");
}, { rootMargin: "-15% 0px -60% 0px" });
all(".chapter").forEach((chapter) => reading.observe(chapter));

const folds = all("details.fold");
if (folds.length) {
  const tools = make("p", { className: "tools" });
  for (const [text, isOpen] of [["Open all", true], ["Close all", false]]) {
    const button = make("button", { type: "button" }, text);
    button.addEventListener("click", () => folds.forEach((fold) => { fold.open = isOpen; }));
    tools.append(button);
  }
  navigation.append(tools);
}

// ---- A table that is wider than its place says so.
const watching = new ResizeObserver((entries) => {
  entries.forEach(({ target }) => {
    target.parentElement.classList.toggle("wider", target.scrollWidth > target.clientWidth + 1);
  });
});
all(".table > .scroll").forEach((box) => watching.observe(box));
