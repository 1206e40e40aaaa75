// The page: one part on the stage, lists beside it, and what people say of the parts.

import { WORDS, ask, chance, number, percent, send } from "./api.js";
import { CALLS, card, happening } from "./list.js";
import { upload } from "./upload.js";

const EVERY = 2000;
const $ = (id) => document.getElementById(id);
const HINTS = {
  review: "Parts that the detector leaves to you, the most uncertain first.",
  newest: "The latest decisions.",
  check: "Parts called good, drawn at random. Judging some tells how many defects escape.",
  history: "What was decided here, the latest first.",
};
const EMPTY = {
  review: ["Nothing to review", "New doubtful parts appear here by themselves."],
  newest: ["No parts yet", "Drop images anywhere on this page."],
  check: ["Nothing to check", "No part called good is left to judge."],
  history: ["Nothing shown", "Choose a list of parts."],
};

let view = "review";
let items = [];
let shown = null;
let drawn = "";
let busy = false;

function say(text, bad = false) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", bad);
}

const guarded = (task) => async (...given) => {
  try {
    return await task(...given);
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
};

function reason(item) {
  const share = `${Math.round(100 * item.epistemic)} % of the uncertainty comes from having seen few good parts.`;
  const likely = item.p_value === null ? "" : ` A good part scores so high with a probability ${chance(item.p_value)}.`;
  return `Score ${number(item.score)}, threshold ${number(item.threshold)}.${likely} ${share}`;
}

function show(item) {
  shown = item;
  $("part").hidden = item === null;
  $("empty").hidden = item !== null;
  if (item === null) {
    [$("empty-title").textContent, $("empty-text").textContent] = EMPTY[view];
    mark();
    return;
  }
  const [text, tone] = CALLS[item.decision];
  const leaning = item.decision === "review" ? `, leaning to ${WORDS[item.leaning]}` : "";
  $("said").textContent = text + leaning;
  $("said").className = tone;
  $("name").textContent = item.verdict ? `${item.name}, judged ${WORDS[item.verdict]}` : item.name;
  $("picture").src = `/items/${item.id}/picture.jpg`;
  $("overlay").src = `/items/${item.id}/overlay.jpg`;
  guarded(explain)(item);
  $("reason").textContent = reason(item);
  $("note").value = item.note;
  const other = item.leaning === "good" ? "defect" : "good";
  label("confirm", "Confirm", item.leaning);
  label("overrule", "Overrule", other);
  mark();
}

async function explain(item) {
  const answer = await fetch(`/items/${item.id}/legend.svg`);
  const parsed = new DOMParser().parseFromString(await answer.text(), "image/svg+xml");
  if (shown === item && answer.ok) $("legend").replaceChildren(document.importNode(parsed.documentElement, true));
}

function label(id, word, verdict) {
  $(id).firstElementChild.textContent = `${word}: ${WORDS[verdict]}`;
  $(id).className = verdict === "good" ? "good" : "bad";
  $(id).dataset.verdict = verdict;
}

function mark() {
  for (const button of $("list").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(shown !== null && button.dataset.item === String(shown.id)));
  }
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.setAttribute("aria-selected", String(tab.dataset.view === view));
  }
}

const parts = () => items.filter((item) => !item.error);

async function fill() {
  const asked = view;
  const found = await ask(asked === "history" ? "/events" : `/items?view=${asked}`);
  const text = asked + JSON.stringify(found);
  if (asked !== view || text === drawn) return;
  drawn = text;
  items = asked === "history" ? [] : found;
  $("hint").textContent = HINTS[asked];
  $("list").replaceChildren(...found.map((one) => (asked === "history" ? happening(one) : card(one, show))));
  if (shown === null && asked !== "history") show(parts()[0] ?? null);
  mark();
}

async function choose(chosen) {
  view = chosen;
  drawn = "";
  shown = null;
  await fill();
  if (parts().length === 0) show(null);
}

function next() {
  const others = parts();
  if (others.length === 0) return show(null);
  const at = shown === null ? -1 : others.findIndex((item) => item.id === shown.id);
  return show(others[(at + 1) % others.length]);
}

async function judge(id) {
  if (shown === null || busy) return;
  busy = true;
  try {
    const item = shown;
    const at = parts().findIndex((one) => one.id === item.id);
    const verdict = $(id).dataset.verdict;
    await send(`/items/${item.id}/review`, { verdict, note: $("note").value });
    $("note").blur();
    say(`${item.name}: ${WORDS[verdict]}`);
    drawn = "";
    await fill();
    // What was judged has left a queue, but stays among the newest.
    const left = parts().filter((one) => one.id !== item.id);
    show(left[view === "newest" ? at : Math.max(0, at)] ?? left[0] ?? null);
  } finally {
    busy = false;
  }
  await refresh();
}

function rate(found, what, called) {
  if (found === null) return `not known: no ${what} part was judged`;
  const limits = `${percent(found.low)} to ${percent(found.high)}`, judged = `${found.wrong} of ${found.of} judged`;
  // Nobody has looked where such mistakes are: the median would be the prior's, not a finding.
  if (found.checked === 0) return `${limits}, ${judged}; no part called ${called} was judged`;
  return `${percent(found.median)} (${limits}), ${judged}`;
}

async function refresh() {
  const status = await ask("/status");
  document.title = `${status.to_review ? `(${status.to_review}) ` : ""}${status.product} · bayfed review`;
  $("product").textContent = status.product;
  $("count-ok").textContent = status.ok;
  $("count-defect").textContent = status.defect;
  $("count-review").textContent = status.to_review;
  $("open").textContent = status.to_review || "";
  $("count-reviewed").textContent = status.reviewed;
  $("false-alarms").textContent = rate(status.false_alarms, "good", "defective");
  $("escapes").textContent = rate(status.escapes, "defective", "good");
  $("promise").textContent =
    `Of all parts, with 95 % limits; parts that nobody judged count like judged ones of the same decision. ` +
    `The threshold ${number(status.threshold)} promises ${status.promise}.`;
  const watching = status.watching === null ? "" : ` Watching ${status.watching}.`;
  const unread = status.unreadable ? ` ${status.unreadable} files could not be read.` : "";
  const waiting = status.waiting ? ` ${status.waiting} images are waiting.` : "";
  $("model").textContent = `Revision ${status.revision}.${watching}${unread}${waiting}`;
  $("learn").disabled = status.learnable === 0;
  $("learn").textContent = status.learnable
    ? `Add ${status.learnable} confirmed good${status.learnable === 1 ? "" : "s"} to the model`
    : "No confirmed goods to add";
  await fill();
}

async function learn() {
  $("sure-text").textContent =
    `${$("learn").textContent}? Parts scored from now on are compared with these too. ` +
    "The product file as it is now is kept as .previous.";
  $("sure").returnValue = "no";
  $("sure").showModal();
}

async function learned() {
  if ($("sure").returnValue !== "yes") return;
  $("learn").disabled = true;
  say("Adding the confirmed goods");
  const { revision } = await send("/learn");
  say(`The model knows them now: revision ${revision}.`);
  await refresh();
}

const take = guarded(async (files) => {
  if (files.length === 0) return;
  const failures = await upload(files, (done, total, failed) =>
    say([`${done} of ${total} images sent`, ...failed.slice(-5)].join("\n"), failed.length > 0),
  );
  if (view === "history") await choose("newest");
  if (failures.length === 0) say(`${files.length} image${files.length === 1 ? "" : "s"} scored`);
  await refresh();
});

const KEYS = {
  c: guarded(() => judge("confirm")),
  o: guarded(() => judge("overrule")),
  n: next,
  t: () => $("note").focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("sure").open) return;
  if (event.target === $("note")) {
    if (event.key === "Escape" || (event.key === "Enter" && !event.shiftKey)) {
      event.preventDefault();
      $("note").blur();
    }
    return;
  }
  const act = KEYS[event.key.toLowerCase()];
  if (!act || shown === null || event.repeat) return;
  event.preventDefault();
  act();
});
$("confirm").addEventListener("click", KEYS.c);
$("overrule").addEventListener("click", KEYS.o);
$("next").addEventListener("click", next);
$("learn").addEventListener("click", learn);
$("sure").addEventListener("close", guarded(learned));
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", guarded(() => choose(tab.dataset.view)));
}
$("files").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take([...event.dataTransfer.files]);
});

async function run() {
  await guarded(refresh)();
  setTimeout(run, EVERY);
}

guarded(() => choose(view))().then(run);
