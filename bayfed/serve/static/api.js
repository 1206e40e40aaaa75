// Requests to the service, and the words of its answers.

export class Refused extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(0, "The service does not answer.", 2);
  }
  const content = await answer.json().catch(() => ({}));
  if (answer.status === 401) location.reload();
  if (!answer.ok) {
    const retry = Number(answer.headers.get("Retry-After")) || 1;
    throw new Refused(answer.status, content.error || `error ${answer.status}`, retry);
  }
  return content;
}

export function send(path, content) {
  const body = content === undefined ? undefined : JSON.stringify(content);
  return ask(path, { method: "POST", body, headers: { "Content-Type": "application/json" } });
}

export const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

export const number = (value) => (value === null ? "unknown" : Number(value).toPrecision(3));

export const chance = (value) => (value < 0.001 ? "below 0.001" : `of ${number(value)}`);

export const percent = (value) => `${(100 * value).toPrecision(value < 0.0995 ? 2 : 3)} %`;

export const WORDS = { good: "good", defect: "defective" };
