// The demo fleet loses a site, and then all of them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { shows, state, visitor } from "./chromium.mjs";
import { demo } from "./fleet.mjs";
import { picture } from "./pictures.mjs";

// An outage shows within so many seconds.
const SHOWN = 10;

export function demoFleet(shared) {
  let fleet, reader;
  before(async () => {
    fleet = await demo();
    reader = await visitor(shared.browser, fleet.page);
    await reader.page.goto("/en/");
  });
  after(async () => {
    await reader?.close();
    await fleet?.stop();
  });
  const fails = (name) => async () => /outage/.test(await state(reader.page, name));

  test("a site that is killed shows within ten seconds", async (t) => {
    const well = () => reader.page.getByText("All systems operational").isVisible();
    await shows(reader.page, well, Date.now(), 30);
    const took = await shows(reader.page, fails("A"), fleet.kill("A"), SHOWN);
    t.diagnostic(`a lost site was on the page after ${took.toFixed(1)} s`);
    await picture(shared, fleet.page, "/en/", "status-page");
    await picture(shared, fleet.page, "/zh/", "status-page-zh", { dark: true });
  });

  test("an outage of all sites shows within ten seconds, as an incident", async (t) => {
    // The others stand in for it.
    const stands = async () => (await state(reader.page, "API")) === "Operational";
    await shows(reader.page, stands, Date.now(), 30);
    const began = fleet.kill("B");
    fleet.kill("C");
    const took = await shows(reader.page, fails("API"), began, SHOWN);
    t.diagnostic(`an outage of everything was on the page after ${took.toFixed(1)} s`);
    const headline = await reader.page.getByRole("status").innerText();
    assert.match(headline, /^(Major|Partial) outage/);
    await reader.page.getByRole("article").getByRole("link").first().click();
    await reader.page.waitForURL("**/incidents/1");
    const told = await reader.page.getByRole("article").innerText();
    assert.match(told, /Investigating/);
    await picture(shared, fleet.page, "/en/", "status-page-phone", { width: 360, dark: true });
  });
}
