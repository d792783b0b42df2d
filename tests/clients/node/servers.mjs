// Starts the real program for the tests of clients and browsers, and stops it again.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
export const program = process.env.MAINSTAY_PROGRAM ?? join(target, "release/mainstay");

// Loading and first sockets on a busy machine; a start takes far less.
const START_MS = 60_000;

/** This process's environment without anything that would make a site or change a setting. */
function environment() {
  const foreign = /_API_KEY$|_BASE_URL$|^MAINSTAY__|_proxy$/i;
  const kept = Object.entries(process.env).filter(([name]) => !foreign.test(name));
  return { ...Object.fromEntries(kept), MAINSTAY__LISTEN__ADMIN: "127.0.0.1:0" };
}

/**
 * Runs the program until one of its lines satisfies `find`: `value` is what that returned, `until`
 * waits for another line, `stop` ends it.
 */
export async function start(args, find, more = {}) {
  const options = { env: { ...environment(), ...more }, stdio: ["ignore", "pipe", "pipe"] };
  const child = spawn(program, args, options);
  const said = [];
  const listeners = new Set();
  for (const name of ["stdout", "stderr"]) {
    createInterface({ input: child[name] }).on("line", (line) => {
      said.push(line);
      for (const listen of [...listeners]) listen();
    });
  }
  const until = (wanted) =>
    new Promise((resolve, reject) => {
      const end = (settle, value) => (clearTimeout(late), listeners.delete(look), settle(value));
      const fail = (why) => end(reject, new Error(`${why}:\n${said.join("\n")}`));
      const late = setTimeout(() => fail("not in time"), START_MS);
      const look = () => {
        const value = said.map(wanted).find(Boolean);
        if (value) end(resolve, value);
      };
      listeners.add(look);
      child.once("error", (error) => end(reject, error));
      child.once("exit", () => fail("ended"));
      look();
    });
  const found = until(find);
  const stop = () =>
    new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) return resolve();
      const late = setTimeout(() => child.kill("SIGKILL"), 20_000);
      child.once("exit", () => (clearTimeout(late), resolve()));
      child.kill("SIGTERM");
    });
  try {
    return { value: await found, until, stop, pid: child.pid };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A fault server: `{ value: url, stop }`. */
export function faultServer() {
  const args = ["faults", "serve", "--listen", "127.0.0.1:0", "--json"];
  return start(args, (line) => line.startsWith("{") && JSON.parse(line).url);
}

/** A gateway with `config`, or with nothing but the embedded engine: `{ value: url, stop }`. */
export async function gateway(config) {
  const directory = mkdtempSync(join(tmpdir(), "mainstay-"));
  const args = ["serve"];
  if (config === undefined) {
    args.push("--listen", "127.0.0.1:0");
  } else {
    const path = join(directory, "mainstay.toml");
    writeFileSync(path, config);
    args.push("--config", path);
  }
  const up = (line) => /^listening api=(\S+)/.exec(line)?.[1];
  const { value, stop } = await start(args, up);
  return { value, stop: () => stop().finally(() => rmSync(directory, { recursive: true })) };
}

/** A gateway's configuration in front of `faults`, apart from others by `scope`. */
export function config(faults, scope) {
  const models = {
    ok: ["first/ok", "second/ok"],
    cut: ["first/f08", "second/ok"],
    overloaded: ["first/f04"],
    policy: ["first/f13"],
    silent: ["first/f06"],
  };
  const site = (name) =>
    `[[site]]\nname = "${name}"\nprovider = "openai"\nkey = "sk-${name}"\n` +
    `base_url = "${faults}/s/${scope}-${name}/v1"\n`;
  const model = ([name, targets]) =>
    `[[model]]\nname = "${name}"\nserved_by = ${JSON.stringify(targets)}\n`;
  return (
    `[listen]\napi = "127.0.0.1:0"\nadmin = "127.0.0.1:0"\n[limits]\nprofile = "fast"\n` +
    ["first", "second"].map(site).join("") +
    Object.entries(models).map(model).join("")
  );
}
