// Tests of calls that a service may not have yet.

import { test } from "vitest";
import { Service } from "./service.ts";

/** Calls that a service may lack; the lack of any other is a failure. */
const MAY_BE_MISSING = ["/usage"];

async function has(path: string): Promise<boolean> {
  const service = await Service.start();
  const { status } = await fetch(`${service.url}/api/billing${path}`);
  await service.stop();
  return status !== 404;
}

const known = new Map<string, Promise<boolean>>();

/** A test that needs these calls, given below `/api/billing`; each answers a GET with anything but 404. */
export function testWith(paths: string[], name: string, run: () => Promise<void>): void {
  test(name, async ({ skip }) => {
    for (const path of paths) {
      if (!known.has(path)) known.set(path, has(path));
      if (await known.get(path)) continue;
      if (MAY_BE_MISSING.some((call) => path.startsWith(call))) skip(`the service has no ${path}`);
      throw new Error(`the service has no ${path}`);
    }
    await run();
  });
}
