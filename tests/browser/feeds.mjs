// Feeds: their grammar by libxml2, and what no grammar says of them by a browser's own XML.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { validateXML } from "xmllint-wasm";

const grammar = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

/** What is wrong with `xml` by the grammar in the file `name`. */
export async function errors(xml, name) {
  const told = await validateXML({ xml, schema: grammar(name), extension: "relaxng" });
  return told.valid ? [] : told.errors.map((error) => error.message);
}

/** Fails unless `xml` is good Atom, whose links lead somewhere; how many entries it has. */
export async function checkAtom(xml, page) {
  assert.deepEqual(await errors(xml, "atom.rng"), []);
  const feed = await page.evaluate((text) => {
    const root = new DOMParser().parseFromString(text, "application/xml").documentElement;
    const of = (each) => ({
      id: each.querySelector(":scope > id").textContent,
      updated: each.querySelector(":scope > updated").textContent,
      published: each.querySelector(":scope > published")?.textContent,
      links: [...each.querySelectorAll(":scope > link")].map((link) => [
        link.getAttribute("rel") ?? "alternate",
        link.getAttribute("href"),
      ]),
    });
    return { ...of(root), entries: [...root.querySelectorAll(":scope > entry")].map(of) };
  }, xml);
  const ids = [feed.id, ...feed.entries.map((entry) => entry.id)];
  assert.equal(new Set(ids).size, ids.length, "each id is its own");
  assert.deepEqual(feed.links.map(([rel]) => rel).sort(), ["alternate", "self"]);
  for (const { updated, published } of feed.entries) {
    assert.ok(published <= updated && updated <= feed.updated, "dates are in order");
  }
  const links = [feed, ...feed.entries].flatMap((each) => each.links.map(([, href]) => href));
  await lead(links, page);
  return feed.entries.length;
}

/** The same of RSS. */
export async function checkRss(xml, page) {
  assert.deepEqual(await errors(xml, "rss.rng"), []);
  const feed = await page.evaluate((text) => {
    const root = new DOMParser().parseFromString(text, "application/xml").documentElement;
    const all = (name) => [...root.querySelectorAll(name)].map((each) => each.textContent);
    // Readers take a description for HTML.
    const html = (text) => new DOMParser().parseFromString(text, "text/html").body;
    const made = all("description").flatMap((text) => [...html(text).querySelectorAll(":not(br)")]);
    return {
      guids: all("item > guid"),
      links: all("link").filter(Boolean),
      dates: all("pubDate"),
      made: made.map((each) => each.tagName),
    };
  }, xml);
  assert.deepEqual(feed.made, [], "what people said makes nothing in a reader of feeds");
  assert.equal(new Set(feed.guids).size, feed.guids.length, "each guid is its own");
  assert.ok(feed.dates.every((date) => new Date(date) <= new Date()), "no date is to come");
  // The day of the week is the one of that date.
  for (const date of feed.dates) assert.equal(new Date(date).toUTCString(), date);
  await lead(feed.links, page);
  return feed.guids.length;
}

async function lead(links, page) {
  for (const link of new Set(links)) {
    const { status } = await fetch(new URL(link, page.url()));
    assert.equal(status, 200, link);
  }
}
