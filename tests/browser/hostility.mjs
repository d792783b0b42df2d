// People who mean no good: markup in what they may write, forms of other sites, floods.

import assert from "node:assert/strict";
import { createServer, Agent } from "node:http";
import { after, before, test } from "node:test";
import { row, send, state, visitor } from "./chromium.mjs";
import { checkAtom, checkRss } from "./feeds.mjs";
import { post, SITE, TITLE } from "./fleet.mjs";

const EVIL = [
  "<script>owned=1;alert(1)</script>",
  "<img src=x onerror=owned=1;alert(1)>",
  "<svg/onload=owned=1>",
  "</p></article><iframe srcdoc='<script>parent.owned=1</script>'>",
  "[a link](javascript:owned=1)",
  "\"><a href=javascript:owned=1 autofocus onfocus=owned=1>",
  "&lt;script&gt; \u202egnp.exe\u0007",
  "'; DROP TABLE incidents; --",
];
// Of a flood of forged reports: so many a second, for so many seconds.
const FLOOD = 1000;
const LASTS = 3;
// Nobody waits longer, however busy the machine is; an idle one answers in milliseconds.
const FAST = 3000;
// What a flood may take of memory, in MiB.
const GROWTH = 64;

/** Fails if anything on the page is more than text. */
async function harmless({ page, seen }, path) {
  await page.goto(path);
  const found = await page.evaluate((made) => {
    const links = [...document.querySelectorAll("a")].map((link) => link.protocol);
    return {
      owned: window.owned ?? null,
      made: document.querySelectorAll(made).length,
      links: links.filter((protocol) => !/^https?:$/.test(protocol)).length,
    };
  }, "script, img, iframe, object, embed, [onload], [onerror], [onfocus]");
  const nothing = { owned: null, made: 0, links: 0, dialogs: 0 };
  assert.deepEqual({ ...found, dialogs: seen.dialogs }, nothing, path);
  assert.deepEqual(seen.complaints, [], `${path}: not even tried`);
}

/** Another site, whose pages are these. */
async function elsewhere(pages) {
  const server = createServer((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end(pages[request.url] ?? "");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => (server.closeAllConnections(), server.close());
  return { url: `http://localhost:${server.address().port}`, close };
}

export function hostility(shared) {
  let at, reader;
  before(async () => {
    at = shared.at;
    reader = await visitor(shared.browser, at.page);
  });
  after(() => reader?.close());

  test("what operators and configuration say is text, whatever it looks like", async () => {
    const [title, all] = [EVIL.slice(0, 2).join(" "), EVIL.join("\n")];
    await at.incident("open", title, "--component", "model/code", "--text", all);
    for (const text of EVIL) {
      await at.incident("update", "2", "--stage", "identified", "--text", text);
    }
    const paths = ["/en/", "/zh/", "/en/history", "/incidents/2", "/zh/incidents/2", "/report"];
    for (const path of paths) await harmless(reader, path);
    assert.ok((await reader.page.title()).includes(TITLE));
    await reader.page.goto("/en/incidents/2");
    const shown = await reader.page.innerText("main");
    for (const text of EVIL.slice(0, 4)) assert.ok(shown.includes(text), text);
    await reader.page.goto("/en/");
    assert.ok((await reader.page.innerText("main")).includes(SITE));
    for (const [path, check] of [["/history.atom", checkAtom], ["/history.rss", checkRss]]) {
      const xml = await (await fetch(at.page + path)).text();
      // Two incidents, and announced work.
      assert.equal(await check(xml, reader.page), 3, path);
    }
  });

  test("what readers send is echoed nowhere", async () => {
    for (const text of EVIL.map(encodeURIComponent)) {
      await harmless(reader, `/report?lang=${text}`);
      const paths = ["/incidents/", "/badge.svg?component=", "/api/v2/", "/en/"];
      for (const path of paths.map((path) => path + text)) {
        const response = await fetch(`${at.page}${path}`);
        assert.equal(response.status, 404, path);
        const body = await response.text();
        assert.ok(!body.includes("owned"), `${path}: ${body}`);
      }
      const type = { "content-type": "application/x-www-form-urlencoded" };
      const form = `model=${text}&site=${text}&kind=${text}`;
      for (const body of [form, form.replace(/kind=.*/, "kind=slow")]) {
        const { status, text: told } = await post(`${at.page}/report`, body, type);
        assert.equal(status, 400);
        // The site is called so; nothing else is.
        assert.ok(!told.replaceAll("owned=1&gt;", "").includes("owned"), told);
      }
    }
    const huge = await post(`${at.page}/report`, `kind=slow&more=${"x".repeat(8 << 20)}`);
    assert.equal(huge.status, 400);
    await harmless(reader, "/report");
  });

  test("a page of another site can neither report nor frame it", async (t) => {
    const url = `${at.page}/report`;
    const other = await elsewhere({
      "/form": `<form method=post action="${url}"><button name=kind value=slow>Win</button></form>`,
      "/frame": `<iframe src="${at.page}/report"></iframe>`,
    });
    t.after(other.close);
    const { page, close } = await visitor(shared.browser, other.url);
    t.after(close);
    await page.goto("/form");
    await page.getByRole("button").click();
    await page.waitForURL(url);
    assert.match(await page.getByRole("status").innerText(), /another site's page/);
    await page.goto(`${other.url}/frame`);
    const frame = page.frames().find((each) => each !== page.mainFrame());
    assert.ok(!frame.url().startsWith(at.page), frame.url());
  });

  test("a form that is sent again and again counts once", async () => {
    const lately = async () => {
      await reader.page.goto("/en/");
      await reader.page.reload();
      const told = await row(reader.page, "chat").innerText();
      return Number(/users report problems \((\d+)\)/.exec(told)[1]);
    };
    const had = await lately();
    const from = "203.0.113.5";
    const { page, close } = await visitor(shared.browser, at.page, { from });
    await page.goto("/report?lang=en");
    const [sent] = await Promise.all([
      page.waitForRequest((each) => each.method() === "POST"),
      send(page, { "Which model?": "chat", "It is slow": true }, "Send"),
    ]);
    assert.match(await page.getByRole("status").innerText(), /Thank you/);
    const last = [];
    for (let time = 0; time < 6; time++) {
      const headers = { ...sent.headers(), "x-forwarded-for": from };
      last.push((await post(sent.url(), sent.postData(), headers)).status);
    }
    assert.deepEqual(last, [200, 200, 200, 200, 429, 429]);
    assert.equal(await lately(), had + 1);
    await close();
  });

  test("a flood of forged reports changes no state, and the page stays quick", async (t) => {
    assert.deepEqual(await at.ask("code", 60), []);
    const before = { incidents: (await at.incidents()).length, memory: at.memory() };
    const agent = new Agent({ keepAlive: true, maxSockets: 64 });
    const sent = [];
    const began = Date.now();
    const took = [];
    for (let number = 0; number < FLOOD * LASTS; number++) {
      const [a, b] = [number >> 8, number & 255];
      const from = { "x-forwarded-for": `10.${a}.${b}.1` };
      sent.push(post(`${at.page}/report`, "model=code&kind=errors", from, agent));
      if (number % 25 === 0) {
        const asked = performance.now();
        const page = fetch(`${at.page}/en/`).then((told) => told.text());
        took.push(page.then(() => performance.now() - asked));
        const due = began + (number / FLOOD) * 1000 - Date.now();
        await new Promise((resolve) => setTimeout(resolve, due));
      }
    }
    const counted = (await Promise.all(sent)).filter(({ status }) => status === 200).length;
    const seconds = (Date.now() - began) / 1000;
    const times = (await Promise.all(took)).sort((a, b) => a - b);
    const p99 = times[Math.ceil(times.length * 0.99) - 1];
    const grown = at.memory() - before.memory;
    agent.destroy();
    t.diagnostic(
      `${sent.length} forged reports in ${seconds.toFixed(1)} s, ${counted} taken; ` +
        `the page p99 ${p99.toFixed(0)} ms of ${times.length}; ${grown.toFixed(1)} MiB more`,
    );
    assert.ok(times.at(-1) <= FAST, `the page took ${times.at(-1)} ms`);
    assert.ok(grown <= GROWTH, `it grew by ${grown} MiB`);
    await reader.page.goto("/en/");
    await reader.page.reload();
    assert.equal(await state(reader.page, "code"), "Operational", "reports are no state");
    assert.equal((await at.incidents()).length, before.incidents, "and no incident");
  });
}
