// SPDX-License-Identifier: MIT
// Drives the docs page in Chromium: node docs.js ORIGIN SCREENSHOTS. Prints what it saw as JSON; test_docs.py judges.
import { chromium } from "playwright-core";

const [origin, screenshots] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  const page = await browser.newPage({ viewport: { width: 1400, height: 1000 } });
  const seen = { requests: [], complaints: [] };
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("console", (message) => message.type() === "error" && seen.complaints.push(message.text()));
  page.on("pageerror", (error) => seen.complaints.push(String(error)));

  await page.goto(`${origin}/docs`);
  await page.locator("rapi-doc #overview").waitFor();
  seen.operations = await page.locator("rapi-doc .expanded-endpoint-body").evaluateAll((all) => all.map((element) =>
    element.textContent.replace(/\s+/g, " ").match(/ ((?:get|put|post|patch|delete) \/\S*)/)?.[1]));
  await page.screenshot({ path: `${screenshots}.png` });

  const submit = page.locator("rapi-doc [id='post-/api/tasks/']");
  const answer = page.waitForResponse((response) => response.request().method() === "POST");
  await submit.locator("button", { hasText: "TRY" }).click();
  const response = await answer;
  seen.answer = { status: response.status(), task: await response.json() };
  const shown = submit.locator("api-request .tab-panel", { hasText: seen.answer.task.id });
  await shown.waitFor();
  seen.shown = await shown.innerText();
  await shown.scrollIntoViewIfNeeded();
  await page.screenshot({ path: `${screenshots}-answer.png` });
  console.log(JSON.stringify(seen));
} finally {
  await browser.close();
}
