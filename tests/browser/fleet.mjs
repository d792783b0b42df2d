// What stands behind the page: a service of our own before a fault server, and the demo fleet.

import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process, { kill as signal } from "node:process";
import { promisify } from "node:util";
import { faultServer, program, start } from "../clients/node/servers.mjs";

const run = promisify(execFile);

/** What operators log in with, and their commands take from the environment. */
export const TOKEN = "a-token-of-a-service-in-a-test";
process.env.MAINSTAY_ADMIN_TOKEN = TOKEN;

/** Names that would break a page which does not escape them. */
export const TITLE = process.env.MAINSTAY_PICTURES ? "Example AI" : `Example <b>AI</b>"'`;
export const SITE = `North "><img src=x onerror=owned=1>`;
/** A name without a place to break it. */
export const LONG = "a-model-whose-name-is-longer-than-a-telephone-is-wide-0123456789-abcdefgh";

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function config(faults, page, directory) {
  const text = JSON.stringify;
  const site = (name, shown) =>
    `[[site]]\nname = "${name}"\npublic_name = ${text(shown)}\nprovider = "openai"\n` +
    `key = "k"\nbase_url = "${faults}/s/${name}/v1"\n`;
  const model = (name, served) => `[[model]]\nname = "${name}"\nserved_by = ["${served}/ok"]\n`;
  return (
    `[listen]\napi = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\nstatus = "127.0.0.1:${page}"\n` +
    `admin_token_env = "MAINSTAY_ADMIN_TOKEN"\n` +
    `[node]\ndata_dir = ${text(join(directory, "data"))}\n[limits]\nprofile = "fast"\n` +
    // A busy machine is no outage.
    `first_token = ["30s", "30s"]\nfirst_token_unmeasured = "30s"\nstall = ["30s", "30s"]\n` +
    `stall_unmeasured = "30s"\ndrip = "60s"\n` +
    `[status]\ntitle = ${text(TITLE)}\nurl = "http://127.0.0.1:${page}"\ngreen = "2s"\n` +
    site("north", SITE) + site("south", "South") +
    model("chat", "north") + model("code", "south") + model(LONG, "south")
  );
}

/** A gateway and its page before a fault server: where they are, and what can be done to them. */
export async function service() {
  const directory = mkdtempSync(join(tmpdir(), "mainstay-"));
  const faults = await faultServer();
  const port = await freePort();
  const path = join(directory, "mainstay.toml");
  writeFileSync(path, config(faults.value, port, directory));
  const up = (line) => /^listening api=(\S+) admin=(\S+)/.exec(line)?.slice(1);
  const served = await start(["serve", "--config", path], up);
  const [api, admin] = served.value;
  const page = `http://127.0.0.1:${port}`;
  const set = (site, key, value) =>
    post(`${faults.value}/control/set?scope=${site}&key=${key}&value=${value}`);
  for (const site of ["north", "south"]) {
    await set(site, "first_token_ms", 1);
    await set(site, "token_ms", 0);
  }
  const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  return {
    page,
    admin,
    directory,
    /** Asks `model` so often; what came instead of answers. */
    ask: async (model, count) => {
      const body = JSON.stringify({ model, messages: [{ role: "user", content: "?" }] });
      const type = { "content-type": "application/json" };
      const one = () => post(`${api}/v1/chat/completions`, body, type, agent);
      const all = await Promise.all(Array.from({ length: count }, one));
      return all.filter(({ status }) => status !== 200).map(({ text }) => text);
    },
    /** Breaks a site (`"500"`), or mends it (`"off"`). */
    down: (site, how) => set(site, "down", how),
    /** An operator says something of an incident: what it printed. */
    incident: async (...words) => {
      const args = ["incident", ...words, "--admin", admin];
      return (await run(program, args)).stdout;
    },
    /** An operator announces work on `component` that begins now: what it printed. */
    announce: async (title, component) => {
      const from = new Date().toISOString().replace(/\.\d+/, "");
      const args = ["maintenance", "announce", title, "--component", component];
      args.push("--from", from, "--for", "1h", "--text", "No requests should fail.");
      return (await run(program, [...args, "--admin", admin])).stdout;
    },
    incidents: async () => (await (await fetch(`${page}/api/v2/incidents.json`)).json()).incidents,
    components: async () =>
      (await (await fetch(`${page}/api/v2/components.json`)).json()).components,
    /** Memory in MiB. */
    memory: () => {
      const told = readFileSync(`/proc/${served.pid}/status`, "utf8");
      return /VmRSS:\s+(\d+)/.exec(told)[1] / 1024;
    },
    stop: async () => {
      agent.destroy();
      await served.stop();
      await faults.stop();
      rmSync(directory, { recursive: true });
    },
  };
}

/** `mainstay demo`: its page, and how to kill one of its processes. */
export async function demo() {
  const directory = mkdtempSync(join(tmpdir(), "mainstay-"));
  const args = ["demo", "--json", "--engine", "rehearsal", "--rate", "8", "--for", "5m"];
  // An engine that costs little, so that a busy machine is no outage.
  args.push("--tokens-per-second", "2000", "--max-tokens", "16");
  const find = (line) => /^ {2}page .*(http:\/\/\S+)\/$/.exec(line)?.[1];
  // Its processes have listeners of their own.
  const own = { MAINSTAY__LISTEN__ADMIN: undefined };
  const process = await start([...args, "--dir", directory], find, own);
  return {
    page: process.value,
    /** `kill -9`; when that was. */
    kill: (name) => {
      signal(idOf(join(directory, name, "mainstay.toml")), "SIGKILL");
      return Date.now();
    },
    stop: () => process.stop().finally(() => rmSync(directory, { recursive: true })),
  };
}

/** The process that was started with this file. */
function idOf(file) {
  const all = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const started = (id) => {
    try {
      return readFileSync(`/proc/${id}/cmdline`, "utf8").split("\0").includes(file);
    } catch {
      return false;
    }
  };
  const found = all.find(started);
  if (!found) throw new Error(`nobody was started with ${file}`);
  return Number(found);
}

/** Posts `body`, or something else; status and text of the answer. */
export function post(url, body = "", headers = {}, agent = undefined) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: "POST", headers, agent }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (more) => (text += more));
      response.on("end", () => resolve({ status: response.statusCode, text }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}
