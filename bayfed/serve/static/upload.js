// Files that were dropped are sent a few at a time, and sent again when the queue was full.

import { ask, pause } from "./api.js";

const AT_ONCE = 3;
const PATIENT = 30;

async function sent(file) {
  const form = new FormData();
  form.append("images", file, file.name);
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await ask("/score", { method: "POST", body: form });
    } catch (error) {
      if (error.status !== 503 || attempt === PATIENT) throw error;
      await pause(error.retryAfter);
    }
  }
}

export async function upload(files, report) {
  const waiting = [...files];
  const total = waiting.length;
  const failures = [];
  let done = 0;
  async function work() {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        await sent(file);
      } catch (error) {
        failures.push(error.message.includes(file.name) ? error.message : `${file.name}: ${error.message}`);
        if (error.status === 507 || error.status === 0) waiting.length = 0;
      }
      done += 1;
      report(done, total, failures);
    }
  }
  report(0, total, failures);
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return failures;
}
