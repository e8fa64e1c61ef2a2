import { resolve } from "node:path";
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const root = resolve(import.meta.dirname, "..");

export const ADMIN_KEY = "test-admin-key-0123456789";
export const SIGNING_SECRET = "test-signing-secret-0123456789-0123456789";

/** In CI what fails on real containers runs once more, on a machine that may have been busy. The reporter names what passes only then. */
const retry = process.env["CI"] ? 1 : 0;

export default defineConfig({
  root,
  test: {
    reporters: ["default", resolve(root, "test/reporter.ts")],
    // One project after the other: those on real containers must not measure the load of the others.
    projects: [
      {
        plugins: [
          cloudflareTest(async () => ({
            main: resolve(root, "test/worker/worker.ts"),
            wrangler: { configPath: resolve(root, "wrangler.toml") },
            miniflare: {
              bindings: {
                ADMIN_KEY,
                SIGNING_SECRET,
                MIGRATIONS: await readD1Migrations(resolve(root, "migrations")),
              },
            },
          })),
        ],
        test: {
          name: "worker",
          sequence: { groupOrder: 0 },
          include: ["test/worker/**/*.test.ts"],
          setupFiles: [resolve(root, "test/worker/setup.ts")],
          testTimeout: 20_000,
        },
      },
      {
        plugins: [
          cloudflareTest({
            main: resolve(root, "test/backends/worker.ts"),
            miniflare: { compatibilityDate: "2026-10-23", compatibilityFlags: ["enable_request_signal"] },
          }),
        ],
        test: {
          name: "backend",
          retry,
          sequence: { groupOrder: 1 },
          include: ["test/backends/**/*.test.ts"],
          globalSetup: [resolve(root, "test/backends/real-hosts.ts")],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "cloudflare",
          retry,
          sequence: { groupOrder: 2 },
          include: ["test/cloudflare/**/*.test.ts"],
          globalSetup: [resolve(root, "test/cloudflare/setup.ts")],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "host",
          retry,
          sequence: { groupOrder: 3 },
          include: ["test/host/**/*.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "e2e",
          retry,
          sequence: { groupOrder: 4 },
          include: ["test/e2e/**/*.test.ts"],
          testTimeout: 90_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: "faults",
          retry,
          sequence: { groupOrder: 5 },
          include: ["test/faults/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          disableConsoleIntercept: true,
        },
      },
    ],
  },
});
