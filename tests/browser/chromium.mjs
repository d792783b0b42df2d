// Debian's Chromium, as people with different browsers sit before it, and what they must not see.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const places = ["/usr/bin/chromium", "/usr/bin/chromium-headless-shell"];

// WCAG 2.2 A and AA, and what axe itself thinks good practice.
const STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
// What fits a thumb (WCAG 2.2, 2.5.5, less a little), in CSS pixels.
const THUMB = 40;

/** A name that leads to loopback, in this browser alone: no safe origin, as loopback is one. */
export const NAME = "status.example";

/** Starts the browser; it has no sandbox, for tests run as root, and speaks to loopback only. */
export function launch() {
  const executablePath = places.find(existsSync);
  if (!executablePath) throw new Error("please install Debian's package chromium");
  const rules = `--host-resolver-rules=MAP ${NAME} 127.0.0.1`;
  return chromium.launch({ executablePath, args: ["--disable-gpu", rules] });
}

/**
 * One person's browser with one page open: `look` is how it is set, `from` an address that a proxy
 * tells, `base` what paths are below. `seen` is all that it fetched and complained of.
 */
export async function visitor(browser, base, look = {}) {
  const { language = "en-GB", dark = false, width = 1024, scripts = true, from } = look;
  const isPhone = width < 600;
  const context = await browser.newContext({
    baseURL: base,
    locale: language,
    colorScheme: dark ? "dark" : "light",
    viewport: { width, height: isPhone ? 740 : 800 },
    isMobile: isPhone,
    hasTouch: isPhone,
    deviceScaleFactor: look.scale ?? 1,
    javaScriptEnabled: scripts,
    extraHTTPHeaders: from ? { "x-forwarded-for": from } : {},
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const seen = { requests: [], bodies: [], complaints: [], dialogs: 0 };
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("response", (response) => seen.bodies.push(response.body().catch(() => [])));
  page.on("console", (message) => {
    // An icon is asked for by the browser, not by the page, and not each time.
    const isIcon = message.location().url.endsWith("/favicon.ico");
    if (message.type() === "error" && !isIcon) seen.complaints.push(message.text());
  });
  page.on("pageerror", (error) => seen.complaints.push(String(error)));
  page.on("dialog", (dialog) => ((seen.dialogs += 1), dialog.dismiss()));
  return { page, seen, close: () => context.close() };
}

/** What axe finds serious or critical; the rest goes to `told`. */
export async function faults(page, told = () => {}) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate((values) => {
    const rules = { "target-size": { enabled: true } };
    return window.axe.run(document, { runOnly: { type: "tag", values }, rules });
  }, STANDARDS);
  const words = (each) =>
    `${each.impact}: ${each.id}: ${each.nodes.map((node) => node.target.join(" ")).join(", ")}`;
  const isGrave = (each) => ["serious", "critical"].includes(each.impact);
  violations.filter((each) => !isGrave(each)).forEach((each) => told(words(each)));
  return violations.filter(isGrave).map(words);
}

/** What is wrong with the page on a narrow screen: what sticks out, and what no thumb can hit. */
export function cramped(page) {
  return page.evaluate((thumb) => {
    const wide = document.documentElement.clientWidth;
    const wrong = [];
    if (document.documentElement.scrollWidth > wide) {
      wrong.push(`it scrolls sideways: ${document.documentElement.scrollWidth} of ${wide}`);
    }
    const named = (each) =>
      `${each.tagName.toLowerCase()} "${each.textContent.trim().slice(0, 20)}"`;
    // Wide tables scroll in a frame of their own.
    const scrolls = (each) => ["auto", "scroll"].includes(getComputedStyle(each).overflowX);
    const isFramed = (each) => each && (scrolls(each) || isFramed(each.parentElement));
    for (const each of document.querySelectorAll("body *")) {
      const { right, left, width } = each.getBoundingClientRect();
      // What is wholly beyond the edge comes into sight when it is reached by the keyboard.
      const sticksOut = right > wide + 0.5 || (left < -0.5 && right > 0);
      if (width > 0 && sticksOut && !isFramed(each.parentElement)) {
        wrong.push(`${named(each)} sticks out`);
      }
    }
    for (const each of document.querySelectorAll("button, select, label:has(input), nav a")) {
      const { height } = each.getBoundingClientRect();
      if (height < thumb) wrong.push(`${named(each)} is ${Math.round(height)} px high`);
    }
    return wrong;
  }, THUMB);
}

/** Fills in the fields of a form by their labels (true is a choice to make) and sends it. */
export async function send(page, fields, button) {
  for (const [label, value] of Object.entries(fields)) {
    const field = page.getByLabel(label);
    const kind = await field.evaluate((each) => each.tagName);
    if (value === true) await field.check();
    else if (kind === "SELECT") await field.selectOption(value);
    else await field.fill(value);
  }
  await page.getByRole("button", { name: button, exact: true }).click();
}

/** What the page says of a component. */
export function row(page, name) {
  return page.locator("main li").filter({ has: page.getByText(name, { exact: true }) }).first();
}

/** The state that the page shows of a component. */
export async function state(page, name) {
  return (await row(page, name).locator(".state").innerText()).trim();
}

/** Loads the page again until `is` holds of it; after how many seconds since `began` that was. */
export async function shows(page, is, began, limit) {
  for (;;) {
    await page.reload();
    const took = (Date.now() - began) / 1000;
    if (await is()) return took;
    if (took > limit) {
      throw new Error(`not shown within ${limit} s:\n${await page.innerText("main")}`);
    }
    await page.waitForTimeout(200);
  }
}
