import { defineConfig } from "drizzle-kit";

/** `npx drizzle-kit generate --config test/drizzle.config.ts`, after a change of the schema. */
export default defineConfig({ dialect: "sqlite", schema: "./src/catalog/schema.ts", out: "./migrations" });
