// A service of our own: what the page says in which language, who can read it, and how what users
// report becomes one incident.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { cramped, faults, NAME, row, send, shows, state, visitor } from "./chromium.mjs";
import { checkAtom, checkRss } from "./feeds.mjs";
import { post, service } from "./fleet.mjs";
import { picture } from "./pictures.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const exporter = join(root, ".venv/bin/statuspage-prometheus-exporter");

// What a page may weigh.
const WEIGHT = 100 * 1024;
// So many people are a crowd (decision 0058); the first of them report in a browser.
const CROWD = 12;
const SEEN = 4;
const SHOWN = 10;
const PATHS = ["/", "/history", "/incidents/1", "/maintenance/1", "/report"];
// Those that are there from the beginning.
const ALWAYS = PATHS.filter((path) => !/\d/.test(path));
const LANGUAGES = [
  ["en-GB", "en"],
  ["zh-CN", "zh-Hans"],
];

const FORMS = [
  [
    "en-GB",
    {
      link: "Report a problem",
      model: "Which model?",
      kind: "Requests fail",
      send: "Send",
      thanks: /^Thank you/,
    },
  ],
  [
    "zh-CN",
    {
      link: "反馈问题",
      model: "哪个模型？",
      kind: "请求失败",
      send: "提交",
      thanks: /^谢谢反馈/,
    },
  ],
];

/** Looks until it is so. */
async function until(what, is) {
  const end = Date.now() + 15_000;
  while (!(await is())) {
    assert.ok(Date.now() < end, `never: ${what}`);
    // waits for: a process, which tells nobody
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Keeps asking `model`, some times a second, until it is told to stop. */
function traffic(at, model) {
  let goes = true;
  const done = (async () => {
    while (goes) {
      const pause = new Promise((resolve) => setTimeout(resolve, 100));
      await Promise.all([at.ask(model, 4), pause]);
    }
  })();
  return () => ((goes = false), done);
}

export function page(shared) {
  let at, reader, quiet;
  before(async () => {
    at = await service();
    Object.assign(shared, { at });
    reader = await visitor(shared.browser, at.page);
  });
  after(async () => {
    await quiet?.();
    await reader?.close();
    await at?.stop();
  });

  test("without requests nothing is claimed, with requests all is well", async () => {
    await reader.page.goto("/");
    assert.match(await reader.page.getByRole("status").innerText(), /Too few requests to tell/);
    assert.deepEqual(await at.ask("chat", 120), []);
    assert.deepEqual(await at.ask("code", 60), []);
    const well = () => reader.page.getByText("All systems operational").isVisible();
    await shows(reader.page, well, Date.now(), 15);
    assert.equal(await state(reader.page, "chat"), "Operational");
  });

  test("a browser gets its language, and the other one is a click away", async () => {
    for (const [language, tag] of LANGUAGES) {
      const { page, close } = await visitor(shared.browser, at.page, { language });
      for (const path of ALWAYS) {
        const response = await page.goto(path);
        const html = await page.locator("html").getAttribute("lang");
        const { vary, "content-language": told } = response.headers();
        assert.deepEqual([html, told], [tag, tag], path);
        assert.match(vary ?? "", /accept-language/i, `${path} depends on the browser`);
      }
      await close();
    }
    await reader.page.goto("/en/history");
    const others = reader.page.locator("link[rel=alternate][hreflang]");
    const told = (links) => links.map((link) => [link.hreflang, link.href]);
    const all = await others.evaluateAll(told);
    const here = (path) => `${at.page}${path}`;
    const wanted = { en: here("/en/history"), "zh-Hans": here("/zh/history") };
    assert.deepEqual(Object.fromEntries(all), { ...wanted, "x-default": here("/history") });
    await reader.page.getByRole("link", { name: "中文" }).click();
    await reader.page.waitForURL("**/zh/history");
    assert.equal(await reader.page.getByRole("heading", { level: 1 }).innerText(), "事件");
  });

  test("users report without scripts, and the page says so and claims nothing", async () => {
    const report = async (number) => {
      const [language, words] = FORMS[number % FORMS.length];
      const look = { scripts: false, from: `198.51.${number}.1`, language };
      // By a name and without TLS a browser says less of where a form comes from.
      const named = number > 2 ? at.page.replace("127.0.0.1", NAME) : at.page;
      const { page, seen, close } = await visitor(shared.browser, named, look);
      await page.goto("/");
      await page.getByRole("link", { name: words.link }).click();
      await send(page, { [words.model]: "chat", [words.kind]: true }, words.send);
      assert.match(await page.getByRole("status").innerText(), words.thanks);
      assert.deepEqual(seen.complaints, []);
      await close();
    };
    const numbers = Array.from({ length: CROWD }, (_, number) => number + 1);
    await Promise.all(numbers.slice(0, SEEN).map(report));
    for (const number of numbers.slice(SEEN)) {
      const from = { "x-forwarded-for": `198.51.${number}.1` };
      const { status } = await post(`${at.page}/report`, "model=chat&kind=cut", from);
      assert.equal(status, 200);
    }
    await reader.page.goto("/en/");
    await reader.page.reload();
    const told = await row(reader.page, "chat").innerText();
    assert.ok(told.includes(`users report problems (${CROWD})`), told);
    assert.equal(await state(reader.page, "chat"), "Operational", "reports are no state");
    assert.deepEqual(await at.incidents(), []);
  });

  test("with one failing signal reports open an incident", async () => {
    await at.down("north", "500");
    const began = Date.now();
    assert.equal((await at.ask("chat", 12)).length, 12);
    const told = () => reader.page.getByRole("article").isVisible();
    await shows(reader.page, told, began, SHOWN);
    const [one] = await at.incidents();
    assert.equal(one.status, "investigating");
    // Twelve of what the API was asked lately may be too few for it to be found failing too.
    const said = async () => (await at.incidents())[0].incident_updates.at(-1).body;
    const all = /Users report problems with API, chat/;
    const more = async () => (await at.ask("chat", 4)).length > 0 && all.test(await said());
    await until("the API is named too", more);
  });

  test("fixed and fallen again is one incident with one relapse", async (t) => {
    await at.down("north", "off");
    // Well again as far as anybody can see: of the last half minute hardly any failed.
    await until("chat answers", async () => (await at.ask("chat", 1)).length === 0);
    await at.ask("chat", 600);
    const resolved = ["update", "1", "--stage", "resolved", "--text", "The network is back."];
    await until("it may be called over", () => at.incident(...resolved).then(Boolean, () => false));
    await at.down("north", "500");
    const began = Date.now();
    // It goes on failing until all is looked at.
    quiet = traffic(at, "chat");
    const again = () => reader.page.getByText("came back").isVisible();
    const took = await shows(reader.page, again, began, SHOWN);
    t.diagnostic(`a relapse was on the page after ${took.toFixed(1)} s`);
    const failing = async () => (await state(reader.page, "chat")) !== "Operational";
    const outage = await shows(reader.page, failing, began, SHOWN);
    t.diagnostic(`the failing model was on the page after ${outage.toFixed(1)} s`);
    await picture(shared, at.page, "/en/incidents/1", "status-page-incident");
    await picture(shared, at.page, "/en/report", "status-page-report", { width: 360 });
    const all = await at.incidents();
    assert.deepEqual(all.map(({ relapses, status }) => [relapses, status]), [[1, "investigating"]]);
  });

  test("announced work is on the page", async () => {
    await at.announce("New <racks>", "site/south");
    await reader.page.goto("/en/");
    const told = () => reader.page.getByText("New <racks>").first().isVisible();
    await shows(reader.page, told, Date.now(), SHOWN);
  });

  test("axe finds nothing serious, in both languages, light and dark", async (t) => {
    for (const [language] of LANGUAGES) {
      for (const dark of [false, true]) {
        const { page, seen, close } = await visitor(shared.browser, at.page, { language, dark });
        for (const path of PATHS) {
          await page.goto(path);
          const lesser = (words) => t.diagnostic(`${path} ${language}: ${words}`);
          assert.deepEqual(await faults(page, lesser), [], `${path} ${language} dark: ${dark}`);
        }
        assert.deepEqual(seen.complaints, [], "no policy is broken");
        await close();
      }
    }
  });

  test("it is usable at 360 pixels", async () => {
    for (const [language] of LANGUAGES) {
      const { page, close } = await visitor(shared.browser, at.page, { language, width: 360 });
      for (const path of PATHS) {
        await page.goto(path);
        assert.deepEqual(await cramped(page), [], `${path} ${language}`);
      }
      await close();
    }
  });

  test("a page is one file of less than 100 KB", async (t) => {
    for (const path of PATHS) {
      const { page, seen, close } = await visitor(shared.browser, at.page);
      await page.goto(path);
      assert.deepEqual(seen.requests, [`${at.page}${path}`], "nothing else is fetched");
      const bytes = (await Promise.all(seen.bodies)).reduce((sum, body) => sum + body.length, 0);
      assert.ok(bytes > 0 && bytes <= WEIGHT, `${path}: ${bytes} bytes`);
      t.diagnostic(`${path} weighs ${bytes} bytes`);
      await close();
    }
  });

  test("feeds are valid, and their links lead somewhere", async () => {
    for (const [path, type, check] of [
      ["/history.atom", "application/atom+xml", checkAtom],
      ["/history.rss", "application/rss+xml", checkRss],
    ]) {
      const response = await fetch(`${at.page}${path}`);
      assert.ok(response.headers.get("content-type").startsWith(type));
      // The incident, and the work.
      assert.equal(await check(await response.text(), reader.page), 2, path);
    }
    await reader.page.goto("/en/");
    const feeds = reader.page.locator("link[rel=alternate][type]");
    const types = await feeds.evaluateAll((links) => links.map((link) => link.type));
    assert.ok(types.includes("application/atom+xml"), "readers find it");
  });

  test("a tool for Statuspage's API reads it", async () => {
    const file = (name) => join(at.directory, name);
    const [services, metrics] = [file("services.json"), file("told.prom")];
    const url = `${at.page}/api/v2/summary.json`;
    writeFileSync(services, JSON.stringify({ ours: { url, name: "ours" } }));
    await promisify(execFile)(exporter, [], {
      cwd: at.directory,
      env: { RUN_MODE: "once", SERVICES_JSON_PATH: services, METRICS_TEXTFILE_PATH: metrics },
    });
    const told = readFileSync(metrics, "utf8");
    const says = (line) => assert.ok(told.includes(line), `${line}\n${told}`);
    says('statuspage_probe_check{service_name="ours"} 1.0');
    says('statuspage_service_status{service_name="ours"} 0.0');
    says('statuspage_component_status{component_name="chat",service_name="ours"} 0.0');
    says('statuspage_component_status{component_name="code",service_name="ours"} 1.0');
    assert.match(told, /statuspage_incident_info\{.*affected_components="[^"]*chat[^}]*\} 1\.0/);
    says(`shortlink="${at.page}/incidents/1"`);
  });
}
