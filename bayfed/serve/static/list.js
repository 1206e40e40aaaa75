// The list beside the part: thumbnails of items, or what people did.

import { WORDS, number } from "./api.js";

export const CALLS = {
  ok: ["Looks good", "good"],
  defect: ["Looks defective", "bad"],
  review: ["Doubtful", "open"],
};

function element(tag, text, className) {
  const made = document.createElement(tag);
  // Always as text: names and notes come from outside.
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const clock = (iso) =>
  new Date(iso).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

function state(item) {
  if (item.verdict) return item.verdict === item.leaning ? "confirmed" : `overruled: ${WORDS[item.verdict]}`;
  return item.decision === "review" ? `leaning to ${WORDS[item.leaning]}` : "";
}

export function card(item, open) {
  const row = element("li");
  const words = element("div", undefined, "words");
  if (item.error) {
    words.append(element("b", "Could not be read"), element("span", item.error));
    const event = element("div", undefined, "event");
    event.append(words);
    row.append(event);
    return row;
  }
  const [text, tone] = CALLS[item.decision];
  const line = element("div");
  line.append(element("b", text, tone), ` ${state(item)}`);
  words.append(line, element("span", item.name), element("span", `score ${number(item.score)}, ${clock(item.received)}`));
  const image = element("img");
  image.src = `/items/${item.id}/overlay.jpg?small=1`;
  image.alt = "";
  image.loading = "lazy";
  const button = element("button");
  button.type = "button";
  button.dataset.item = item.id;
  button.append(image, words);
  button.addEventListener("click", () => open(item));
  row.append(button);
  return row;
}

export function happening(event) {
  const row = element("li");
  const box = element("div", undefined, "event");
  const what = event.item === null ? event.kind : `${event.kind}, part ${event.item}`;
  box.append(element("span", event.text), element("span", `${what}, ${clock(event.at)}`, "soft"));
  row.append(box);
  return row;
}
