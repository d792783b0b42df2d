// The operators' console as they meet it: with a token, by a name over plain HTTP, on a telephone,
// without scripts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cramped, faults, NAME, send, visitor } from "./chromium.mjs";
import { TOKEN } from "./fleet.mjs";

const LOOKS = [
  { scripts: false, width: 360 },
  { dark: true, width: 360 },
  { dark: false },
];

/** Opens the console and logs in, the way an operator does who sits elsewhere. */
async function logIn(shared, look) {
  const there = await visitor(shared.browser, shared.at.admin.replace("127.0.0.1", NAME), look);
  await there.page.goto("/");
  assert.match(await there.page.innerText("main"), /Admin token/, "nothing without a token");
  await send(there.page, { "Admin token": TOKEN, "Your name, for the record": "alice" }, "Log in");
  assert.match(await there.page.innerText("main"), /console:alice/);
  return there;
}

/** Fills in the form for a key, and confirms it. */
async function makeKey(page, name) {
  await page.locator("#c-name").fill(name);
  const form = page.locator("form").filter({ has: page.locator("#c-name") });
  await form.getByRole("button", { name: "Look at it" }).click();
  assert.match(await page.innerText("main"), /Do you mean it/);
}

export function operators(shared) {
  test("what is going on reaches an open console by itself", async () => {
    const { page, close } = await logIn(shared, {});
    const before = await page.locator("#live").innerText();
    await shared.at.ask("code", 3);
    await page.waitForFunction(
      (before) => document.querySelector("#live").innerText !== before, before);
    await close();
  });

  test("an operator logs in and makes a key, on a telephone and without scripts", async () => {
    for (const [number, look] of LOOKS.entries()) {
      const { page, seen, close } = await logIn(shared, look);
      if (look.width) assert.deepEqual(await cramped(page), [], "the console");
      await makeKey(page, `<b onclick=owned=1>key ${number}</b>`);
      if (look.width) assert.deepEqual(await cramped(page), [], "the question");
      await page.getByRole("button", { name: /^Yes, / }).click();
      assert.match(await page.innerText("main"), /sk-mainstay-[0-9a-f]{20}/, "the secret, once");
      await page.goto("/");
      const all = await page.innerText("main");
      assert.ok(all.includes(`<b onclick=owned=1>key ${number}</b>`), "its name is a name");
      assert.doesNotMatch(all, /sk-mainstay-[0-9a-f]{20}/, "and never again");
      await page.getByRole("button", { name: "Log out" }).click();
      await page.goto("/");
      assert.match(await page.innerText("main"), /Admin token/);
      // The page for those who have no session has the status of one that is not shown, and
      // without TLS the browser says what it does not heed.
      const other = seen.complaints.filter((each) => !/401|origin was untrustworthy/.test(each));
      assert.deepEqual(other, [], "no policy is broken");
      const own = seen.requests.filter((url) => !url.includes(NAME));
      assert.deepEqual(own, [], "nothing is fetched from elsewhere");
      await close();
    }
  });

  test("axe finds nothing serious on the console, light and dark", async (t) => {
    for (const dark of [false, true]) {
      const { page, close } = await logIn(shared, { dark });
      const lesser = (words) => t.diagnostic(`console dark: ${dark}: ${words}`);
      assert.deepEqual(await faults(page, lesser), [], `dark: ${dark}`);
      await makeKey(page, "looked at");
      assert.deepEqual(await faults(page, lesser), [], `the question, dark: ${dark}`);
      await page.getByRole("button", { name: /^Yes, / }).click();
      assert.deepEqual(await faults(page, lesser), [], `the secret, dark: ${dark}`);
      await close();
    }
  });
}
