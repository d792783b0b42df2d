// Pictures of the page, for the guide: only where MAINSTAY_PICTURES names a directory for them.

import { join } from "node:path";
import { visitor } from "./chromium.mjs";

/** Keeps how the page at `path` looks as `name`.png. */
export async function picture(shared, base, path, name, look = {}) {
  const directory = process.env.MAINSTAY_PICTURES;
  if (!directory) return;
  const reader = await visitor(shared.browser, base, { width: 820, ...look });
  await reader.page.goto(path);
  await reader.page.screenshot({ path: join(directory, `${name}.png`), fullPage: !look.width });
  await reader.close();
}
