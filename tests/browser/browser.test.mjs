// The public status page as people meet it: the real program, in Debian's Chromium.

import { after, before, describe } from "node:test";
import { launch } from "./chromium.mjs";
import { operators } from "./console.mjs";
import { demoFleet } from "./demo.mjs";
import { hostility } from "./hostility.mjs";
import { page } from "./page.mjs";

// Most of it waits for a fleet to fail, so the fleets stand side by side.
describe("the status page in Chromium", { concurrency: 2 }, () => {
  const shared = {};
  before(async () => {
    shared.browser = await launch();
  });
  after(() => shared.browser?.close());
  describe("of the demo fleet", { concurrency: 1 }, () => demoFleet(shared));
  describe("of a service of our own", { concurrency: 1 }, () => {
    page(shared);
    hostility(shared);
    // With the first key nobody may ask without one.
    operators(shared);
  });
});
